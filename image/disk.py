"""The disk of the image: where each partition lies, and how its bytes get there without a loop device or a mount.

Slots and data are found by the names of their partitions. The second slot is empty: room for the next system.
"""

from __future__ import annotations

import os
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20
SECTOR = 512
_BIOS = "21686148-6449-6E6F-744E-656564454649"
_ESP = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
_FAT = "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7"
_LINUX = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
# what grub-install does (GRUB 2.06, util/setup.c and include/grub/i386/pc/boot.h)
_BOOT_CORE, _BOOT_DRIVE_CHECK, _CORE_REST = 0x5C, 0x66, SECTOR - 12


@dataclass(frozen=True, slots=True)
class Part:
    """A partition: its name, its type, where it begins and how long it is, in bytes."""

    name: str
    kind: str
    start: int
    size: int


def parts(slot: int, data: int) -> tuple[Part, ...]:
    """All of them in their order, for a slot and a data partition of so many bytes."""
    wanted = (
        ("appliance-bios", _BIOS, MIB),
        ("appliance-esp", _ESP, 64 * MIB),
        ("appliance-seed", _FAT, 8 * MIB),
        ("appliance-root-a", _LINUX, slot),
        ("appliance-root-b", _LINUX, slot),
        ("appliance-data", _LINUX, data),
    )
    made, start = [], MIB
    for name, kind, size in wanted:
        made.append(Part(name, kind, start, size))
        start += size
    return tuple(made)


def partition(image: Path, disk: str, found: tuple[Part, ...]) -> None:
    """An empty sparse file with a GPT. `disk`: its UUID; those of the partitions follow from it."""
    end = found[-1].start + found[-1].size + MIB
    with image.open("wb") as file:
        file.truncate(end)
    lines = ["label: gpt", f"label-id: {disk}", "unit: sectors"]
    for number, part in enumerate(found, 1):
        uuid = f"{disk[:-2]}{number:02x}"
        where = f"start={part.start // SECTOR}, size={part.size // SECTOR}"
        lines.append(f'{where}, type={part.kind}, uuid={uuid}, name="{part.name}"')
    run("sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", str(image), text="\n".join(lines))


def boot_by_bios(image: Path, boot: bytes, core: bytes, place: Part) -> None:
    """GRUB's first sector into that of the disk, its core into the partition for it."""
    if len(core) > place.size:
        raise SystemExit("GRUB's core does not fit its partition")
    first = bytearray(boot[:440])
    struct.pack_into("<Q", first, _BOOT_CORE, place.start // SECTOR)
    first[_BOOT_DRIVE_CHECK : _BOOT_DRIVE_CHECK + 2] = b"\x90\x90"
    rest = bytearray(core)
    struct.pack_into("<Q", rest, _CORE_REST, place.start // SECTOR + 1)
    put(image, bytes(first), 0)
    put(image, bytes(rest), place.start)


def put(image: Path, content: bytes, at: int) -> None:
    """Bytes to a place of the image."""
    with image.open("r+b") as file:
        file.seek(at)
        file.write(content)


def fat(image: Path, part: Part, label: str, serial: str, files: dict[str, bytes], scratch: Path) -> None:
    """A FAT file system with these files."""
    width = "16" if part.size >= 32 * MIB else "12"  # by itself it goes by the size of the whole image
    where = ("--offset", str(part.start // SECTOR), str(image), str(part.size // 1024))
    run("mkfs.vfat", "--invariant", "-F", width, "-i", serial, "-n", label, *where)
    drive = f"{image}@@{part.start}"
    for folder in sorted({str(above) for name in files for above in Path(name).parents if str(above) != "."}):
        run("mmd", "-i", drive, f"::{folder}")
    for name, content in sorted(files.items()):
        given = scratch / "given"
        given.write_bytes(content)
        epoch = int(os.environ["SOURCE_DATE_EPOCH"])
        os.utime(given, (epoch, epoch))
        run("mcopy", "-m", "-i", drive, str(given), f"::{name}")


def ext4(image: Path, part: Part, uuid: str, tree: Path | None, *, journal: bool) -> None:
    """An ext4 file system, with what is in `tree`. A slot is never written, so it has no journal."""
    options = ["-E", f"offset={part.start},hash_seed={uuid},lazy_itable_init=0,root_owner=0:0"]
    if not journal:
        options += ["-O", "^has_journal", "-m", "0"]
    if tree is not None:
        options += ["-d", str(tree)]
    when = {"E2FSPROGS_FAKE_TIME": os.environ["SOURCE_DATE_EPOCH"]}
    run("mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-L", part.name[-16:], "-U", uuid, *options, str(image),
        f"{part.size // 1024}k", **when)  # fmt: skip


def run(*argv: str, text: str = "", **environment: str) -> str:
    """A program of this machine; ends the build with what it said when it fails."""
    done = subprocess.run(
        argv, input=text, capture_output=True, text=True, env={**os.environ, **environment}, errors="replace"
    )
    if done.returncode:
        raise SystemExit(f"{argv[0]} failed: {done.stderr[-3000:] or done.stdout[-3000:]}")
    return done.stdout
