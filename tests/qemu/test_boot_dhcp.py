"""Machines are told what to load by our own DHCP service and get there: as a proxy beside another server, and alone."""

from __future__ import annotations

import shutil

import pytest

from tests.qemu import disk, tree
from tests.qemu.lab import CONFIG, Lab, boot, needs_lab
from tests.system.running import Appliance

pytestmark = needs_lab
MAC = "52:54:00:00:00:01"
RANGE = CONFIG + (
    "boot:\n  dhcp: range\n"
    "  dhcp_server: {{interface: br0, range: 192.0.2.50-192.0.2.60, files: {{x64_efi: snponly.efi}}}}\n"
)
PROXY = CONFIG + "boot:\n  dhcp: proxy\n  dhcp_server: {{interface: br0}}\n"
SCRIPT = "#!ipxe\nimgfetch reached-${platform}\npoweroff\n"


def serve(room: Lab, text: str) -> Appliance:
    made = room.appliance(text)
    shutil.copyfile(tree.package("ipxe") / "usr/lib/ipxe/snponly.efi", made.tree / "snponly.efi")
    (made.tree / "boot.ipxe").write_text(SCRIPT)
    for platform in ("pcbios", "efi"):
        (made.tree / f"reached-{platform}").write_text("here\n")
    return made


@pytest.mark.parametrize(("kind", "platform"), [("bios", "pcbios"), ("uefi", "efi")])
def test_range_brings_a_machine_to_its_script(room: Lab, kind: str, platform: str) -> None:
    made = serve(room, RANGE)
    room.machine(kind, MAC, memory=512)
    log = made.said(f'"reached-{platform}", "bytes": 5', 600)
    assert ('"file": "snponly.efi"' in log) == (kind == "uefi")
    assert f'"client": "{MAC}", "message": "DHCPACK"' in log


@pytest.mark.parametrize(("kind", "platform"), [("bios", "pcbios"), ("uefi", "efi")])
def test_a_proxy_brings_a_machine_to_its_script_while_another_server_gives_its_address(
    room: Lab, kind: str, platform: str
) -> None:
    other = room.dnsmasq("dhcp-range=192.0.2.100,192.0.2.110,255.255.255.0,1h", elsewhere=True)
    made = serve(room, PROXY)
    room.machine(kind, MAC, memory=512)
    log = made.said(f'"reached-{platform}", "bytes": 5', 600)
    assert '"message": "PXE"' in log
    assert "DHCPACK" in other.read_text() and '"message": "DHCPACK"' not in log
    assert '"client": "192.0.2.1' in log


GRUB = """\
server: 192.0.2.1
recipes: [grub-proxy, {profile}]
vars: {{console: "ttyS0,115200"}}
menu: {{serial: true}}
machines: {{m1: {{mac: "{mac}", profile: {profile}}}}}
"""
GRUB_PROXY = CONFIG + (
    "boot:\n  enabled: true\n  manifest: {home}/boot.yaml\n  dhcp: proxy\n"
    "  dhcp_server: {{interface: br0, files: {{x64_efi: grub-net.efi}}}}\n"
)


@pytest.mark.parametrize(
    ("profile", "says"),
    [("local-disk", disk.SAID), pytest.param("debian-12", b"Linux version", marks=pytest.mark.exhaustive)],
)
def test_grub_boots_beside_another_server_because_its_image_names_ours(room: Lab, profile: str, says: bytes) -> None:
    (room.home / "boot.yaml").write_text(GRUB.format(mac=MAC, profile=profile))
    room.dnsmasq("dhcp-range=192.0.2.100,192.0.2.110,255.255.255.0,1h", elsewhere=True)
    made = room.appliance(GRUB_PROXY)
    boot(made, "fetch")
    boot(made, "publish")
    machine = room.machine("uefi", MAC, *disk.for_machine("uefi", room.home))
    machine.wait(says, 600)
    assert 'grub/grub.cfg-01-52-54-00-00-00-01", "bytes"' in made.log.read_text()
