"""Releases and overlays made by hand, with the one commit point that the publisher has: a rename of `current`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

Files = Mapping[str, bytes]


def name(number: int) -> str:
    """The name of a release."""
    return f"20260101-{number:06}-{number:08x}"


def make(folder: Path, files: Files) -> None:
    """A folder with these files, readable by everybody."""
    folder.mkdir(parents=True, exist_ok=True)
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)


def release(root: Path, number: int, files: Files) -> str:
    """The tree of release `number`; its name."""
    make(root / ".releases" / name(number), files)
    return name(number)


def overlay(root: Path, number: int, files: Files) -> None:
    """The tree of an overlay."""
    make(root / ".releases" / f"overlay-{number}", files)


def commit(state: Path, release: str, overlay: int) -> None:
    """Say that these are in force."""
    (state / "boot").mkdir(parents=True, exist_ok=True)
    (state / "boot" / "format").write_text("1\n")
    (state / "boot" / "current.new").write_text(f"{release} {overlay}\n")
    os.rename(state / "boot" / "current.new", state / "boot" / "current")
