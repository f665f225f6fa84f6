"""Lay the files over a target's root. What an operator may have changed is never overwritten; twice is once."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from appliance.errors import ApplianceError
from appliance.install.layout import Item

_PACKAGE = "/var/lib/dpkg/info/appliance.list"


@dataclass(frozen=True, slots=True)
class Step:
    """What becomes of one file: `verb` is new, same, replaced, or kept (ours lies beside it as NAME.new)."""

    verb: str
    path: str


def plan(root: str, items: Iterable[Item]) -> list[tuple[Step, Item]]:
    """What would be done. Raises ApplianceError for a root that is none, or that dpkg has in its hands."""
    if not os.path.isdir(root):
        raise ApplianceError(f"{root} is not a folder (name the root of a system)")
    if os.path.exists(_inside(root, _PACKAGE)):
        raise ApplianceError(
            f"the Debian package is installed in {root}: apt lays its files (apt-get install ./appliance_*.deb)"
        )
    return [(Step(_verb(_inside(root, item.path), item), item.path), item) for item in items]


def _verb(place: str, item: Item) -> str:
    try:
        with open(place, "rb") as file:
            there = file.read()
    except FileNotFoundError:
        return "new"
    except OSError as error:
        raise ApplianceError(f"{place}: {error.strerror} (move it away)") from error
    return "same" if there == item.content else "kept" if item.config else "replaced"


def carry_out(root: str, planned: Iterable[tuple[Step, Item]], folders: Iterable[str]) -> Iterator[Step]:
    """Do it, file by file, each whole or not at all. Raises ApplianceError, after which it can be done again."""
    try:
        for folder in folders:
            os.makedirs(_inside(root, folder), mode=0o755, exist_ok=True)
        for step, item in planned:
            place = _inside(root, item.path)
            if step.verb != "same":
                _write(f"{place}.new" if step.verb == "kept" else place, item)
            yield step
    except OSError as error:
        remedy = "what was laid so far is whole; mend that and do it again"
        raise ApplianceError(f"{error.filename}: {error.strerror} ({remedy})") from error


def _write(place: str, item: Item) -> None:
    os.makedirs(os.path.dirname(place), mode=0o755, exist_ok=True)
    half = f"{place}.{secrets.token_hex(4)}"
    try:
        descriptor = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with open(descriptor, "wb") as file:
            file.write(item.content)
            os.fchmod(descriptor, item.mode)
            file.flush()
            os.fsync(descriptor)
        os.rename(half, place)
    except BaseException:
        if os.path.lexists(half):
            os.unlink(half)
        raise


def _inside(root: str, path: str) -> str:
    """A path of the target. Raises ApplianceError where a link in the target leads out of it."""
    top = os.path.realpath(root)
    place = os.path.join(top, path.lstrip("/"))
    real = os.path.join(os.path.realpath(os.path.dirname(place)), os.path.basename(place))
    if os.path.commonpath([top, real]) != top:
        raise ApplianceError(
            f"{path} leads out of {root} by a link, to {real} (mend the link, or run inside: chroot {root})"
        )
    return real
