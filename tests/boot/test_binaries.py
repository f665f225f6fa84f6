"""Heads of boot files: what is told of them, and that no bytes raise anything."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.boot import binaries

NAME = b"\x06\x03\x55\x04\x03\x0c"


def common_name(text: str) -> bytes:
    return NAME + bytes([len(text)]) + text.encode()


def program(
    machine: int = 0x8664, sbat: str = "", signed_by: str = "", inside: bytes = b"", wide: bool = True
) -> bytes:
    """A PE file with a section .sbat and a certificate table, as far as anybody looks at them."""
    optional = struct.pack("<H", 0x20B if wide else 0x10B) + b"\0" * (110 if wide else 94)
    body = sbat.encode() + b"\0\0" + inside
    head = 0x80 + 24 + len(optional) + 16 * 8 + 40
    signature = common_name(signed_by) if signed_by else b""
    directories = b"\0" * 32 + struct.pack("<II", head + len(body) if signature else 0, len(signature)) + b"\0" * 88
    coff = b"PE\0\0" + struct.pack("<HHIIIHH", machine, 1, 0, 0, 0, len(optional) + len(directories), 0)
    section = b".sbat\0\0\0" + struct.pack("<IIII", len(sbat), 0, len(body), head) + b"\0" * 16
    start = b"MZ" + b"\0" * 0x3A + struct.pack("<I", 0x80) + b"\0" * 0x40
    return start + coff + optional + directories + section + body + signature


LEVELS = b"sbat,1,2024010100\nshim,2\ngrub,3\n\0sbat,1,2025021800\nshim,4\ngrub,5\n"
SHIM = program(sbat="shim,4,x\n", signed_by="Microsoft", inside=LEVELS + common_name("Debian CA"))


@pytest.mark.parametrize(
    ("machine", "arch"),
    [(0x8664, "x64-efi"), (0x14C, "ia32-efi"), (0xAA64, "arm64-efi"), (0x1C2, "arm32-efi"), (1, "")],
)
def test_an_efi_program_is_for_one_architecture(machine: int, arch: str) -> None:
    for wide in (True, False):
        found = binaries.pe(program(machine, wide=wide))
        assert found is not None and found.arch == arch


def test_what_is_no_efi_program_is_none() -> None:
    assert binaries.pe(b"") is None
    assert binaries.pe(b"MZ" + b"\0" * 100) is None
    assert binaries.pe(program()[:0x90]) is None
    assert binaries.sbat(b"x") == {} and binaries.signers(b"x") == [] and binaries.pe_signature(b"x") == b""
    assert binaries.trusts(b"x", b"y") is None


def test_kernels_tell_their_processor() -> None:
    x86 = bytearray(0x300)
    x86[0x202:0x208] = b"HdrS\x0f\x02"
    assert binaries.linux_arch(bytes(x86)) == "i386"
    x86[0x236] = 1
    assert binaries.linux_arch(bytes(x86)) == "x86_64"
    assert binaries.linux_arch(b"\0" * 0x38 + b"ARM\x64") == "arm64"
    assert binaries.linux_arch(b"") == ""


def test_modules_tell_how_wide_they_are() -> None:
    assert [binaries.elf_bits(head) for head in (b"\x7fELF\1", b"\x7fELF\2", b"\x7fELF", b"")] == [32, 64, 0, 0]


def test_a_shim_refuses_what_is_older_than_its_newest_list() -> None:
    assert binaries.sbat_level(SHIM) == {"shim": 4, "grub": 5}
    assert binaries.sbat(program(sbat="sbat,1,x\ngrub,4,y\nbad\nworse,x\n")) == {"grub": 4}
    assert binaries.revoked(SHIM, program(sbat="grub,4,x\n")) == ("grub", 4, 5)
    assert binaries.revoked(SHIM, program(sbat="grub,5,x\n")) is None
    assert binaries.revoked(program(), program(sbat="grub,1,x\n")) is None


def test_a_shim_trusts_whom_it_holds_the_certificate_of() -> None:
    assert binaries.signers(SHIM) == ["Microsoft"]
    assert binaries.trusts(SHIM, program(signed_by="Debian CA")) is True
    assert binaries.trusts(SHIM, program(signed_by="Fedora CA")) is False
    assert binaries.trusts(SHIM, program()) is False
    assert binaries.trusts(program(), program(signed_by="Debian CA")) is None
    assert binaries.common_names(NAME + b"\xff") == [] and binaries.common_names(NAME[:-1]) == []


@given(st.binary(max_size=600))
def test_no_bytes_raise_anything(data: bytes) -> None:
    binaries.pe(data)
    binaries.linux_arch(data)
    binaries.elf_bits(data)
    binaries.revoked(SHIM, data)
    binaries.trusts(data, SHIM)


@given(st.integers(0, len(SHIM) - 1), st.binary(min_size=1, max_size=8))
def test_no_changed_program_raises_anything(at: int, change: bytes) -> None:
    data = SHIM[:at] + change + SHIM[at + len(change) :]
    binaries.revoked(data, data)
    binaries.trusts(data, data)
