"""The served tree, read-only, relative to the working directory of the process (the root of its jail).

What a path means is looked for in the layers of what is published, then in the root itself; folders show the union.

There is no method that writes. Paths arrive resolved (`policy.resolve`), so no `..` is left, and the jail decides where
a symbolic link can lead. A path is opened once and judged by fstat on what was opened: a FIFO or device never blocks.
"""

from __future__ import annotations

import errno
import fnmatch
import heapq
import itertools
import os
import re
import stat
import sys
from collections.abc import Callable, Generator, Hashable, Iterator
from dataclasses import dataclass
from operator import attrgetter

from appliance.ftp import listing
from appliance.ftp.policy import Rules
from appliance.ftp.renderings import Reader, Renderings, Stamp
from appliance.published.layers import HIDDEN, ONCE, PLAIN, Layers, split
from appliance.published.walk import Guard

_OPEN = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_SHOWN, _SHOWN_LINE = 4096, 500  # bytes of a text that is shown, characters of one of its lines
_FOLDER = _OPEN | os.O_DIRECTORY
_LONGEST_PATTERN, _WILDCARDS = 255, 16  # characters of a pattern, and of them such as stand for others
_SLICE = 100  # entries looked at in one slice: less than half a millisecond
_NAMES = 1000  # names read from a folder in one slice
_SORTED = 20_000  # names that are sorted in one go, in 3 ms; more are merged one by one, which takes longer in all
_BY_NAME = attrgetter("name")
_KIND = 0o170000  # of the mode
_MISSING = (errno.ENOENT, errno.ENOTDIR)  # in one layer: the next one is asked
_GUARD = Guard()
_ENCODING = sys.getfilesystemencoding()  # of the names that Python shows; its bytes are those of the folder

Match = Callable[[str], re.Match[str] | None]
# "" leaves the entry out; the descriptor is that of the folder. os.stat through it is faster than entry.stat
Line = Callable[[os.DirEntry[str], int], str]


def real(path: str) -> bytes:
    """The name that the kernel is given: relative, with the bytes that the client sent."""
    return path[1:].encode("utf-8", "surrogateescape") or b"."


class _KeptOut:
    """The folder of the drop box, where this process could read it: without root all processes have one uid.

    `path` is resolved, None where the kernel keeps us out by itself. Links in the tree are the operator's, so what they
    lead to does not change between this look and the next.
    """

    path: bytes | None = None


def keep_out(box: str) -> None:
    """From now on nothing is opened in this folder, whatever links lead there. For the start of a worker."""
    _KeptOut.path = os.path.realpath(real(box)) if os.access(real(box), os.R_OK | os.X_OK) else None


def _outside(path: str, *, itself: bool = False) -> bytes:
    """`real`, of what may be opened. `itself`: also the drop box, to be looked at. Raises FileNotFoundError."""
    name = real(path)
    if _KeptOut.path is not None:
        found = os.path.realpath(name)
        if found.startswith(_KeptOut.path + b"/") or (found == _KeptOut.path and not itself):
            raise FileNotFoundError(errno.ENOENT, "in the drop box")
    return name


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
    fd = os.open(place, _OPEN)
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
    named = _outside(path, itself=attempt is _looked_at and not path.endswith("/."))
    *published, by_hand = layers.places(named)
    for place in published:
        try:
            return place, *attempt(place)
        except OSError as error:
            if error.errno not in _MISSING:
                raise
    fd, found = attempt(by_hand)
    if layers.number and _GUARD.astray(by_hand, (found.st_dev, found.st_ino)):
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
    if not _served(found.st_mode):
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
    if not is_folder(look(path, layers)):
        raise NotADirectoryError(errno.ENOTDIR, "a file")
    _first(
        path.rstrip("/") + "/.", layers, _looked_at
    )  # the dot asks for the right to search, not only for being there


class Listings:
    """Listings of the tree as iterators of bytes, b"" where the loop may turn before there is more.

    Those of whole folders are shared by the sessions that ask at the same time (`renderings`). Each raises OSError
    before its first piece when the path cannot be listed, and BusyError. Whoever has an iterator closes it.
    """

    def __init__(self, rules: Rules, root: str = "", renderings: Renderings | None = None) -> None:
        """`root`: the folder that clients see as /; paths that are given here begin with it.

        `renderings`: what is shared with others; None is of its own.
        """
        self._rules = rules
        self._box = None if rules.box is None else root + rules.box
        self._skip = len(root)
        self.renderings = renderings or Renderings()

    def long(self, path: str, now: float, pattern: str = "", layers: Layers = PLAIN) -> Reader:
        """Lines of LIST; `now` is the wall clock."""
        lines = listing.LongLines(now)
        if not pattern and not is_folder(found := look(path, layers)):
            return self._one(lines.line(_last(path), found))

        def line(entry: os.DirEntry[str], folder: int) -> str:
            try:
                found = os.stat(entry.name, dir_fd=folder, follow_symlinks=False)
                if found.st_mode & _KIND == stat.S_IFREG:  # nearly all are, and the rest takes longer
                    return lines.line(text(entry.name), found)
                target = _target(entry, folder, found.st_mode)
            except OSError:
                return ""
            return "" if target is None else lines.line(text(entry.name), found, target)

        return self._folder(("long", path), path, line, now, layers=layers, pattern=pattern)

    def facts(self, path: str, lines: listing.FactLines, now: float, layers: Layers = PLAIN) -> Reader:
        """Lines of MLSD. Raises NotADirectoryError for a file (RFC 3659 section 7.2: 501)."""
        if not is_folder(look(path, layers)):
            raise NotADirectoryError(errno.ENOTDIR, "a file")
        above, _slash, name = (self._box or "").rpartition("/")
        box = name if name and path == (above or "/") else None

        def line(entry: os.DirEntry[str], folder: int) -> str:
            try:
                found = os.stat(entry.name, dir_fd=folder)
                if entry.is_symlink() and _hidden_target(os.readlink(entry.name, dir_fd=folder)):
                    return ""
            except OSError:
                return ""
            name = text(entry.name)
            return lines.line(name, found, name == box) if _served(found.st_mode) else ""

        return self._folder(("facts", path, lines.facts, box), path, line, now, layers=layers)

    def fact(self, path: str, lines: listing.FactLines, layers: Layers = PLAIN) -> bytes:
        """The one line of MLST, with the full path (RFC 3659 section 7.3)."""
        return listing.sent((lines.line(path[self._skip :], look(path, layers), path == self._box),))

    def names(self, path: str, now: float, pattern: str = "", typed: str = "", layers: Layers = PLAIN) -> Reader:
        """Lines of NLST: names that serve as arguments of the next command (RFC 1123 section 4.1.2.7), so what was
        `typed` before the last slash stays before them."""
        folder = bool(pattern) or is_folder(look(path, layers))
        if pattern or not folder:
            head = typed[: typed.rfind("/") + 1]
        else:
            head = "" if typed in ("", ".") else typed.rstrip("/") + "/"

        def line(entry: os.DirEntry[str], folder: int) -> str:
            try:
                known = entry.is_file() or entry.is_dir()
                if entry.is_symlink() and _hidden_target(os.readlink(entry.name, dir_fd=folder)):
                    return ""
            except OSError:
                return ""
            return f"{head}{text(entry.name)}\r\n" if known else ""

        if not folder:
            return self._one(f"{head}{_last(path)}\r\n")
        return self._folder(("names", path, head), path, line, now, layers=layers, pattern=pattern)

    def _one(self, line: str) -> Reader:
        return self.renderings.begin(piece for piece in (listing.sent((line,)),))

    def _folder(self, key: Hashable, path: str, line: Line, now: float, *, layers: Layers, pattern: str = "") -> Reader:
        folders, stamps = _union(path, layers)
        try:
            shared = None if pattern else self.renderings.shared(key, stamps)
            if shared is not None:
                _close(folders)
                return shared
            overlay = folders[0] if path == "/" and layers.number and stamps[0] is not None else -1
            slices = self._slices(folders, line, _matcher(pattern), overlay)
            next(slices)  # from here on it is the generator that closes the folders
        except BaseException:
            _close(folders)
            raise
        if pattern or not all(stamp.settled(now) for stamp in stamps if stamp is not None):
            return self.renderings.begin(slices)
        return self.renderings.begin(slices, key, stamps)

    def _slices(
        self, folders: list[int], line: Line, match: Match | None, overlay: int
    ) -> Generator[bytes, None, None]:
        """Everything of the folders, which are closed at the end; a name that several have is that of the first.

        `overlay`: the one of them that is the top of the overlay, where a folder is not meant as a name.

        Entries are looked at through the folder's descriptor: a path of many parts would be walked once for each.
        """
        try:
            yield b""
            runs: list[list[os.DirEntry[str]]] = [[]]
            where: dict[str, int] = {}  # which folder an entry is in, where there are several
            for folder in folders:
                with os.scandir(folder) as scan:
                    for entry in scan:
                        if not self._shown(entry.name, match) or entry.name in where:
                            continue
                        if folder == overlay and entry.name == ONCE:
                            continue
                        if len(folders) > 1:
                            where[entry.name] = folder
                        runs[-1].append(entry)
                        if len(runs[-1]) == _NAMES:
                            runs[-1].sort(key=_BY_NAME, reverse=True)
                            runs.append([])
                            yield b""
            if len(runs) * _NAMES <= _SORTED:
                runs = [list(itertools.chain.from_iterable(runs))]
            runs[-1].sort(key=_BY_NAME, reverse=True)
            rest = heapq.merge(*map(_consumed, runs), key=_BY_NAME) if len(runs) > 1 else _consumed(runs[0])
            while piece := list(itertools.islice(rest, _SLICE)):
                yield listing.sent([line(entry, where.get(entry.name, folders[0])) for entry in piece])
        finally:
            _close(folders)

    def _shown(self, name: str, match: Match | None) -> bool:
        if self._rules.hides(text(name)) or "\n" in name or "\r" in name:  # see listing.tellable
            return False
        return match is None or match(text(name)) is not None


def _union(path: str, layers: Layers) -> tuple[list[int], tuple[Stamp | None, ...]]:
    """The folders that make up a path, open, the first layer first, and the stamp of each place. Raises OSError."""
    folders: list[int] = []
    stamps: list[Stamp | None] = []
    missing: OSError | None = None
    *_published, by_hand = places = layers.places(_outside(path))
    try:
        for place in places:
            try:
                folders.append(os.open(place, _FOLDER))
            except OSError as error:
                if error.errno not in _MISSING:
                    raise
                missing = error
                stamps.append(None)
                continue
            found = os.fstat(folders[-1])
            if place is by_hand and layers.number and _GUARD.astray(place, (found.st_dev, found.st_ino)):
                os.close(folders.pop())
                stamps.append(None)
                missing = FileNotFoundError(errno.ENOENT, "a link into the folder of the releases")
                continue
            stamps.append(Stamp(found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns))
        if not folders and missing is not None:
            raise missing
    except BaseException:
        _close(folders)
        raise
    return folders, tuple(stamps)


def _close(folders: list[int]) -> None:
    """Close them; what is left to close twice is closed once."""
    while folders:
        os.close(folders.pop())


def _hidden_target(target: str) -> bool:
    """Whether a link says itself that it leads to what is published."""
    return HIDDEN in target.lower().split("/")


def _matcher(pattern: str) -> Match | None:
    """What a shell pattern matches, None for everything. Raises OSError for one that is longer than any name, or has so
    many wildcards that compiling it would hold up the others.

    fnmatch.fnmatchcase would keep thousands of compiled patterns, of strangers and of any length, from Python 3.12 on.
    """
    if len(pattern) > _LONGEST_PATTERN or sum(map(pattern.count, "*?[")) > _WILDCARDS:
        raise FileNotFoundError(errno.ENOENT, "a pattern beyond all names")
    return re.compile(fnmatch.translate(pattern)).match if pattern else None


def text(name: str) -> str:
    """The bytes in the folder of a name that Python shows, as all text here: in UTF-8 with `surrogateescape`."""
    return (
        name if _ENCODING == "utf-8" else name.encode(_ENCODING, "surrogateescape").decode("utf-8", "surrogateescape")
    )


def _consumed(run: list[os.DirEntry[str]]) -> Iterator[os.DirEntry[str]]:
    """From the end, so that each entry is given back when it was used: 100,000 together would take 48 ms."""
    while run:
        yield run.pop()


def _last(path: str) -> str:
    return path.rpartition("/")[2]


def _served(mode: int) -> bool:
    return mode & _KIND in (stat.S_IFREG, stat.S_IFDIR)


def _target(entry: os.DirEntry[str], folder: int, mode: int) -> str | None:
    """Where a link points, "" for what is none; None for what does not exist for a client. Raises OSError."""
    if not stat.S_ISLNK(mode):
        return "" if _served(mode) else None
    pointed = os.readlink(entry.name, dir_fd=folder)
    if _hidden_target(pointed):
        return None
    target = text(pointed)
    return target if _served(entry.stat().st_mode) and listing.tellable(target) else None
