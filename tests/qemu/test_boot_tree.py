"""Real machines boot from a tree that was copied by hand: QEMU's firmware, Debian's loaders, Debian's installer.

The DHCP server is dnsmasq beside the appliance, as a room with tftpd-hpa has it today.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.qemu import tree
from tests.qemu.lab import SERVER, Lab, lab, needs_lab
from tests.qemu.machine import Machine

pytestmark = needs_lab
KERNEL, USERSPACE = b"Linux version", b"Starting system log daemon"
DHCP = ("dhcp-range=192.0.2.50,192.0.2.99,255.255.255.0,1h", "dhcp-userclass=set:ipxe,iPXE")
MINUTE = 60  # an idle machine needs a fifth of the limits below


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Lab]:
    for folder in (*tmp_path.parents[:2], tmp_path):
        folder.chmod(0o755)
    with lab(tmp_path) as made:
        yield made


def mac(number: int) -> str:
    return f"52:54:00:00:00:{number:02x}"


def serve(room: Lab, *lines: str) -> None:
    made = room.appliance()
    tree.make(made.tree)
    tree.grub_for(made.tree, mac(1))
    room.dnsmasq(*DHCP, *lines)


def boots(machine: Machine) -> None:
    machine.wait(KERNEL, 6 * MINUTE)
    machine.wait(USERSPACE, 4 * MINUTE)


def test_bios_pxelinux_menu_entry_reaches_the_installer(room: Lab) -> None:
    serve(room, f"dhcp-boot=lpxelinux.0,,{SERVER}")
    machine = room.machine("bios", mac(1))
    machine.wait(b"Debian 12", 3 * MINUTE)
    machine.type(b"\x1b[B\x1b[B\r")
    boots(machine)


def test_uefi_shim_and_grub_by_mac_reach_the_installer(room: Lab) -> None:
    serve(room, f"dhcp-boot=shimx64.efi,,{SERVER}")
    boots(room.machine("uefi", mac(1)))


def test_four_machines_boot_an_ipxe_script_at_once(room: Lab) -> None:
    serve(room, f"dhcp-boot=boot.ipxe,,{SERVER}")
    machines = [room.machine("bios", mac(number), memory=512) for number in range(1, 5)]
    for machine in machines:
        machine.wait(KERNEL, 10 * MINUTE)


def test_memtest_is_loaded_by_pxelinux(room: Lab) -> None:
    serve(room, f"dhcp-boot=pxelinux.0,,{SERVER}")
    machine = room.machine("bios", mac(1))
    machine.wait(b"Memory test", 3 * MINUTE)
    machine.type(b"\x1b[B\r")
    machine.wait(b"Memtest86+", 2 * MINUTE)


@pytest.mark.exhaustive
def test_uefi_ipxe_gets_its_script_by_its_user_class(room: Lab) -> None:
    serve(room, f"dhcp-boot=tag:!ipxe,snponly.efi,,{SERVER}", f"dhcp-boot=tag:ipxe,boot.ipxe,,{SERVER}")
    room.machine("uefi", mac(1)).wait(KERNEL, 8 * MINUTE)


@pytest.mark.exhaustive
def test_u_boot_on_arm64_boots_an_extlinux_entry(room: Lab) -> None:
    serve(room, f"dhcp-boot=boot.scr.uimg,,{SERVER}")
    machine = room.machine("u-boot", mac(1))
    machine.wait(b"Hit any key", 3 * MINUTE)
    machine.type(b" ")
    machine.wait(b"=> ", MINUTE)
    machine.type(b"setenv autoload no; dhcp; pxe get && pxe boot\r")
    machine.wait(KERNEL, 8 * MINUTE)
