"""Where a release and the files of single machines lie in a served root, and the order in which they are asked. Pure.

    .releases/overlay-N/once/NAME    for a machine with a one-shot boot, while that is not used up (`once/.index` tells)
    .releases/overlay-N/NAME         for single machines
    .releases/ID/NAME                the release
    NAME                             what lies in the root by hand

The first that exists is what a name means. `.releases` itself exists for no client, in whatever spelling.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

HIDDEN = ".releases"
ONCE = "once"  # in the overlay: files for one boot only; no client means it by this name
INDEX = f"{ONCE}/.index"  # in the overlay: which one-shot each file below once/ belongs to
ID_SIZE = 24
OVERLAY_MAX = (1 << 31) - 1
_ID = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{8}")
_INDEX_LINE = re.compile(rb"([0-9a-f]{16}) ([^\0]{1,1000})")
_HIDDEN, _OVERLAY = HIDDEN.encode(), b"overlay-"
_CONFIGS = (b"extlinux.conf", b"syslinux.cfg", b"isolinux.cfg", b"elilo.conf", b"config.txt", b"bcd")
_APART = (ONCE.encode(), f"{ONCE}/".encode())


def is_id(text: str) -> bool:
    """Whether this may be the name of a release: YYYYMMDD-HHMMSS- and eight hex digits of its manifest's digest."""
    return _ID.fullmatch(text) is not None


def hidden(path: bytes) -> bool:
    """Whether a part of a path is the name that exists for no client."""
    folded = path.lower()
    return _HIDDEN in folded and _HIDDEN in folded.split(b"/")


def folder_of(release: str) -> bytes:
    """The folder of a release, relative to the root."""
    return b"%b/%b" % (_HIDDEN, release.encode())


def overlay_of(number: int) -> bytes:
    """The folder of an overlay, relative to the root."""
    return b"%b/overlay-%d" % (_HIDDEN, number)


def is_loader_config(path: bytes) -> bool:
    """Whether a name is that of a configuration which a boot loader begins with: PXELINUX, U-Boot, GRUB, iPXE, ..."""
    folder, _slash, name = path.lower().rpartition(b"/")
    return (
        folder.endswith(b"pxelinux.cfg") or name.startswith(b"grub.cfg") or name.endswith(b".ipxe") or name in _CONFIGS
    )


def split(path: bytes) -> tuple[str, bytes]:
    """The layer that a path of `Layers.places` lies in (once, overlay, release or static), and its name there."""
    if not path.startswith(_HIDDEN + b"/"):
        return "static", path
    _hidden, layer, name = path.split(b"/", 2)
    if not layer.startswith(_OVERLAY):
        return "release", name
    return ("once", name[len(_APART[1]) :]) if name.startswith(_APART[1]) else ("overlay", name)


def index_text(keys: Mapping[str, str]) -> bytes:
    """The index of an overlay for these files of one-shot boots: path below once/ -> key of the arming."""
    return b"".join(b"%b %b\n" % (key.encode(), name.encode()) for name, key in sorted(keys.items()))


def read_index(content: bytes) -> dict[bytes, bytes]:
    """Path -> key of the arming, from the index of an overlay; lines of another form are left out."""
    found = (_INDEX_LINE.fullmatch(line) for line in content.split(b"\n"))
    return {one[2]: one[1] for one in found if one is not None}


def ways_to(paths: Iterable[bytes]) -> frozenset[bytes]:
    """All folders above these files, but the root."""
    parts = (path.split(b"/")[:-1] for path in paths)
    return frozenset(b"/".join(above[: depth + 1]) for above in parts for depth in range(len(above)))


class Layers(NamedTuple):
    """What one client sees: `number` is that of the release, 0 where nothing is published.

    `overlay` and `release` are folders with a slash at the end; `once` says where files of one-shot boots are, `ways`
    are the folders that lead to their names: a client of FTP enters them (GNU wget, curl), and sees nothing in them.
    """

    number: int = 0
    overlay: bytes = b""
    release: bytes = b""
    once: Mapping[bytes, bytes] = {}
    ways: frozenset[bytes] = frozenset()

    @property
    def release_id(self) -> bytes:
        """The name of the release; b"" where nothing is published."""
        return self.release.rstrip(b"/").rpartition(b"/")[2]

    def places(self, path: bytes) -> tuple[bytes, ...]:
        """Where a clean path may be, the first that exists counts; the last is what lies in the root by hand."""
        if not self.number:
            return (path,)
        if path[:5].lower() in _APART:  # as a name it is not meant in the overlay
            return (self.release + path, path)
        single = self.once.get(path)
        if single is not None:
            return (single, self.overlay + path, self.release + path, path)
        return (self.overlay + path, self.release + path, path)


PLAIN = Layers()
