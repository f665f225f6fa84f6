"""A state_dir/boot and two roots in a folder, what lies in them, and how whole that is."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from appliance.boot import disk, records
from appliance.boot.publish import Home, Keep
from appliance.boot.records import File, Given, Release

ROOTS = ("tftp", "ftp")


def lay_out(place: Path) -> Path:
    """Folders as `house` makes them."""
    (place / "boot").mkdir(parents=True)
    for root in ROOTS:
        (place / root / ".releases").mkdir(parents=True)
        (place / root / "by-hand").write_text("copied by hand")
    return place


@contextmanager
def home(place: Path) -> Iterator[Home]:
    with ExitStack() as opened:
        fds = {}
        for name in (*ROOTS, "boot"):
            fds[name] = os.open(place / name / (".releases" if name in ROOTS else ""), disk.FOLDER)
            opened.callback(os.close, fds[name])
        boot = fds.pop("boot")
        with Home(boot, fds) as found:
            yield found


def file(content: bytes) -> int:
    with tempfile.TemporaryFile() as made:
        made.write(content)
        made.flush()
        return os.dup(made.fileno())


def put(where: Home, path: str, content: bytes, roots: tuple[str, ...] = ROOTS) -> File:
    """Content in the store, as a file of a release."""
    fd = file(content)
    try:
        digest, size = where.store.add(fd, 1 << 30)
    finally:
        os.close(fd)
    return File(path, size, digest, "test", "sha256", roots)


def made(where: Home, created: int, **contents: bytes) -> Release:
    """A release of files; `__` in a name is a slash."""
    files = [put(where, name.replace("__", "/"), content) for name, content in contents.items()]
    return records.make(created, "", files, {"rendered": "from"})


def keep(releases: int) -> Keep:
    """So many releases, and no client is pinned to any."""
    return Keep(releases, 1_000_000, 0.0)


OVERLAY = (Given("tftp", "pxelinux.cfg/01-52-54-00-00-00-01", b"default one\n"),)


def whole(place: Path) -> Release | None:
    """The release that is served, after every file of it was hashed in every root; None when none is served."""
    try:
        name, overlay = records.decode_current((place / "boot" / "current").read_bytes())
    except FileNotFoundError:
        return None
    release = records.decode((place / "boot" / "releases" / f"{name}.json").read_bytes())
    for root in ROOTS:
        tree = place / root / ".releases" / name
        there = {str(path.relative_to(tree)) for path in tree.rglob("*") if not path.is_dir()}
        assert there == {one.path for one in release.files if root in one.roots}
        for one in release.files:
            if root in one.roots:
                content = (tree / one.path).read_bytes()
                assert hashlib.sha256(content).hexdigest() == one.sha256 and len(content) == one.size
        assert (place / root / ".releases" / f"overlay-{overlay}").is_dir()
        listed = (place / root / ".releases" / f"{name}.sums").read_text().splitlines()
        assert listed == [f"{one.sha256}  {one.path}" for one in release.files if root in one.roots]
        assert (place / root / "by-hand").read_text() == "copied by hand"
    rendered = place / "tftp" / ".releases" / f"overlay-{overlay}" / OVERLAY[0].path
    assert rendered.read_bytes() == OVERLAY[0].content
    return release


def leftovers(place: Path) -> list[str]:
    """Half-made and half-removed things anywhere."""
    found = [path for path in place.rglob(".*") if path.name.startswith((disk.NEW, disk.OLD))]
    return [str(path.relative_to(place)) for path in found]
