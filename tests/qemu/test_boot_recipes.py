"""Real machines boot what the catalogue's recipes render: QEMU's firmware, Debian's loaders, Debian's installer.

The DHCP server is dnsmasq beside the appliance, as in a room that has one already.
"""

from __future__ import annotations

import pytest

from tests.qemu import disk, tree
from tests.qemu.lab import SERVER, Lab, needs_lab
from tests.qemu.machine import Machine
from tests.system.running import Appliance

pytestmark = needs_lab
KERNEL, INIT, USERSPACE = b"Linux version", b"Run /init as init process", b"Starting system log daemon"
DHCP = ("dhcp-range=192.0.2.50,192.0.2.99,255.255.255.0,1h", "dhcp-userclass=set:ipxe,iPXE")
MINUTE = 60  # an idle machine needs a fifth of the limits below
STRANGER = "52:54:00:00:00:77"
U_BOOT_MAC = "52:52:52:52:52:52"  # what Debian's U-Boot for QEMU calls itself, whatever the card says
MANIFEST = """\
recipes: [pxelinux, grub, ipxe, u-boot, debian-12, debian-12-arm64, local-disk]
menu: {title: Boot menu, timeout: 10m, default: local-disk, serial: true, entries: [local-disk, by-hand]}
vars: {console: "ttyS0,115200"}
profiles:
  by-hand: {inherit: debian-12, title: Debian by serial line, more_args: DEBIAN_FRONTEND=text}
machines:
"""


def mac(number: int) -> str:
    return f"52:54:00:00:00:{number:02x}"


FOUR = tuple(mac(number) for number in range(1, 5))


def serve(room: Lab, *lines: str, profile: str = "by-hand", macs: tuple[str, ...] = FOUR) -> Appliance:
    made = room.appliance()
    known = "".join(f'  m{i}: {{mac: "{mac}", profile: {profile}}}\n' for i, mac in enumerate(macs, 1))
    tree.render(made.tree, MANIFEST + known, room.home)
    room.dnsmasq(*DHCP, *lines)
    return made


def boots(machine: Machine) -> None:
    machine.wait(KERNEL, 10 * MINUTE)
    machine.wait(USERSPACE, 6 * MINUTE)


def test_bios_pxelinux_menu_entry_reaches_the_installer(room: Lab) -> None:
    serve(room, f"dhcp-boot=pxelinux.0,,{SERVER}")
    machine = room.machine("bios", STRANGER)
    machine.wait(b"Debian by serial line", 3 * MINUTE)
    machine.type(b"\x1b[B\r")
    boots(machine)


@pytest.mark.exhaustive  # test_shipped_manifest.py boots the same from what was published
def test_uefi_shim_and_grub_by_mac_reach_the_installer(room: Lab) -> None:
    made = serve(room, f"dhcp-boot=shimx64.efi,,{SERVER}")
    boots(room.machine("uefi", mac(1)))
    assert 'grub/grub.cfg-01-52-54-00-00-00-01", "bytes"' in made.log.read_text()


def test_four_machines_boot_the_script_of_their_own_at_once(room: Lab) -> None:
    made = serve(room, f"dhcp-boot=boot.ipxe,,{SERVER}")
    machines = [room.machine("bios", mac(number), memory=512) for number in range(1, 5)]
    for machine in machines:
        machine.wait(KERNEL, 10 * MINUTE)
    log = made.log.read_text()
    assert all(f'ipxe/mac-52-54-00-00-00-{number:02x}.ipxe", "bytes"' in log for number in range(1, 5))


LOADERS = {
    "pxelinux": ("bios", (f"dhcp-boot=pxelinux.0,,{SERVER}",)),
    "ipxe": ("bios", (f"dhcp-boot=boot.ipxe,,{SERVER}",)),
    "grub": ("uefi", (f"dhcp-boot=shimx64.efi,,{SERVER}",)),
    "ipxe-efi": ("uefi", (f"dhcp-boot=tag:!ipxe,snponly.efi,,{SERVER}", f"dhcp-boot=tag:ipxe,boot.ipxe,,{SERVER}")),
}


@pytest.mark.parametrize(
    "loader", ["pxelinux", "grub", *(pytest.param(name, marks=pytest.mark.exhaustive) for name in ("ipxe", "ipxe-efi"))]
)
def test_the_profile_of_the_local_disk_goes_on_to_the_disk(room: Lab, loader: str) -> None:
    kind, lines = LOADERS[loader]
    serve(room, *lines, profile="local-disk")
    room.machine(kind, mac(1), *disk.for_machine(kind, room.home), memory=512).wait(disk.SAID, 10 * MINUTE)


@pytest.mark.exhaustive
def test_uefi_ipxe_gets_its_script_by_its_user_class(room: Lab) -> None:
    serve(room, f"dhcp-boot=tag:!ipxe,snponly.efi,,{SERVER}", f"dhcp-boot=tag:ipxe,boot.ipxe,,{SERVER}")
    room.machine("uefi", mac(1)).wait(KERNEL, 8 * MINUTE)


@pytest.mark.exhaustive
def test_bios_pxelinux_by_mac_boots_without_a_menu(room: Lab) -> None:
    serve(room, f"dhcp-boot=pxelinux.0,,{SERVER}")
    room.machine("bios", mac(1)).wait(KERNEL, 8 * MINUTE)


@pytest.mark.parametrize("until", [INIT, pytest.param(USERSPACE, marks=pytest.mark.exhaustive)])
def test_u_boot_on_arm64_boots_an_extlinux_entry_by_its_mac(room: Lab, until: bytes) -> None:
    made = serve(room, f"dhcp-boot=boot.scr.uimg,,{SERVER}", profile="debian-12-arm64", macs=(U_BOOT_MAC,))
    machine = room.machine("u-boot", U_BOOT_MAC)
    machine.wait(b"Hit any key", 3 * MINUTE)
    machine.type(b" ")
    machine.wait(b"=> ", 5 * MINUTE)  # a key that came too late: it tries everything else first
    machine.type(b"setenv tftpwindowsize 8; setenv autoload no; dhcp; pxe get && pxe boot\r")
    machine.wait(KERNEL, 10 * MINUTE)
    machine.wait(until, 6 * MINUTE)
    log = made.log.read_text()
    assert 'pxelinux.cfg/01-52-52-52-52-52-52", "bytes"' in log and '"windowsize": 8' in log
