"""Snippets for DHCP servers: what they say, and that the real servers take them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from appliance.boot.dhcp import SERVERS, NoSnippet, Offer, offers, snippet
from appliance.boot.model import Manifest
from tests.boot.support import resolved

ALL = """\
server: 192.0.2.1
loaders:
  bios: {file: undionly.kpxe, kind: ipxe}
  ia32-efi: {file: ia32/snponly.efi, kind: ipxe}
  x64-efi: {file: shimx64.efi, kind: shim}
  arm32-efi: {file: arm32.efi, kind: grub}
  arm64-efi: {file: grubaa64.efi, kind: grub}
  arm64-uboot: {kind: uboot}
  rpi: {kind: rpi}
  ipxe: {file: boot.ipxe, kind: ipxe}
"""


def manifest(text: str = ALL) -> Manifest:
    return resolved(text).manifest


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


def test_every_architecture_has_its_file_and_ipxe_comes_first() -> None:
    assert offers(manifest()) == (
        Offer("ipxe", (), "boot.ipxe"),
        Offer("bios", (0,), "undionly.kpxe"),
        Offer("ia32-efi", (6,), "ia32/snponly.efi"),
        Offer("x64-efi", (7, 9), "shimx64.efi"),
        Offer("arm32-efi", (10,), "arm32.efi"),
        Offer("arm64-efi", (11,), "grubaa64.efi"),
    )


@pytest.mark.parametrize("server", SERVERS)
def test_every_server_is_told_every_file_and_the_address(server: str) -> None:
    text = snippet(server, manifest())
    for word in (
        "boot.ipxe",
        "undionly.kpxe",
        "ia32/snponly.efi",
        "shimx64.efi",
        "arm32.efi",
        "grubaa64.efi",
        "192.0.2.1",
    ):
        assert word in text


@pytest.mark.parametrize("server", SERVERS)
def test_http_boot_is_left_out_until_it_is_served(server: str) -> None:
    assert not re.search(r"(0x0010|00:10|client-arch,16)", snippet(server, manifest()))


def test_a_manifest_that_says_too_little_is_told() -> None:
    with pytest.raises(NoSnippet, match="write server: ADDRESS"):
        snippet("isc", manifest(ALL.removeprefix("server: 192.0.2.1\n")))
    with pytest.raises(NoSnippet, match="no loader with a file"):
        snippet("isc", manifest("server: 192.0.2.1\nloaders: {rpi: {kind: rpi}}"))


@pytest.mark.parametrize("name", ['a"b', "a'b", "a,b", "a#b", "ä"])
def test_a_name_that_could_end_its_quotes_is_refused(name: str) -> None:
    text = f"server: 192.0.2.1\nloaders: {{bios: {{file: {json.dumps(name)}, kind: grub}}}}"
    with pytest.raises(NoSnippet, match="cannot be written for every DHCP server"):
        snippet("isc", manifest(text))


def test_without_ipxe_nobody_is_asked_for_it() -> None:
    text = "server: 192.0.2.1\nloaders: {bios: {file: pxelinux.0, kind: pxelinux}}"
    for server in SERVERS:
        assert "ipxe" not in snippet(server, manifest(text)).lower()


def checked(command: list[str], path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o644)
    done = subprocess.run([*command, str(path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr + done.stdout


@needs("dnsmasq")
@pytest.mark.parametrize("server", ["dnsmasq", "opnsense"])
def test_dnsmasq_takes_its_snippet(tmp_path: Path, server: str) -> None:
    checked(["dnsmasq", "--test", "-C"], tmp_path / "d.conf", snippet(server, manifest()))


@needs("dhcpd")
def test_isc_dhcpd_takes_its_snippet(tmp_path: Path) -> None:
    text = snippet("isc", manifest()) + "subnet 192.0.2.0 netmask 255.255.255.0 { range 192.0.2.100 192.0.2.200; }\n"
    checked(["dhcpd", "-t", "-cf"], tmp_path / "d.conf", text)


@needs("kea-dhcp4")
def test_kea_takes_its_snippet(tmp_path: Path) -> None:
    members = snippet("kea", manifest())
    subnet = '"subnet4": [{"id": 1, "subnet": "192.0.2.0/24", "pools": [{"pool": "192.0.2.100-192.0.2.200"}]}]'
    whole = f'{{"Dhcp4": {{"lease-database": {{"type": "memfile", "persist": false}}, {subnet},\n{members}}}}}\n'
    checked(["kea-dhcp4", "-t"], tmp_path / "d.conf", whole)


def test_openwrt_commands_are_shell() -> None:
    done = subprocess.run(
        ["sh", "-n"], input=snippet("openwrt", manifest()), capture_output=True, text=True, timeout=10
    )
    assert (done.returncode, done.stderr) == (0, "")
