"""A machine that is armed for one boot: it gets that once, and after its reboot what it gets every day. No loop."""

from __future__ import annotations

import pytest

from tests.qemu import disk
from tests.qemu.lab import CONFIG, SERVER, Lab, boot, needs_lab

pytestmark = needs_lab
MAC = "52:54:00:00:00:01"
MINUTE = 60
# Debian's own kernel and RAM disk, whose first program is none: the kernel gives up and resets the machine. So the
# installer that was loaded whole is over in a moment, and what comes next is the reboot that matters.
MANIFEST = """\
server: 192.0.2.1
recipes: [pxelinux, grub, ipxe, debian-12, local-disk]
menu: {title: Boot menu, timeout: 10m, default: local-disk, entries: [local-disk], serial: true}
vars: {console: "ttyS0,115200"}
profiles:
  installer: {inherit: debian-12, title: An installer, more_args: rdinit=/nothing panic=1}
"""
DHCP = ("dhcp-range=192.0.2.50,192.0.2.99,255.255.255.0,1h", "dhcp-userclass=set:ipxe,iPXE")


@pytest.mark.parametrize(
    ("kind", "loader", "own"),
    [
        ("bios", "pxelinux.0", "pxelinux.cfg/01-"),
        pytest.param("bios", "boot.ipxe", "ipxe/mac-", marks=pytest.mark.exhaustive),
        pytest.param("uefi", "shimx64.efi", "grub/grub.cfg-01-", marks=pytest.mark.exhaustive),
    ],
)
def test_an_installer_is_loaded_once_from_what_was_fetched_and_published_then_the_disk_boots(
    room: Lab, kind: str, loader: str, own: str
) -> None:
    (room.home / "boot.yaml").write_text(MANIFEST)
    made = room.appliance(CONFIG + "boot: {{enabled: true, manifest: {home}/boot.yaml}}\n")
    boot(made, "fetch")
    boot(made, "publish")
    boot(made, "host", "set", MAC, "--name", "m1", "--profile", "local-disk")
    boot(made, "host", "set", "m1", "--profile", "installer", "--once")
    room.dnsmasq(*DHCP, f"dhcp-boot={loader},,{SERVER}")
    machine = room.machine(kind, MAC, *disk.for_machine(kind, room.home), reboots=True)
    machine.wait(b"Linux version", 10 * MINUTE)
    machine.wait(b"Kernel panic", 5 * MINUTE)
    machine.wait(disk.SAID, 10 * MINUTE)
    assert machine.said.count(b"Linux version") == 1
    happened = boot(made, "explain", "m1", "--arch", "bios").partition("last seen booting ")[2]
    assert f"{own}52-54-00-00-00-01" in happened and ": got it (" in happened, happened
