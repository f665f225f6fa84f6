"""What the heads of boot files say: for which processor, signed by whom, revoked from which generation on. Pure.

PE: Microsoft's PE format. Linux: Documentation/arch/x86/boot.rst and arm64/booting.rst of the kernel. SBAT: SBAT.md of
shim. Whatever the bytes are, nothing is raised: what cannot be told is None or empty.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

_MACHINES = {
    0x8664: "x64-efi",
    0x14C: "ia32-efi",
    0xAA64: "arm64-efi",
    0x1C0: "arm32-efi",
    0x1C2: "arm32-efi",
    0x1C4: "arm32-efi",
}
_LEVEL = re.compile(rb"sbat,1,[0-9]{10}\n(?:[A-Za-z0-9._-]+,[0-9]+\n)+")
_COMMON_NAME = b"\x06\x03\x55\x04\x03"  # the attribute type of a certificate's common name (X.520)


@dataclass(frozen=True, slots=True)
class Pe:
    """An EFI program: the architecture of its clients, and its sections as (offset, length) in the file."""

    arch: str
    sections: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    signature: bytes = b""


def pe(data: bytes) -> Pe | None:
    """The head of an EFI program; None for what is none."""
    try:
        start = struct.unpack_from("<I", data, 0x3C)[0]
        if data[:2] != b"MZ" or data[start : start + 4] != b"PE\0\0":
            return None
        machine, count = struct.unpack_from("<HH", data, start + 4)
        size, magic = struct.unpack_from("<H", data, start + 20)[0], struct.unpack_from("<H", data, start + 24)[0]
        table = start + 24 + (112 if magic == 0x20B else 96) + 4 * 8  # the fifth directory: certificates
        at, length = struct.unpack_from("<II", data, table)
        sections = {}
        for i in range(min(count, 96)):
            entry = start + 24 + size + 40 * i
            name = data[entry : entry + 8].rstrip(b"\0").decode("ascii", "replace")
            used, _, stored, offset = struct.unpack_from("<IIII", data, entry + 8)
            sections[name] = (offset, min(used, stored))
    except struct.error:
        return None
    return Pe(_MACHINES.get(machine, ""), sections, data[at : at + length] if at else b"")


def linux_arch(data: bytes) -> str:
    """The processor that a Linux kernel is for; empty where it cannot be told."""
    if data[0x202:0x206] == b"HdrS":
        is_64 = len(data) > 0x237 and data[0x206:0x208] >= b"\x0c\x02" and data[0x236] & 1
        return "x86_64" if is_64 else "i386"
    return "arm64" if data[0x38:0x3C] == b"ARM\x64" else ""


def elf_bits(data: bytes) -> int:
    """32 or 64 for an ELF file (a module of PXELINUX is 32, one of Syslinux for UEFI x64 is 64); 0 for none."""
    return {1: 32, 2: 64}.get(data[4] if data[:4] == b"\x7fELF" and len(data) > 4 else 0, 0)


def sbat(data: bytes) -> dict[str, int]:
    """The components of an EFI program with their generations."""
    found = pe(data)
    if found is None or ".sbat" not in found.sections:
        return {}
    offset, length = found.sections[".sbat"]
    return _generations(data[offset : offset + length])


def sbat_level(data: bytes) -> dict[str, int]:
    """What a shim asks for when it runs: components with the lowest generation that it lets run (the newest list)."""
    levels = sorted(_LEVEL.findall(data))
    return _generations(levels[-1]) if levels else {}


def _generations(text: bytes) -> dict[str, int]:
    found = {}
    for line in text.split(b"\0")[0].splitlines():
        parts = line.split(b",")
        if len(parts) >= 2 and parts[1].isdigit() and len(parts[1]) < 10:
            found[parts[0].decode("ascii", "replace")] = int(parts[1])
    found.pop("sbat", None)
    return found


def revoked(shim: bytes, program: bytes) -> tuple[str, int, int] | None:
    """The first component of a program that a shim does not let run, with its generation and the one asked for."""
    have = sbat(program)
    for name, least in sbat_level(shim).items():
        if name in have and have[name] < least:
            return name, have[name], least
    return None


def common_names(der: bytes) -> list[str]:
    """The common names in DER: those of a certificate's issuer and subject, in their order."""
    names = []
    at = der.find(_COMMON_NAME)
    while at >= 0:
        head = at + len(_COMMON_NAME)
        if len(der) > head + 1 and der[head] in (0x0C, 0x13, 0x14, 0x16) and der[head + 1] < 0x80:
            names.append(der[head + 2 : head + 2 + der[head + 1]].decode("utf-8", "replace"))
        at = der.find(_COMMON_NAME, head)
    return names


def signers(data: bytes) -> list[str]:
    """The common names in the signatures of an EFI program, each once; empty when it is not signed."""
    found = pe(data)
    return list(dict.fromkeys(common_names(found.signature))) if found else []


def trusts(shim: bytes, program: bytes) -> bool | None:
    """Whether a certificate that stands in a shim is named in a program's signature; None when a shim has none inside.

    Names are compared, no signature is computed: it tells a Fedora GRUB from a Debian shim, and a forgery from neither.
    """
    if pe(shim) is None:
        return None
    inside = shim.replace(pe_signature(shim), b"") if pe_signature(shim) else shim
    built_in = set(common_names(inside))
    return bool(built_in & set(signers(program))) if built_in else None


def pe_signature(data: bytes) -> bytes:
    """The signature of an EFI program, empty when it has none."""
    found = pe(data)
    return found.signature if found else b""
