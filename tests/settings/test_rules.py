"""What keys may not say together."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from appliance.settings import rules
from appliance.settings.ftp import FtpNetwork, FtpSite, IncomingScan
from appliance.settings.main import Settings
from appliance.settings.tftp import TftpMachine, TftpNetwork, TftpRemap, TftpSite

DEFAULTS = Settings()


def changed(**sections: dict[str, Any]) -> Settings:
    """Settings with some keys changed; a nested section is a dict again."""
    return _changed(DEFAULTS, sections)


def _changed(value: Any, changes: dict[str, Any]) -> Any:
    return replace(
        value, **{k: _changed(getattr(value, k), v) if isinstance(v, dict) else v for k, v in changes.items()}
    )


def found(settings: Settings) -> list[tuple[str, str, str]]:
    return [(finding.severity, finding.what, finding.remedy) for finding in rules.judge(settings)]


def test_the_defaults_contradict_nothing() -> None:
    assert found(DEFAULTS) == []


def test_one_service_is_needed() -> None:
    assert found(changed(tftp={"enabled": False}, ftp={"enabled": False})) == [
        ("error", "both services are off", "write enabled: true for tftp or ftp")
    ]
    assert found(changed(tftp={"enabled": False})) == []
    assert found(changed(ftp={"enabled": False})) == []


@pytest.mark.parametrize(
    ("listen", "clash"),
    [
        (("127.0.0.1:21", "127.0.0.1:21"), "127.0.0.1:21 is taken by ftp.listen[0], 127.0.0.1:21"),
        (("0.0.0.0:21", "127.0.0.1:21"), "127.0.0.1:21 is taken by ftp.listen[0], 0.0.0.0:21"),
        (("127.0.0.1:21", "0.0.0.0:21"), "0.0.0.0:21 is taken by ftp.listen[0], 127.0.0.1:21"),
        (("[::1]:21", "[::]:21"), "[::]:21 is taken by ftp.listen[0], [::1]:21"),
        (
            ("127.0.0.2:21", "127.0.0.1:21", "127.0.0.1:21"),
            "127.0.0.1:21 is taken by ftp.listen[1], 127.0.0.1:21",
        ),
        (("127.0.0.1:21", "127.0.0.1:22"), ""),
        (("127.0.0.1:21", "127.0.0.2:21"), ""),
        (("0.0.0.0:21", "[::]:21"), ""),
        (("0.0.0.0:0", "0.0.0.0:0", "127.0.0.1:0"), ""),
    ],
)
def test_two_listeners_on_one_address_clash(listen: tuple[str, ...], clash: str) -> None:
    expected = [("error", clash, "remove one of the two, or change its port")] if clash else []
    assert found(changed(ftp={"listen": listen})) == expected


def test_a_clash_within_tftp_is_found_and_names_both_keys() -> None:
    finding = rules.judge(changed(tftp={"listen": ("0.0.0.0:69", "0.0.0.0:69")}))[0]
    assert finding.keys == (("tftp", "listen", 1), ("tftp", "listen", 0))


def test_udp_and_tcp_share_a_port_number() -> None:
    assert found(changed(tftp={"listen": ("0.0.0.0:2121",)}, ftp={"listen": ("0.0.0.0:2121",)})) == []


def test_a_service_that_is_off_takes_no_address() -> None:
    off = {"enabled": False, "listen": ("0.0.0.0:69", "0.0.0.0:69")}
    assert found(changed(tftp=off)) == []


def test_passive_ports_do_not_contain_a_listener() -> None:
    settings = changed(ftp={"listen": ("0.0.0.0:61000",)}, tftp={"listen": ("0.0.0.0:62000",)})
    assert found(settings) == [
        (
            "error",
            "61000-65535 contains port 61000, which ftp.listen[0] listens on",
            "write a range without it, or change that port",
        )
    ]


def test_giving_up_takes_at_least_five_timeouts() -> None:
    assert found(changed(tftp={"timeout": 12.0})) == []
    assert found(changed(tftp={"timeout": 12.5})) == [
        ("error", "1m is less than 5 times the timeout of 12500ms", "write at least 62500ms")
    ]


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ({"max_size": 3 << 30, "quota": 3 << 30, "per_client_quota": 3 << 30}, []),
        (
            {"max_size": 3 << 30, "quota": 2 << 30},
            [("error", "3GiB is more than the quota of 2GiB", "write at most 2GiB, or raise the quota")],
        ),
        (
            {"max_size": 1 << 20, "quota": 1 << 30},
            [("warning", "2GiB is more than the quota of 1GiB, so it limits nobody", "write less than 1GiB")],
        ),
        (
            {"max_size": 3 << 30},
            [
                (
                    "warning",
                    "3GiB is more than the 2GiB that one client may store",
                    "write at most 2GiB, or raise per_client_quota",
                )
            ],
        ),
    ],
)
def test_quotas_fit_into_each_other(box: dict[str, Any], expected: list[tuple[str, str, str]]) -> None:
    assert found(changed(ftp={"incoming": {"enabled": True, **box}})) == expected
    assert found(changed(ftp={"incoming": {"enabled": False, **box}})) == []


def test_the_root_of_the_machine_is_not_served() -> None:
    assert found(changed(tftp={"root": "/"})) == [
        (
            "error",
            "the root folder of the machine would be served",
            "name the folder to serve, like /srv/appliance/tftp",
        )
    ]
    assert found(changed(tftp={"root": "/", "enabled": False})) == []


def test_run_dir_and_state_dir_are_two_folders() -> None:
    assert found(changed_top(run_dir="/var/lib/appliance")) == [
        ("error", "run_dir is the same folder as state_dir", "write /var/lib/appliance/run, or another folder")
    ]


def test_state_is_not_inside_what_is_served() -> None:
    what = "/srv/appliance/ftp/state lies inside ftp.root, so it would be served"
    remedy = "name a folder outside /srv/appliance/ftp"
    assert found(changed_top(state_dir="/srv/appliance/ftp/state")) == [("error", what, remedy)]
    assert found(changed_top(state_dir="/srv/appliance/ftp-state")) == []
    assert found(changed_top(state_dir="/srv/appliance")) == []


def test_an_xferlog_has_the_name_of_a_log_and_is_not_served() -> None:
    def with_log(path: str) -> Settings:
        return changed_top(observe=replace(DEFAULTS.observe, xferlog=path))

    remedy = "write one that ends in .log or xferlog"
    assert found(with_log("/etc/passwd")) == [("error", "/etc/passwd is no name of a log", remedy)]
    what = "/srv/appliance/ftp/xferlog lies inside ftp.root, so it would be served"
    assert found(with_log("/srv/appliance/ftp/xferlog")) == [("error", what, "name a file outside /srv/appliance/ftp")]
    assert found(with_log("/var/log/appliance/xferlog")) == found(with_log("/var/log/ftp.log")) == []


def changed_top(**keys: Any) -> Settings:
    return replace(DEFAULTS, **keys)


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("pub/.git/in", ".git is hidden by ftp.hide, .git, so no client reaches it"),
        (".box", ".box is hidden by its dot, so no client reaches it"),
        ("pub/incoming", ""),
    ],
)
def test_the_drop_box_is_not_hidden(path: str, what: str) -> None:
    expected = [("error", what, "write a name that is not hidden, like incoming")] if what else []
    assert found(changed(ftp={"incoming": {"enabled": True, "path": path}})) == expected
    assert found(changed(ftp={"incoming": {"path": path}})) == []


@pytest.mark.parametrize(
    ("ports", "transfers", "expected"),
    [
        ("50000-50099", 100, []),
        (
            "50000-50098",
            100,
            [
                (
                    "warning",
                    "50000-50098 has 99 ports for 100 transfers; more are refused",
                    "write a larger range, or limits: {transfers: 99}",
                )
            ],
        ),
        (
            "6900-6999",
            100,
            [
                (
                    "error",
                    "6900-6999 contains port 6969, which tftp.listen[0] listens on",
                    "write a range without it, or change that port",
                )
            ],
        ),
    ],
)
def test_the_ports_of_transfers_are_enough_and_free(
    ports: str, transfers: int, expected: list[tuple[str, str, str]]
) -> None:
    keys = {"listen": ("0.0.0.0:6969",), "port_range": ports, "limits": {"transfers": transfers}}
    assert found(changed(tftp=keys)) == expected
    assert found(changed(tftp={**keys, "enabled": False})) == []


def test_a_single_port_needs_a_list_of_clients_and_no_range() -> None:
    assert found(changed(tftp={"single_port": True, "allow": ("10.0.0.0/8",)})) == []
    assert found(changed(tftp={"single_port": True})) == [
        (
            "warning",
            "without tftp.allow everybody gets windowsize 1 and no uploads through a single port",
            "write the networks of your clients into tftp.allow",
        )
    ]
    keys = {"single_port": True, "allow": ("10.0.0.0/8",), "port_range": "50000-59999"}
    assert found(changed(tftp=keys)) == [
        (
            "error",
            "every packet leaves from the listener's port, so port_range has no use",
            "remove port_range, or write single_port: false",
        )
    ]
    assert found(changed(tftp={**keys, "enabled": False})) == []


def test_a_site_has_a_port_that_nobody_else_has() -> None:
    sites = (TftpSite("127.0.0.1:0"), TftpSite("127.0.0.1:69"))
    assert found(changed(tftp={"sites": sites})) == [
        ("error", "127.0.0.1:69 is taken by tftp.listen[0], 0.0.0.0:69", "remove one of the two, or change its port"),
        ("error", "127.0.0.1:0 is no fixed port, so the site could not be told from others", "write the port"),
    ]


def test_a_network_stands_in_a_list_once() -> None:
    twice = (TftpNetwork("10.0.0.1"), TftpNetwork("10.0.0.0/8"), TftpNetwork("10.0.0.1/32"))
    settings = changed(tftp={"networks": twice, "sites": (TftpSite("127.0.0.1:70", networks=twice),)})
    assert [finding.keys[0] for finding in rules.judge(settings)] == [
        ("tftp", "networks", 2, "net"),
        ("tftp", "sites", 0, "networks", 2, "net"),
    ]
    assert {what for _, what, _ in found(settings)} == {"10.0.0.1/32 stands in the list twice; this one never counts"}


def test_a_machine_stands_in_the_list_once() -> None:
    machines = tuple(TftpMachine(mac) for mac in ("52:54:00:00:00:01", "52:54:00:00:00:02", "52:54:00:00:00:01"))
    settings = changed(tftp={"machines": machines})
    assert [finding.keys for finding in rules.judge(settings)] == [(("tftp", "machines", 2, "mac"),)]
    assert found(settings) == [
        ("error", "52:54:00:00:00:01 stands in the list twice; this one never counts", "remove one of the two")
    ]


@pytest.mark.parametrize(
    ("match", "to", "absent"),
    [("(a)", r"\1\0", ""), ("(a)", r"\2", "2"), ("(?P<m>a)", r"\g<m>", ""), ("a", r"\g<m>", "m")],
)
def test_a_rule_refers_to_groups_that_it_has(match: str, to: str, absent: str) -> None:
    expected = [f"match has no group {absent}"] if absent else []
    assert [what for _, what, _ in found(changed(tftp={"remap": (TftpRemap(match, to),)}))] == expected


@pytest.mark.parametrize(("count", "fits"), [(14, True), (15, True), (16, False), (20, False)])
def test_all_rules_together_are_bounded(count: int, fits: bool) -> None:
    settings = changed(tftp={"remap": (TftpRemap("^(.*)/(.*)$", ""),) * count})
    assert [finding.keys[0] for finding in rules.judge(settings)] == ([] if fits else [("tftp", "remap", 15, "match")])


def test_a_site_of_ftp_is_reachable_and_can_be_told_from_others() -> None:
    sites = (
        FtpSite(root="a"),
        FtpSite(listen=("127.0.0.1:0",), hosts=("a.example.org",)),
        FtpSite(hosts=("b.example.org", "a.example.org")),
        FtpSite(listen=("127.0.0.1:2120", "127.0.0.1:2121")),
        FtpSite(listen=("127.0.0.1:2120",)),
    )
    assert [what for _severity, what, _remedy in found(changed(ftp={"sites": sites}))] == [
        "127.0.0.1:2120 is taken by ftp.sites[3].listen[0], 127.0.0.1:2120",
        "no client can reach this site",
        "127.0.0.1:0 is no fixed port, so the site could not be told from others",
        "a.example.org is a name of ftp.sites[1] already",
    ]


# --- uploads by TFTP

MIB, GIB = 1 << 20, 1 << 30


def uploads(**keys: Any) -> dict[str, Any]:
    return {"uploads": {"mode": "replace", **keys}}


def test_uploads_are_off_whatever_else_is_written() -> None:
    odd = {"max_size": GIB, "quota": 1, "keep_versions": 9, "max_files": 1, "readable": "networks", "path": "incoming"}
    box = {"root": "/srv/x", "incoming": {"enabled": True, "path": "incoming"}}
    assert found(changed(tftp={"root": "/srv/x", "uploads": odd}, ftp=box)) == []
    off = {"enabled": False, "root": "/srv/x", **uploads(**odd)}
    assert found(changed(tftp=off, ftp={"root": "/srv/x"})) == []


@pytest.mark.parametrize("mode", ["create", "existing", "replace"])
def test_the_defaults_of_uploads_contradict_nothing(mode: str) -> None:
    assert found(changed(tftp=uploads(mode=mode))) == []


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        (
            {"max_size": 2 * GIB},
            ["2GiB is more than the quota of 1GiB"],
        ),
        ({"max_size": 512 * MIB}, ["512MiB is more than the 256MiB that one client may store"]),
        ({"per_client_quota": 2 * GIB}, ["2GiB is more than the quota of 1GiB, so it limits nobody"]),
    ],
)
def test_quotas_of_uploads_fit_into_each_other(box: dict[str, Any], expected: list[str]) -> None:
    settings = changed(tftp=uploads(mode="create", **box))
    assert [what for _, what, _ in found(settings)] == expected
    assert rules.judge(settings)[0].keys[0][:2] == ("tftp", "uploads")


@pytest.mark.parametrize(
    ("box", "key"),
    [
        ({"per_client_quota": 128 * MIB}, ""),
        ({"per_client_quota": 128 * MIB - 1}, "per_client_quota"),
        ({"per_client_quota": 100 * MIB, "quota": 100 * MIB}, "quota"),
        ({"per_client_quota": 100 * MIB, "mode": "create"}, ""),
    ],
)
def test_the_largest_file_fits_twice_where_it_is_replaced(box: dict[str, Any], key: str) -> None:
    what = "a file of 64MiB could not be replaced: the old and the new one count until the new one is complete"
    settings = changed(tftp=uploads(**box))
    assert found(settings) == ([("warning", what, "write at least 128MiB")] if key else [])
    assert [finding.keys[0][-1] for finding in rules.judge(settings)] == ([key] if key else [])


def test_where_nothing_is_replaced_there_are_no_versions() -> None:
    what = "create replaces nothing, so there are no versions"
    remedy = "write mode: replace, or take keep_versions out"
    assert found(changed(tftp=uploads(mode="create", keep_versions=1))) == [("warning", what, remedy)]
    assert found(changed(tftp=uploads(mode="existing", keep_versions=1))) == []


def test_a_file_and_its_versions_fit_into_max_files() -> None:
    assert found(changed(tftp=uploads(keep_versions=4, max_files=5))) == []
    what = "5 versions and the file itself are more than the 5 files of max_files"
    assert found(changed(tftp=uploads(keep_versions=5, max_files=5))) == [
        ("error", what, "write at most 4, or raise max_files")
    ]


def test_networks_that_read_are_named_where_they_count() -> None:
    assert found(changed(tftp=uploads(readable="networks", readers=("192.0.2.0/24", "2001:db8::/64")))) == []
    assert found(changed(tftp=uploads(readable="networks"))) == [
        ("error", "readable is networks, and there are none", "write them, like [192.0.2.0/24], or readable: none")
    ]
    assert found(changed(tftp=uploads(readable="same-client", readers=("192.0.2.0/24",)))) == [
        (
            "warning",
            "readable is same-client, so these networks count for nothing",
            "write readable: networks",
        )
    ]


def test_a_reader_is_at_least_a_whole_client() -> None:
    readers = ("192.0.2.1", "2001:db8::1")
    assert found(changed(tftp=uploads(readable="networks", readers=readers))) == [
        (
            "error",
            "2001:db8::1 is part of a /64, and IPv6 clients are told apart by their /64 only",
            "write 2001:db8::/64",
        )
    ]


@pytest.mark.parametrize(
    ("path", "box", "expected"),
    [
        ("up", "in", []),
        ("in", "in", ["/srv/x/in is the same folder as that of tftp.uploads, /srv/x/in"]),
        ("in/up", "in", ["/srv/x/in/up is inside that of ftp.incoming, /srv/x/in"]),
        ("up", "up/in", ["/srv/x/up/in is inside that of tftp.uploads, /srv/x/up"]),
        ("in", "incoming", []),
    ],
)
def test_two_custodians_have_two_folders(path: str, box: str, expected: list[str]) -> None:
    ftp = {"root": "/srv/x", "incoming": {"enabled": True, "path": box}}
    settings = changed(tftp={"root": "/srv/x", **uploads(path=path)}, ftp=ftp)
    assert found(settings) == [("error", what, "name a folder beside it") for what in expected]
    elsewhere = changed(tftp={"root": "/srv/y", **uploads(path=path)}, ftp=ftp)
    assert found(elsewhere) == []


def test_no_site_and_no_network_looks_its_files_up_among_the_uploads() -> None:
    networks = (TftpNetwork("192.0.2.0/24", root="uploads"), TftpNetwork("198.51.100.0/24"))
    sites = (TftpSite("127.0.0.1:70", root="uploads/a", networks=networks), TftpSite("127.0.0.1:71", root="upload"))
    sites = (*sites, TftpSite("127.0.0.1:72"))
    settings = changed(tftp={"networks": networks, "sites": sites, **uploads()})
    assert [finding.keys[0] for finding in rules.judge(settings)] == [
        ("tftp", "sites", 0, "root"),
        ("tftp", "networks", 0, "root"),
        ("tftp", "sites", 0, "networks", 0, "root"),
    ]
    assert found(settings)[0] == (
        "error",
        "uploads/a is in the folder of the uploads, uploads, which is not served",
        "name another folder",
    )
    box = changed(tftp={"networks": networks, "sites": sites}, ftp={"incoming": {"enabled": True}})
    assert found(box) == []


def test_a_rate_above_the_rate_of_all_limits_nobody() -> None:
    network = TftpNetwork("10.0.0.0/8", rate=3 << 20)
    limits = {"rate_total": 2 << 20, "rate_per_client": 4 << 20}
    keys = {"limits": limits, "networks": (network, TftpNetwork("10.1.0.0/16", rate=1 << 20))}
    assert [what for _severity, what, _remedy in found(changed(tftp=keys))] == [
        "4MiB is more than the rate_total of 2MiB, so it limits nobody",
        "3MiB is more than the rate_total of 2MiB, so it limits nobody",
    ]
    assert found(changed(tftp={**keys, "limits": {**limits, "rate_total": 4 << 20}})) == []
    assert found(changed(tftp={**keys, "limits": {**limits, "rate_total": 0}})) == []
    assert found(changed(tftp={**keys, "enabled": False})) == []


TLS = {"mode": "required", "certificate": "/etc/x.crt", "key": "/etc/x.key"}


def test_tls_as_it_should_be_is_told_nothing() -> None:
    assert found(changed(ftp={"tls": {**TLS, "implicit_listen": ("0.0.0.0:990",)}})) == []
    assert found(changed(ftp={"tls": {**TLS, "key": None}})) == []
    assert found(changed(ftp={"enabled": False, "tls": {"mode": "required"}})) == []


def test_tls_without_a_certificate() -> None:
    assert found(changed(ftp={"tls": {"mode": "optional"}})) == [
        (
            "error",
            "mode is optional, and there is no certificate",
            "name the PEM file of the certificate, or make one: appliance tls self-signed --name HOST",
        )
    ]


def test_listeners_for_ftps_that_never_listen_or_speak_two_languages() -> None:
    assert found(changed(ftp={"tls": {"implicit_listen": ("0.0.0.0:990",)}})) == [
        ("warning", "nothing listens there while mode is off", "write mode: optional")
    ]
    assert found(changed(ftp={"tls": {**TLS, "implicit_listen": ("192.0.2.7:21",)}})) == [
        ("error", "192.0.2.7:21 is taken by ftp.listen[0], 0.0.0.0:21", "remove one of the two, or change its port"),
        (
            "error",
            "port 21 is also in ftp.listen, where connections begin in the clear",
            "write another port, usually 990",
        ),
    ]
    twice = found(changed(ftp={"tls": {**TLS, "implicit_listen": ("[::]:990", "[::1]:990")}}))
    assert [what for _, what, _ in twice] == ["[::1]:990 is taken by ftp.tls.implicit_listen[0], [::]:990"]
    ephemeral = found(changed(ftp={"listen": ("127.0.0.1:0",), "tls": {**TLS, "implicit_listen": ("127.0.0.1:0",)}}))
    assert ephemeral == []


@pytest.mark.parametrize(("key", "name"), [("/srv/appliance/ftp/x.pem", "ftp"), ("/srv/appliance/tftp/x.pem", "tftp")])
def test_a_private_key_that_would_be_served(key: str, name: str) -> None:
    expected = (
        "error",
        f"{key} holds the private key and lies inside {name}.root, so it would be served",
        f"move it out of /srv/appliance/{name}",
    )
    assert found(changed(ftp={"tls": {**TLS, "key": key}})) == [expected]
    assert found(changed(ftp={"tls": {**TLS, "certificate": key, "key": None}})) == [expected]
    assert found(changed(ftp={"tls": {**TLS, "certificate": key}})) == []  # a certificate is no secret


def test_certificates_of_sites() -> None:
    site = FtpSite(
        listen=("192.0.2.7:2121",), implicit_listen=("192.0.2.7:990",), certificate="/etc/y.crt", key="/etc/y"
    )
    assert found(changed(ftp={"tls": TLS, "sites": (site,)})) == []
    nowhere = replace(site, listen=(), implicit_listen=(), hosts=("a.example",))
    (told,) = found(changed(ftp={"tls": TLS, "sites": (nowhere,)}))
    assert told[1:] == (
        "a certificate is chosen by the address that a client comes in by, and this site has none of its own",
        "write listen, or remove certificate",
    )
    assert found(changed(ftp={"tls": TLS, "sites": (replace(site, certificate=None),)})) == [
        ("error", "there is a key and no certificate", "write certificate, or remove key")
    ]
    (told,) = found(changed(ftp={"tls": TLS, "sites": (replace(site, key="/srv/appliance/ftp/y"),)}))
    assert "/srv/appliance/ftp/y holds the private key" in told[1]
    assert found(changed(ftp={"sites": (site,)})) == [
        ("warning", "nothing listens there while mode is off", "write mode: optional")
    ]
    told_all = found(changed(ftp={"tls": TLS, "sites": (replace(site, implicit_listen=("192.0.2.8:2121",)),)}))
    assert told_all == [
        (
            "error",
            "port 2121 is also in ftp.sites[0].listen, where connections begin in the clear",
            "write another port, usually 990",
        )
    ]
    (told,) = found(changed(ftp={"tls": TLS, "sites": (replace(site, implicit_listen=("192.0.2.7:0",)),)}))
    assert told[1] == "192.0.2.7:0 is no fixed port, so the site could not be told from others"


BOX: dict[str, Any] = {"enabled": True}


@pytest.mark.parametrize("path", ["incoming", "incoming/out", "a"])
def test_the_released_tree_and_the_drop_box_lie_beside_each_other(path: str) -> None:
    box = {**BOX, "released": path, "path": "a/box" if path == "a" else "incoming"}
    root = DEFAULTS.ftp.root
    what = f"{root}/{path} and the folder of ftp.incoming, {root}/{box['path']}, lie inside each other"
    assert found(changed(ftp={"incoming": box})) == [("error", what, "name a folder beside it")]
    assert found(changed(ftp={"incoming": {**box, "enabled": False}})) == []
    assert found(changed(ftp={"incoming": {**BOX, "released": "incoming2"}})) == []


def test_the_released_tree_is_not_in_the_folder_of_uploads_by_tftp() -> None:
    settings = changed(tftp={"uploads": {"mode": "create"}, "root": "/srv/x"}, ftp={"root": "/srv/x", "incoming": BOX})
    assert found(settings) == []
    settings = changed(
        tftp={"uploads": {"mode": "create", "path": "released/in"}, "root": "/srv/x"},
        ftp={"root": "/srv/x", "incoming": BOX},
    )
    what = "/srv/x/released and the folder of tftp.uploads, /srv/x/released/in, lie inside each other"
    assert found(settings) == [("error", what, "name a folder beside it")]


def test_a_released_tree_that_is_hidden_is_warned_of() -> None:
    assert found(changed(ftp={"incoming": {**BOX, "released": "pub/.git"}})) == [
        (
            "warning",
            ".git is hidden by ftp.hide, .git, so nobody sees what was released",
            "write a name that is not hidden, like released",
        )
    ]


@pytest.mark.parametrize(
    ("scan", "what", "remedy"),
    [
        (IncomingScan(), "there is no scanner", "write command or clamd, one of them; or scan: null"),
        (
            IncomingScan(("/bin/true",), "/run/c"),
            "there are two scanners",
            "write command or clamd, one of them; or scan: null",
        ),
        (
            IncomingScan(("bin/clamscan", "-")),
            "bin/clamscan is not an absolute path",
            "write it in full, like /usr/bin/clamscan",
        ),
        (IncomingScan(("/usr/bin/clamscan", "-")), "", ""),
        (IncomingScan(clamd="/run/clamav/clamd.ctl"), "", ""),
    ],
)
def test_there_is_one_scanner_and_it_can_be_found(scan: IncomingScan, what: str, remedy: str) -> None:
    expected = [("error", what, remedy)] if what else []
    assert found(changed(ftp={"incoming": {**BOX, "scan": scan}})) == expected
    assert found(changed(ftp={"incoming": {"scan": scan}})) == []


def test_networks_of_ftp_limits_are_told_apart_and_limit_somebody() -> None:
    networks = (FtpNetwork("192.0.2.0/24", sessions=10), FtpNetwork("192.0.2.0/24", sessions_per_client=11))
    settings = changed(ftp={"limits": replace(DEFAULTS.ftp.limits, sessions=10, networks=networks)})
    assert found(settings) == [
        ("error", "192.0.2.0/24 stands in the list twice; this one never counts", "remove one of the two"),
        (
            "warning",
            "11 is more than the 10 sessions of limits, so it limits nobody",
            "write at most 10, or raise limits.sessions",
        ),
    ]


def test_a_dhcp_server_needs_an_interface_addresses_and_a_service_to_send_machines_to() -> None:
    assert found(changed(boot={"dhcp": "proxy", "dhcp_server": {"interface": "eth1"}})) == []
    whole = {"interface": "eth1", "range": "192.0.2.50-192.0.2.99"}
    assert found(changed(boot={"dhcp": "range", "dhcp_server": whole})) == []
    assert [what for _, what, _ in found(changed(boot={"dhcp": "range"}))] == [
        "no interface is named",
        "no addresses to give out",
    ]
    off = changed(boot={"dhcp": "range", "dhcp_server": whole}, tftp={"enabled": False})
    assert [what for _, what, _ in found(off)] == ["machines would be sent to a TFTP service that is off"]
