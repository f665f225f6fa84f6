"""Settings to services: who runs where, as whom, with what."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from appliance.confine.promises import PROMISES
from appliance.custody.keeping import MOST_UPLOADS
from appliance.errors import ConfigError
from appliance.settings.board import BoardSettings
from appliance.settings.ftp import ActiveSettings, IncomingSettings, PassiveAddress, TlsSettings
from appliance.settings.hooks import Hook
from appliance.settings.main import Settings
from appliance.supervise import service
from appliance.wiring import FIXED_UIDS, Host, identity, services

HOST = Host(root=True, uid=0, gid=0, cpus=2, nofile=1 << 20, log_to_file=False, account={"www": (33, 33)}.get)
DEFAULTS = Settings()
USER = replace(HOST, root=False, uid=1000, gid=1000)


def wired(settings: Settings = DEFAULTS, host: Host = HOST) -> dict[str, service.Service]:
    return {made.name: made for made in services(settings, host)}


def test_the_defaults_make_what_observes_and_what_serves_in_the_order_of_their_start() -> None:
    assert list(wired()) == ["status", "events", "tftp", "ftp"]
    assert all(made.workers == (1 if name in ("status", "events") else 2) for name, made in wired().items())


def test_a_drop_box_brings_the_custodian_before_the_ftp_workers_that_lean_on_it() -> None:
    ftp = replace(DEFAULTS.ftp, incoming=IncomingSettings(enabled=True))
    made = wired(replace(DEFAULTS, ftp=ftp))
    assert list(made) == ["status", "events", "custody", "tftp", "ftp"]
    assert made["custody"].jail == "/srv/appliance/ftp/incoming"
    assert (made["custody"].owns, made["custody"].writes, made["custody"].listen) == (True, True, ())
    assert (made["ftp"].links, made["custody"].links) == (("custody", "events"), ("events",))
    assert made["ftp"].fsize == ftp.incoming.max_size


def test_uploads_by_tftp_bring_a_custodian_of_their_own() -> None:
    tftp = replace(DEFAULTS.tftp, uploads=replace(DEFAULTS.tftp.uploads, mode="replace", keep_versions=3))
    made = wired(replace(DEFAULTS, tftp=tftp))
    assert list(made) == ["status", "events", "tftp-custody", "tftp", "ftp"]
    keeper = made["tftp-custody"]
    assert (keeper.jail, keeper.main) == ("/srv/appliance/tftp/uploads", "appliance.custody.worker:prepare")
    assert (keeper.owns, keeper.writes, keeper.listen, keeper.promise) == (True, True, (), "custody")
    assert (made["tftp"].links, made["tftp"].fsize) == (("tftp-custody", "events"), 64 << 20)
    assert (keeper.settings["box"]["mode"], keeper.settings["box"]["keep_versions"]) == ("replace", 3)
    assert service.decode(json.loads(json.dumps(service.encode(list(made.values())))))


def test_a_custodian_has_descriptors_for_all_it_may_hold_at_once() -> None:
    tftp = replace(DEFAULTS.tftp, uploads=replace(DEFAULTS.tftp.uploads, mode="replace"))
    assert wired(replace(DEFAULTS, tftp=tftp))["tftp-custody"].nofile >= MOST_UPLOADS + 2 * 64 + 16


def test_only_custodians_and_the_history_write_and_every_promise_exists() -> None:
    ftp = replace(DEFAULTS.ftp, incoming=IncomingSettings(enabled=True))
    tftp = replace(DEFAULTS.tftp, uploads=replace(DEFAULTS.tftp.uploads, mode="replace"))
    for name, made in wired(replace(DEFAULTS, ftp=ftp, tftp=tftp)).items():
        assert made.writes == (name in ("custody", "tftp-custody", "events"))
        assert made.promise in PROMISES


def test_the_limit_on_file_size_leaves_room_for_a_record_file() -> None:
    ftp = replace(DEFAULTS.ftp, incoming=IncomingSettings(enabled=True, max_size=1 << 20))
    observe = replace(DEFAULTS.observe, xferlog="/var/log/appliance/xferlog")
    made = wired(replace(DEFAULTS, ftp=ftp, observe=observe))
    assert (made["ftp"].record, made["ftp"].fsize) == ("/var/log/appliance/xferlog", 1 << 30)
    assert [one.name for one in made.values() if one.record] == ["ftp"]
    assert wired(replace(DEFAULTS, ftp=ftp))["ftp"].fsize == 1 << 20


def test_a_log_in_a_plain_file_is_not_cut_by_the_limit_on_file_size() -> None:
    ftp = replace(DEFAULTS.ftp, incoming=IncomingSettings(enabled=True))
    assert wired(replace(DEFAULTS, ftp=ftp), replace(HOST, log_to_file=True))["ftp"].fsize == -1


def test_a_service_that_is_switched_off_is_not_there() -> None:
    off = replace(DEFAULTS, tftp=replace(DEFAULTS.tftp, enabled=False))
    assert list(wired(off)) == ["status", "events", "ftp"]


def test_the_events_service_keeps_its_history_in_a_folder_of_its_own() -> None:
    made = wired()["events"]
    assert (made.jail, made.owns, made.listen[0].host) == (
        "/var/lib/appliance/events",
        True,
        "/run/appliance/events.sock",
    )
    assert (made.settings["history"], made.fsize) == (64 << 20, 64 << 20)


def test_the_board_listens_when_it_is_told_where_and_loads_its_key_before_it_is_locked_in() -> None:
    page = BoardSettings(("board.example.org",), None, "/etc/board.crt", "/etc/board.key")
    lit = wired(replace(DEFAULTS, observe=replace(DEFAULTS.observe, board_listen="127.0.0.1:8080", board=page)))
    assert list(lit) == ["status", "events", "tftp", "ftp", "board"]
    made = lit["board"]
    assert (made.listen, made.files) == (
        (service.Listen("tcp", "127.0.0.1", 8080),),
        ("/etc/board.crt", "/etc/board.key"),
    )
    assert (made.links, made.requests, made.writes, made.jail) == (("events",), (), False, "/run/appliance/empty")


def test_hooks_are_a_service_only_where_there_are_any_and_then_the_board_does_not_tell_how_machines_are() -> None:
    hooked = replace(DEFAULTS.observe, hooks=(Hook(("fault",), ("/bin/true",)),), board_listen="127.0.0.1:8080")
    found = wired(replace(DEFAULTS, observe=hooked))
    made = found["hooks"]
    assert (made.uid, made.jail, made.owns, made.writes) == (64625, "/var/lib/appliance/hooks", True, False)
    assert (made.links, made.requests, made.listen) == (("events",), (), ())
    assert (made.settings["uid"], made.settings["required"]) == (64625, True)
    assert found["board"].settings["events_per_second"] == 0
    assert "hooks" not in wired(replace(DEFAULTS, observe=replace(hooked, events=False)))


def test_the_keeper_is_there_where_boots_are_served_and_events_are_told() -> None:
    booting = replace(DEFAULTS, boot=replace(DEFAULTS.boot, enabled=True))
    made = wired(booting)
    keeper = made["keeper"]
    assert (keeper.jail, keeper.uid, keeper.links) == ("/var/lib/appliance/armed", 64627, ("events",))
    assert (keeper.owns, keeper.writes, keeper.requests, keeper.published) == (True, True, ("one-shot",), False)
    assert [made[name].published for name in ("tftp", "ftp", "status")] == [True, True, False]
    assert (made["ftp"].settings["pin"], "pin" in wired()["ftp"].settings) == (600.0, False)
    assert "keeper" not in wired(replace(booting, observe=replace(DEFAULTS.observe, events=False)))


def test_metrics_for_the_network_have_a_service_of_their_own() -> None:
    made = wired(replace(DEFAULTS, observe=replace(DEFAULTS.observe, metrics_listen="127.0.0.1:9469")))
    assert made["metrics"].listen == (service.Listen("tcp", "127.0.0.1", 9469),)
    assert (made["metrics"].jail, made["metrics"].uid) == ("/run/appliance/empty", 64629)
    assert service.decode(json.loads(json.dumps(service.encode(list(made.values())))))


def test_without_events_nobody_is_told_and_nobody_listens() -> None:
    quiet = wired(replace(DEFAULTS, observe=replace(DEFAULTS.observe, events=False)))
    assert list(quiet) == ["status", "tftp", "ftp"]
    assert quiet["tftp"].links == quiet["ftp"].links == ()


def test_without_active_mode_no_privileged_request_is_granted() -> None:
    assert wired()["ftp"].requests == ("active", "ban")
    passive = replace(DEFAULTS, ftp=replace(DEFAULTS.ftp, active=ActiveSettings(enabled=False)))
    assert wired(passive)["ftp"].requests == ("ban",)
    assert wired()["tftp"].requests == ()


def test_as_root_every_service_has_its_own_account_even_where_none_was_made() -> None:
    uids = [made.uid for made in wired().values()]
    assert len(set(uids)) == len(uids)
    assert set(uids) <= set(FIXED_UIDS.values())


def test_an_ordinary_user_is_itself_everywhere() -> None:
    assert {(made.uid, made.gid) for made in wired(host=USER).values()} == {(1000, 1000)}


def test_an_account_that_exists_is_used() -> None:
    assert identity(HOST, "www", "tftp.user") == (33, 33)


@pytest.mark.parametrize(("user", "what"), [("nobody-here", "there is no account"), ("root", "runs as root")])
def test_an_account_that_cannot_be_used_is_named_with_the_remedy(user: str, what: str) -> None:
    host = replace(HOST, account={"root": (0, 0)}.get)
    with pytest.raises(ConfigError, match=what) as error:
        identity(host, user, "ftp.user")
    assert error.value.problems[0].key == "ftp.user"
    assert "useradd --system" in error.value.problems[0].remedy


def test_descriptors_never_exceed_what_the_machine_allows() -> None:
    assert {made.nofile for made in wired(host=replace(HOST, nofile=100)).values()} == {100}


def test_addresses_of_both_families_are_taken_apart() -> None:
    assert [(listen.host, listen.port) for listen in wired()["tftp"].listen] == [("0.0.0.0", 69), ("::", 69)]
    assert wired()["ftp"].bind_tcp == (61000, 65535)


def test_what_is_wired_passes_the_distrust_of_the_supervisor() -> None:
    made = services(DEFAULTS, HOST)
    plain = service.encode(made)
    assert [entry["name"] for entry in plain] == ["status", "events", "tftp", "ftp"]


def test_tls_brings_its_listeners_and_the_files_that_a_reload_looks_at() -> None:
    tls = TlsSettings("required", "/etc/x.crt", "/etc/x.key", ("0.0.0.0:990",))
    ftp = wired(replace(DEFAULTS, ftp=replace(DEFAULTS.ftp, tls=tls)))["ftp"]
    assert ftp.listen[-1] == service.Listen("tcp", "0.0.0.0", 990)
    assert ftp.files == ("/etc/x.crt", "/etc/x.key")
    both = wired(replace(DEFAULTS, ftp=replace(DEFAULTS.ftp, tls=replace(tls, key=None))))["ftp"]
    assert both.files == ("/etc/x.crt",)
    off = wired(replace(DEFAULTS, ftp=replace(DEFAULTS.ftp, tls=replace(tls, mode="off"))))["ftp"]
    assert (off.files, len(off.listen)) == ((), 2)


def test_only_names_bring_a_resolver_and_workers_are_told_what_it_finds() -> None:
    for told in (None, "192.0.2.1", (PassiveAddress(("10.0.0.0/8",), "192.0.2.1"),)):
        plain = wired(replace(DEFAULTS, ftp=replace(DEFAULTS.ftp, passive_address=told)))
        assert "resolver" not in plain
        assert "address" not in plain["ftp"].requests
    pairs = [("10.0.0.0/8", "192.0.2.1"), ("0.0.0.0/0", "a.example"), ("192.0.2.0/24", "a.example")]
    told = tuple(PassiveAddress((network,), address) for network, address in pairs)
    made = wired(replace(DEFAULTS, ftp=replace(DEFAULTS.ftp, passive_address=told)))
    assert made["resolver"].settings["names"] == ["a.example"]
    assert made["resolver"].uid == 64628
    assert "address" in made["ftp"].requests
    assert service.decode(json.loads(json.dumps(service.encode(list(made.values()))))) == list(made.values())


def test_two_listeners_on_ports_that_are_picked_stay_two() -> None:
    tls = TlsSettings("optional", "/c", None, ("127.0.0.1:0",))
    ftp = replace(DEFAULTS.ftp, listen=("127.0.0.1:0", "127.0.0.1:0"), tls=tls)
    assert len(set(wired(replace(DEFAULTS, ftp=ftp))["ftp"].listen)) == 3


def test_a_dhcp_server_is_a_service_of_root_alone() -> None:
    boot = replace(DEFAULTS.boot, dhcp="proxy", dhcp_server=replace(DEFAULTS.boot.dhcp_server, interface="eth1"))
    made = wired(replace(DEFAULTS, boot=boot))["dhcp"]
    assert (made.jail, made.owns, made.writes, made.uid) == ("/var/lib/appliance/dhcp", True, False, 64626)
    assert service.decode(json.loads(json.dumps(service.encode([made])))) == [made]
    with pytest.raises(ConfigError, match="has to be started by root"):
        wired(replace(DEFAULTS, boot=boot), USER)
