"""A name tells what a file is to a machine that boots."""

from __future__ import annotations

import pytest

from appliance.board.stages import ORDER, stage_of
from appliance.observe.macs import mac_in


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        ("pxelinux.0", "loader"),
        ("lpxelinux.0", "loader"),
        ("/bootnetx64.efi", "loader"),
        ("shimx64.efi", "loader"),
        ("grubx64.efi", "loader"),
        ("undionly.kpxe", "loader"),
        ("\\Boot\\x64\\wdsnbp.com", "loader"),
        ("Boot/bootmgr.exe", "loader"),
        ("\\x5cBoot\\x5cbootmgr.exe", "loader"),
        ("1a2b3c4d/start4.elf", "loader"),
        ("ldlinux.c32", "module"),
        ("debian-installer/amd64//boot/isolinux/ldlinux.c32", "module"),
        ("/grub/x86_64-efi/command.lst", "module"),
        ("revocations_sbat.efi", "module"),
        ("shim_certificate_0.efi", "module"),
        ("dtb/rockchip/board.dtb", "module"),
        ("pxelinux.cfg/01-52-54-00-12-34-56", "configuration"),
        ("pxelinux.cfg/0A4D0065", "configuration"),
        ("pxelinux.cfg/default", "configuration"),
        ("/grub/grub.cfg", "configuration"),
        ("grub.cfg-01-52-54-00-12-34-56", "configuration"),
        ("boot.ipxe", "configuration"),
        ("extlinux/extlinux.conf", "configuration"),
        ("config.txt", "configuration"),
        ("vmlinuz", "kernel"),
        ("d12/linux", "kernel"),
        ("images/vmlinuz-6.1.0-40-amd64", "kernel"),
        ("bzImage", "kernel"),
        ("memtest86+x64.bin", "kernel"),
        ("wimboot", "kernel"),
        ("1a2b3c4d/kernel8.img", "kernel"),
        ("xen.gz", "kernel"),
        ("initrd.gz", "initrd"),
        ("d12/initrd.img", "initrd"),
        ("initramfs-lts", "initrd"),
        ("tinycore.cpio.gz", "initrd"),
        ("live/filesystem.squashfs", "image"),
        ("sources/boot.wim", "image"),
        ("preseed.cfg", "answers"),
        ("hosts/user-data", "answers"),
        ("ks.cfg", "answers"),
        ("README", "other"),
        ("", "other"),
    ],
)
def test_the_names_that_firmware_asks_for(name: str, stage: str) -> None:
    assert stage_of(name) == stage


def test_every_stage_stands_in_the_order() -> None:
    assert {stage_of(name) for name in ("a.0", "a.c32", "grub.cfg", "vmlinuz", "initrd", "a.iso", "ks.cfg")} | {
        "dhcp"
    } == set(ORDER)


@pytest.mark.parametrize(
    ("name", "mac"),
    [
        ("pxelinux.cfg/01-52-54-00-AB-cd-56", "52:54:00:ab:cd:56"),
        ("/grub/grub.cfg-01-52-54-00-12-34-56", "52:54:00:12:34:56"),
        ("/grub/host-52:54:00:12:34:56.cfg", "52:54:00:12:34:56"),
        ("hosts/52-54-00-12-34-56.ipxe", "52:54:00:12:34:56"),
        ("52:54:00:12:34:56/user-data", "52:54:00:12:34:56"),
        ("pxelinux.cfg/44454c4c-5900-1059-8043-c4c04f4d3132", ""),
        ("pxelinux.cfg/0A4D0065", ""),
        ("vmlinuz-6.1.0", ""),
    ],
)
def test_a_mac_address_is_read_from_the_name_of_a_configuration(name: str, mac: str) -> None:
    assert mac_in(name) == mac


def test_a_name_of_any_length_is_looked_at_only_so_far() -> None:
    assert stage_of("a/" * 100_000 + "vmlinuz") == "kernel"
    assert mac_in("-" * 100_000) == ""
