"""The manifest that is installed: fetched, published, told to a DHCP server by `boot dhcp`, and booted by machines."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.qemu.lab import CONFIG, SERVER, Lab, boot, needs_lab
from tests.qemu.machine import Machine
from tests.system.running import Appliance

pytestmark = needs_lab
SHIPPED = Path(__file__).parents[2] / "config/boot.yaml"
KERNEL, USERSPACE = b"Linux version", b"Starting system log daemon"
MINUTE = 60  # an idle machine needs a fifth of the limits below
BIOS_MAC, UEFI_MAC = "52:54:00:00:00:01", "52:54:00:00:00:02"
U_BOOT_MAC = "52:52:52:52:52:52"  # what Debian's U-Boot for QEMU calls itself, whatever the card says


def provision(room: Lab, machines: dict[str, str], recipes: str = "") -> tuple[Appliance, str]:
    """Fetched and published, these machines with their profiles written down; what `boot dhcp dnsmasq` prints."""
    text = SHIPPED.read_text()
    assert "\n# server: 192.0.2.1\n" in text and "\nrecipes: [pxelinux, " in text
    text = text.replace("# server: ", "server: ").replace("recipes: [", f"recipes: [{recipes}")
    (room.home / "boot.yaml").write_text(text)
    made = room.appliance(CONFIG + "boot: {{enabled: true, manifest: {home}/boot.yaml}}\n")
    boot(made, "fetch")
    boot(made, "publish")
    for mac, profile in machines.items():
        boot(made, "host", "set", mac, "--profile", profile, "--var", "console=ttyS0,115200")
    return made, boot(made, "dhcp", "dnsmasq")


def boots(machine: Machine) -> None:
    machine.wait(KERNEL, 10 * MINUTE)
    machine.wait(USERSPACE, 6 * MINUTE)


def dhcp(room: Lab, lines: str) -> None:
    room.dnsmasq("dhcp-range=192.0.2.50,192.0.2.99,255.255.255.0,1h", lines)


def test_bios_by_ipxe_and_uefi_by_shim_and_grub_reach_the_installer_at_once(room: Lab) -> None:
    made, lines = provision(room, {BIOS_MAC: "debian-12", UEFI_MAC: "debian-12"})
    dhcp(room, lines)
    machines = [room.machine("uefi", UEFI_MAC), room.machine("bios", BIOS_MAC)]
    for machine in machines:
        boots(machine)
    log = made.log.read_text()
    assert 'grub/grub.cfg-01-52-54-00-00-00-02", "bytes"' in log
    assert 'ipxe/mac-52-54-00-00-00-01.ipxe", "bytes"' in log


@pytest.mark.exhaustive
def test_bios_by_pxelinux_and_uefi_by_ipxe_reach_the_kernel(room: Lab) -> None:
    made, lines = provision(room, {BIOS_MAC: "debian-12", UEFI_MAC: "debian-12"})
    # QEMU's BIOS card has iPXE for its ROM: here it is told what a ROM of another maker is told
    lines = "".join(line + "\n" for line in lines.splitlines() if line != f"dhcp-boot=tag:ipxe,boot.ipxe,,{SERVER}")
    lines = lines.replace("tag:!ipxe,tag:bios", "tag:bios").replace("shimx64.efi", "snponly.efi")
    dhcp(room, f"{lines}dhcp-boot=tag:ipxe,tag:x64-efi,boot.ipxe,,{SERVER}")
    for machine in [room.machine("uefi", UEFI_MAC), room.machine("bios", BIOS_MAC)]:
        machine.wait(KERNEL, 10 * MINUTE)
    log = made.log.read_text()
    assert 'pxelinux.cfg/01-52-54-00-00-00-01", "bytes"' in log
    assert 'ipxe/mac-52-54-00-00-00-02.ipxe", "bytes"' in log


@pytest.mark.exhaustive
def test_with_the_recipes_for_boards_u_boot_reaches_the_kernel(room: Lab) -> None:
    _made, lines = provision(room, {U_BOOT_MAC: "debian-12-arm64"}, recipes="u-boot, debian-12-arm64, ")
    dhcp(room, f"{lines}dhcp-boot=boot.scr.uimg,,{SERVER}")
    machine = room.machine("u-boot", U_BOOT_MAC)
    machine.wait(b"Hit any key", 3 * MINUTE)
    machine.type(b" ")
    machine.wait(b"=> ", 5 * MINUTE)
    machine.type(b"setenv autoload no; dhcp; pxe get && pxe boot\r")
    machine.wait(KERNEL, 10 * MINUTE)
