"""The served tree, read-only, relative to the working directory of the process (the root of its jail).

What a path means is looked for in the layers of what is published, then in the root itself.

There is no method that writes. Paths arrive resolved (`policy.resolve`), so no `..` is left, and the jail decides where
a symbolic link can lead. A path is opened once and judged by fstat on what was opened: a FIFO or device never blocks.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass

from appliance.published.layers import PLAIN, Layers, split
from appliance.published.walk import Guard

OPEN = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_SHOWN, _SHOWN_LINE = 4096, 500  # bytes of a text that is shown, characters of one of its lines
KIND = 0o170000  # of the mode
MISSING = (errno.ENOENT, errno.ENOTDIR)  # in one layer: the next one is asked
GUARD = Guard()


def real(path: str) -> bytes:
    """The name that the kernel is given: relative, with the bytes that the client sent."""
    return path[1:].encode("utf-8", "surrogateescape") or b"."


class _KeptOut:
    """What this process could read and must not: without root all processes have one uid.

    `path`, resolved, is the folder of the drop box; None where the kernel keeps us out by itself. `root`, resolved: in
    it, folders that are closed to everybody but their owner are no more served than they are where we run as root; one
    of them was a drop box yesterday, and what lies in it was never released. Links in the tree are the operator's, so
    what they lead to does not change between this look and the next.
    """

    path: bytes | None = None
    root: bytes | None = None


def keep_out(box: str) -> None:
    """From now on nothing is opened in this folder, whatever links lead there. For the start of a worker."""
    _KeptOut.path = os.path.realpath(real(box)) if os.access(real(box), os.R_OK | os.X_OK) else None


def keep_out_of_closed() -> None:
    """From now on nothing is opened in folders of mode 0700. For the start of a worker that has its owner's uid."""
    _KeptOut.root = os.path.realpath(b".")


def outside(path: str, *, itself: bool = False) -> bytes:
    """`real`, of what may be opened. `itself`: also the drop box, to be looked at. Raises FileNotFoundError."""
    name = real(path)
    if _KeptOut.path is not None or _KeptOut.root is not None:
        found = os.path.realpath(name)
        box = _KeptOut.path
        if box is not None and (found.startswith(box + b"/") or (found == box and not itself)):
            raise FileNotFoundError(errno.ENOENT, "in the drop box")
        if _KeptOut.root is not None and _closed(os.path.dirname(found) if itself else found, _KeptOut.root):
            raise FileNotFoundError(errno.ENOENT, "in a folder that is closed to others")
    return name


def _closed(place: bytes, root: bytes) -> bool:
    """Whether it is, or lies in, a folder below `root` that is closed to everybody but its owner."""
    while len(place) > len(root):
        try:
            mode = os.lstat(place).st_mode
        except OSError:
            mode = 0  # what is not there is told by who opens it
        if stat.S_ISDIR(mode) and not mode & 0o077:
            return True
        place = os.path.dirname(place)
    return False


@dataclass(slots=True)
class OpenFile:
    """A regular file open for reading. Whoever holds it closes it.

    `layer`: of what is published, where it lies, and `name`: what it is called there.
    """

    fd: int
    size: int
    device: int = 0
    layer: str = "static"
    name: bytes = b""

    def close(self) -> None:
        """Let the descriptor go; may be called twice."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def open_file(path: str, layers: Layers = PLAIN) -> OpenFile:
    """Open a regular file. Raises OSError; for anything that is no regular file, as if it did not exist."""
    place, fd, found = _first(path, layers, _opened)
    if not stat.S_ISREG(found.st_mode):
        os.close(fd)
        raise FileNotFoundError(errno.ENOENT, "not a regular file")
    return OpenFile(fd, found.st_size, found.st_dev, *split(place))


def _opened(place: bytes) -> tuple[int, os.stat_result]:
    fd = os.open(place, OPEN)
    try:
        return fd, os.fstat(fd)
    except BaseException:
        os.close(fd)
        raise


def _looked_at(place: bytes) -> tuple[int, os.stat_result]:
    return -1, os.stat(place)


def _first(
    path: str, layers: Layers, attempt: Callable[[bytes], tuple[int, os.stat_result]]
) -> tuple[bytes, int, os.stat_result]:
    """The first place where a path exists, and what `attempt` makes of it. Raises OSError."""
    named = outside(path, itself=attempt is _looked_at and not path.endswith("/."))
    *published, by_hand = layers.places(named)
    for place in published:
        try:
            return place, *attempt(place)
        except OSError as error:
            if error.errno not in MISSING:
                raise
    fd, found = attempt(by_hand)
    if layers.number and GUARD.astray(by_hand, (found.st_dev, found.st_ino)):
        if fd >= 0:
            os.close(fd)
        raise FileNotFoundError(errno.ENOENT, "a link into the folder of the releases")
    return by_hand, fd, found


def lines_of(path: str, layers: Layers = PLAIN) -> list[str]:
    """The lines of a small text that is shown to clients; what cannot be printed is left out. Raises OSError."""
    file = open_file(path, layers)
    try:
        text = os.pread(file.fd, _SHOWN, 0).decode("utf-8", "replace")
    finally:
        file.close()
    return ["".join(filter(str.isprintable, line.expandtabs()))[:_SHOWN_LINE] for line in text.splitlines()]


def look(path: str, layers: Layers = PLAIN) -> os.stat_result:
    """What a path leads to, symbolic links followed. Raises OSError; only files and folders exist for a client."""
    _place, _fd, found = _first(path, layers, _looked_at)
    if not served(found.st_mode):
        raise FileNotFoundError(errno.ENOENT, "neither file nor folder")
    return found


def is_folder(found: os.stat_result) -> bool:
    """True for a folder."""
    return stat.S_ISDIR(found.st_mode)


def exists(path: str, layers: Layers = PLAIN) -> bool:
    """True when `look` finds something."""
    try:
        look(path, layers)
    except OSError:
        return False
    return True


def enter(path: str, layers: Layers = PLAIN) -> None:
    """Check that a path is a folder that can be entered. Raises OSError."""
    if real(path) in layers.ways:  # to a file for one boot only, which whoever knows its name may read
        return
    if not is_folder(look(path, layers)):
        raise NotADirectoryError(errno.ENOTDIR, "a file")
    _first(
        path.rstrip("/") + "/.", layers, _looked_at
    )  # the dot asks for the right to search, not only for being there


def served(mode: int) -> bool:
    return mode & KIND in (stat.S_IFREG, stat.S_IFDIR)
