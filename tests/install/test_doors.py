"""Firewall rules let in exactly what is configured, in the words of nft and systemd."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from appliance.install import doors, layout
from appliance.settings.ftp import FtpSettings, FtpSite, TlsSettings
from appliance.settings.main import Settings
from appliance.settings.tftp import TftpSettings, TftpSite
from tests.cli.conftest import Call


def settings(*, tftp: dict[str, Any] | None = None, ftp: dict[str, Any] | None = None) -> Settings:
    return dataclasses.replace(Settings(), tftp=TftpSettings(**tftp or {}), ftp=FtpSettings(**ftp or {}))


def test_the_defaults_let_in_three_things_for_both_families() -> None:
    assert doors.rules(Settings()) == [
        'meta nfproto ipv4 udp dport 69 accept comment "appliance tftp"',
        'meta nfproto ipv6 udp dport 69 accept comment "appliance tftp"',
        'meta nfproto ipv4 tcp dport { 21, 61000-65535 } accept comment "appliance ftp"',
        'meta nfproto ipv6 tcp dport { 21, 61000-65535 } accept comment "appliance ftp"',
    ]


def test_networks_and_addresses_are_followed_and_deny_comes_first() -> None:
    made = settings(
        tftp={"listen": ("192.0.2.1:69", "[2001:db8::1]:6969"), "allow": ("192.0.2.0/25", "192.0.2.128/25")},
        ftp={"listen": ("0.0.0.0:21",), "deny": ("198.51.100.7",)},
    )
    assert doors.rules(made) == [
        'ip daddr 192.0.2.1 ip saddr 192.0.2.0/24 udp dport 69 accept comment "appliance tftp"',
        "meta nfproto ipv4 ip saddr 198.51.100.7/32 tcp dport { 21, 61000-65535 } drop",
        'meta nfproto ipv4 tcp dport { 21, 61000-65535 } accept comment "appliance ftp"',
    ]


def test_sites_and_ports_of_tls_are_doors_and_a_port_picked_at_the_start_is_none() -> None:
    site = TftpSite(listen="192.0.2.9:69", root="a")
    face = FtpSite(listen=("0.0.0.0:2100",))
    tls = TlsSettings(mode="optional", implicit_listen=("0.0.0.0:990",))
    made = settings(tftp={"listen": ("127.0.0.1:0",), "sites": (site,)}, ftp={"sites": (face,), "tls": tls})
    found = doors.doors(made)
    assert [door.address for door in found if door.name == "tftp"] == ["192.0.2.9"]
    assert ((21, 21), (990, 990), (2100, 2100), (61000, 65535)) in {door.ports for door in found}
    off = dataclasses.replace(made, tftp=TftpSettings(enabled=False), ftp=FtpSettings(enabled=False))
    assert doors.doors(off) == []


def test_systemd_denies_only_where_every_service_names_its_networks() -> None:
    assert "IPAddress" not in doors.drop_in(settings(tftp={"allow": ("192.0.2.0/24",)}))
    both = settings(tftp={"allow": ("192.0.2.0/24",)}, ftp={"allow": ("2001:db8::/32", "192.0.2.0/24")})
    assert doors.drop_in(both).splitlines() == [
        "[Service]",
        "IPAddressDeny=any",
        "IPAddressAllow=localhost",
        "IPAddressAllow=192.0.2.0/24",
        "IPAddressAllow=2001:db8::/32",
    ]
    nothing = settings(tftp={"enabled": False}, ftp={"enabled": False})
    assert "IPAddress" not in doors.drop_in(nothing)


@pytest.mark.root
@pytest.mark.skipif(not shutil.which("nft"), reason="needs nft")
@pytest.mark.parametrize("also", [(), (22,), (22, 443)])
def test_nft_takes_the_table_and_the_rules(tmp_path: Path, also: tuple[int, ...]) -> None:
    made = settings(
        tftp={"listen": ("192.0.2.1:69", "[2001:db8::1]:69"), "allow": ("192.0.2.0/24", "2001:db8::/32")},
        ftp={"deny": ("198.51.100.0/24", "203.0.113.0/24")},
    )
    for text in (
        doors.table(doors.rules(made), also),
        "table inet mine {\nchain input {\n" + "\n".join(doors.rules(Settings())) + "\n}\n}\n",
    ):
        said = subprocess.run(["unshare", "-n", "nft", "-c", "-f", "-"], input=text, capture_output=True, text=True)
        assert (said.returncode, said.stderr) == (0, "")


def test_the_example_that_is_laid_is_what_the_command_says(call: Call, tmp_path: Path) -> None:
    laid = {item.path: item.content.decode() for item in layout.items(layout.PROGRAM, {})}
    assert laid["/usr/share/appliance/examples/nftables.rules"].splitlines()[1:] == doors.rules(Settings())
    config = tmp_path / "a.yaml"
    config.write_text("")
    done = call("firewall", "nft", "-c", str(config))
    assert done.out.splitlines()[1:] == doors.rules(Settings()) and done.code == 0
    assert "policy drop" in call("firewall", "nft", "--table", "--also", "22", "-c", str(config)).out
    assert call("firewall", "nft", "--also", "22", "-c", str(config)).code == 2
    assert "open to everybody" in call("firewall", "systemd", "-c", str(config)).out
