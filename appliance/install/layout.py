"""What is laid over a target: the files of rootfs/ and systemd/, with the path of the program that they start."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

PROGRAM = "/usr/bin/appliance"  # as the files name it
UNITS = "/usr/lib/systemd/system"
_HERE = Path(__file__).parent
_EXECUTABLE = ("/usr/bin/", "/etc/update-motd.d/")


@dataclass(frozen=True, slots=True)
class Item:
    """One file: absolute `path` in the target, permissions, bytes. `config`: the operator's once it is laid."""

    path: str
    mode: int
    content: bytes
    config: bool


def items(program: str, generated: Mapping[str, bytes]) -> list[Item]:
    """Every file in order of its path. `generated` adds what is made from the program itself (manual, completion)."""
    found = {**dict(_read("rootfs", "")), **dict(_read("systemd", UNITS)), **generated}
    return [_item(path, content, program) for path, content in sorted(found.items())]


def folders() -> tuple[str, ...]:
    """Folders that are there even without a file in them."""
    return ("/etc/appliance/conf.d",)


def _read(name: str, below: str) -> Iterator[tuple[str, bytes]]:
    root = _HERE / name
    for path in root.rglob("*"):
        if path.is_file():
            yield f"{below}/{path.relative_to(root)}", path.read_bytes()


def _item(path: str, content: bytes, program: str) -> Item:
    mode = 0o755 if path.startswith(_EXECUTABLE) or content.startswith(b"#!") else 0o644
    if program != PROGRAM and b"\0" not in content:
        content = content.replace(PROGRAM.encode(), program.encode())
    return Item(path, mode, content, config=path.startswith("/etc/"))
