"""What keys may not say together."""

from __future__ import annotations

from dataclasses import replace

import pytest

from appliance.settings import rules
from appliance.settings.main import Settings
from tests.settings.judging import DEFAULTS, changed, changed_top, found


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
