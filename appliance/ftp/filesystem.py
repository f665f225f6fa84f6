"""The served tree, read-only, relative to the working directory of the process (the root of its jail).

There is no method that writes. Paths arrive resolved (`policy.resolve`), so no `..` is left, and the jail decides where
a symbolic link can lead. A path is opened once and judged by fstat on what was opened: a FIFO or device never blocks.
"""

from __future__ import annotations

import errno
import fnmatch
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import attrgetter

from appliance.ftp import listing
from appliance.ftp.policy import Rules

_OPEN = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_SLICE = 500  # entries looked at in one turn of the loop: about 4 ms
_NAMES = 5000  # names read from a folder in one turn
_SHOWN, _SHOWN_LINE = 4096, 500  # bytes of a text that is shown, characters of one of its lines
_BY_NAME = attrgetter("name")

Line = Callable[[os.DirEntry[bytes]], bytes]  # b"" leaves the entry out


def real(path: str) -> bytes:
    """The name that the kernel is given: relative, with the bytes that the client sent."""
    return path[1:].encode("utf-8", "surrogateescape") or b"."


@dataclass(slots=True)
class OpenFile:
    """A regular file open for reading. Whoever holds it closes it."""

    fd: int
    size: int

    def close(self) -> None:
        """Let the descriptor go; may be called twice."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def open_file(path: str) -> OpenFile:
    """Open a regular file. Raises OSError; for anything that is no regular file, as if it did not exist."""
    fd = os.open(real(path), _OPEN)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise FileNotFoundError(errno.ENOENT, "not a regular file")
    except BaseException:
        os.close(fd)
        raise
    return OpenFile(fd, found.st_size)


def lines_of(path: str) -> list[str]:
    """The lines of a small text that is shown to clients; what cannot be printed is left out. Raises OSError."""
    file = open_file(path)
    try:
        text = os.pread(file.fd, _SHOWN, 0).decode("utf-8", "replace")
    finally:
        file.close()
    return ["".join(filter(str.isprintable, line.expandtabs()))[:_SHOWN_LINE] for line in text.splitlines()]


def look(path: str) -> os.stat_result:
    """What a path leads to, symbolic links followed. Raises OSError; only files and folders exist for a client."""
    found = os.stat(real(path))
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
        raise FileNotFoundError(errno.ENOENT, "neither file nor folder")
    return found


def is_folder(found: os.stat_result) -> bool:
    """True for a folder."""
    return stat.S_ISDIR(found.st_mode)


def exists(path: str) -> bool:
    """True when `look` finds something."""
    try:
        look(path)
    except OSError:
        return False
    return True


def enter(path: str) -> None:
    """Check that a path is a folder that can be entered. Raises OSError."""
    os.stat(real(path) + b"/.")  # the dot asks for the right to search, not only for being there


class Listings:
    """Builds listings in slices: each generator yields bytes, or b"" where the loop may turn before there is more."""

    def __init__(self, rules: Rules, root: str = "") -> None:
        """`root`: the folder that clients see as /; paths that are given here begin with it."""
        self._rules = rules
        self._box = None if rules.box is None else root + rules.box
        self._skip = len(root)

    def long(self, path: str, now: float, pattern: str = "") -> Iterator[bytes]:
        """Lines of LIST. Raises OSError before the first slice when the path cannot be listed."""
        lines = listing.LongLines(now)

        def line(entry: os.DirEntry[bytes]) -> bytes:
            found, target = _followed(entry)
            if found is None:
                return b""
            return lines.line(entry.name, found, target)

        if pattern or stat.S_ISDIR(look(path).st_mode):
            return self._folder(path, line, pattern)
        found = look(path)
        return iter([lines.line(_last(path), found)])

    def facts(self, path: str, lines: listing.FactLines) -> Iterator[bytes]:
        """Lines of MLSD. Raises NotADirectoryError for a file (RFC 3659 section 7.2: 501), else OSError."""
        if not stat.S_ISDIR(look(path).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "a file")
        box = None if self._box is None else real(self._box)
        base = b"" if path == "/" else real(path).rstrip(b"/") + b"/"

        def line(entry: os.DirEntry[bytes]) -> bytes:
            try:
                found = entry.stat()
            except OSError:
                return b""
            if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
                return b""
            return lines.line(entry.name, found, base + entry.name == box)

        return self._folder(path, line)

    def fact(self, path: str, lines: listing.FactLines) -> bytes:
        """The one line of MLST, with the full path (RFC 3659 section 7.3). Raises OSError."""
        found = look(path)
        name = path[self._skip :].encode("utf-8", "surrogateescape")
        return lines.line(name, found, path == self._box)

    def names(self, path: str, pattern: str = "", typed: str = "") -> Iterator[bytes]:
        """Lines of NLST: names that serve as arguments of the next command (RFC 1123 section 4.1.2.7), so what was
        `typed` before the last slash stays before them. Raises OSError before the first slice."""
        folder = bool(pattern) or is_folder(look(path))
        if pattern or not folder:
            prefix = typed[: typed.rfind("/") + 1]
        else:
            prefix = "" if typed in ("", ".") else typed.rstrip("/") + "/"
        head = prefix.encode("utf-8", "surrogateescape")

        def line(entry: os.DirEntry[bytes]) -> bytes:
            try:
                known = entry.is_file() or entry.is_dir()
            except OSError:
                return b""
            return b"%b%b\r\n" % (head, entry.name) if known else b""

        return self._folder(path, line, pattern) if folder else iter([head + _last(path) + b"\r\n"])

    def _folder(self, path: str, line: Line, pattern: str = "") -> Iterator[bytes]:
        slices = self._slices(path, line, pattern)
        next(slices)  # opens the folder, so that a refusal is known before the transfer begins
        return slices

    def _slices(self, path: str, line: Line, pattern: str) -> Iterator[bytes]:
        entries: list[os.DirEntry[bytes]] = []
        with os.scandir(real(path)) as scan:
            yield b""
            for entry in scan:
                if self._shown(entry.name, pattern):
                    entries.append(entry)
                    if len(entries) % _NAMES == 0:
                        entries[-_NAMES:] = sorted(entries[-_NAMES:], key=_BY_NAME, reverse=True)
                        yield b""
        entries.sort(key=_BY_NAME, reverse=True)  # sorted runs are only merged: half the time for 100,000 names
        while entries:  # from the end, so that entries are given back slice by slice too: together it takes 48 ms
            piece = b"".join([line(entry) for entry in reversed(entries[-_SLICE:])])
            del entries[-_SLICE:]
            yield piece

    def _shown(self, name: bytes, pattern: str) -> bool:
        text = name.decode("utf-8", "surrogateescape")
        if self._rules.hides(text) or not listing.tellable(name):
            return False
        return not pattern or fnmatch.fnmatchcase(text, pattern)


def _last(path: str) -> bytes:
    return path.rpartition("/")[2].encode("utf-8", "surrogateescape")


def _followed(entry: os.DirEntry[bytes]) -> tuple[os.stat_result | None, bytes]:
    """The entry itself as LIST shows it, and where a link points; None for what does not exist for a client."""
    try:
        found = entry.stat(follow_symlinks=False)
        target = b""
        if stat.S_ISLNK(found.st_mode):
            target = os.readlink(entry.path)
            kind = entry.stat().st_mode
        else:
            kind = found.st_mode
    except OSError:
        return None, b""
    if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)) or not listing.tellable(target):
        return None, b""
    return found, target
