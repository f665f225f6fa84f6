"""Disks with something on them to boot, that says so on the serial console."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.qemu.tree import package

SAID = b"BOOTED FROM DISK"
# xor ax,ax; mov ds,ax; mov dx,0x3f8; mov si,text; next: lodsb; test al,al; jz end; out dx,al; jmp next; end: hlt; ...
_CODE = bytes.fromhex("31c08ed8baf803be157cac84c07403eeebf8f4ebfd")
_GRUB = f"""\
serial --unit=0 --speed=115200
terminal_output serial
echo {SAID.decode()}
sleep 600
"""


def bios(path: Path) -> tuple[str, ...]:
    """A disk with a boot sector; the words that give it to QEMU."""
    sector = (_CODE + SAID + b"\r\n\0").ljust(510, b"\0") + b"\x55\xaa"
    path.write_bytes(sector.ljust(1 << 20, b"\0"))
    return ("-drive", f"file={path},format=raw,if=ide,snapshot=on")


def uefi(folder: Path) -> tuple[str, ...]:
    """A disk with a system partition as firmware looks for it; the words that give it to QEMU."""
    signed = package("grub-efi-amd64-signed") / "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed"
    for name in ("EFI/BOOT", "boot/grub", ".disk"):
        (folder / name).mkdir(parents=True)
    shutil.copyfile(signed, folder / "EFI/BOOT/BOOTX64.EFI")
    (folder / ".disk/info").write_text("what this GRUB looks for\n")
    (folder / "boot/grub/grub.cfg").write_text(_GRUB)
    return ("-drive", f"file=fat:{folder},format=raw,if=none,id=disk,snapshot=on",
            "-device", "virtio-blk-pci,drive=disk,bootindex=2")  # fmt: skip


def for_machine(kind: str, home: Path) -> tuple[str, ...]:
    """The disk that a machine of this kind can boot."""
    return bios(home / "disk.img") if kind == "bios" else uefi(home / "disk")
