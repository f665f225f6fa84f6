"""Listings of folders: which entries clients see, in order, and the lines of many of them at once.

A folder shows the union of the layers of what is published and of the root. Invariant: entries are looked at through
the descriptor of the folder that was opened, a slice of them in each turn.
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
from typing import TypeAlias

from appliance.ftp import listing
from appliance.ftp.filesystem import GUARD, KIND, MISSING, OPEN, is_folder, look, outside, served
from appliance.ftp.policy import Rules
from appliance.ftp.renderings import Reader, Renderings, Stamp
from appliance.published.layers import HIDDEN, ONCE, PLAIN, Layers

_FOLDER = OPEN | os.O_DIRECTORY
_LONGEST_PATTERN, _WILDCARDS = 255, 16  # characters of a pattern, and of them such as stand for others
_SLICE = 100  # entries looked at in one slice: less than half a millisecond
_NAMES = 1000  # names read from a folder in one slice
_SORTED = 20_000  # names that are sorted in one go, in 3 ms; more are merged one by one, which takes longer in all
_ENCODING = sys.getfilesystemencoding()  # of the names that Python shows; its bytes are those of the folder

Match = Callable[[str], re.Match[str] | None]
# as Python shows them. Names alone are sorted in half of the time that DirEntry takes, and os.stat is faster than
# entry.stat (bench/ftp, 6c and 6d)
Names: TypeAlias = list[str]
Lines: TypeAlias = Callable[[Names, int], list[str]]  # of these entries of the folder with this descriptor
Kinds: TypeAlias = dict[str, os.DirEntry[str] | None]  # what the folder tells of those that may be no regular file


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

        def line(name: str, folder: int) -> str:
            try:
                found = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if found.st_mode & KIND == stat.S_IFREG:  # nearly all are, and the rest takes longer
                    return lines.line(text(name), found)
                target = _target(name, folder, found.st_mode)
            except OSError:
                return ""
            return "" if target is None else lines.line(text(name), found, target)

        return self._folder(("long", path), path, _together(line, lines.lines), now, layers=layers, pattern=pattern)

    def facts(self, path: str, lines: listing.FactLines, now: float, layers: Layers = PLAIN) -> Reader:
        """Lines of MLSD. Raises NotADirectoryError for a file (RFC 3659 section 7.2: 501)."""
        if not is_folder(look(path, layers)):
            raise NotADirectoryError(errno.ENOTDIR, "a file")
        above, _slash, name = (self._box or "").rpartition("/")
        box = name if name and path == (above or "/") else None

        def line(name: str, folder: int) -> str:
            target = ""
            try:
                found = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if stat.S_ISLNK(found.st_mode):
                    target = os.readlink(name, dir_fd=folder)
                    if _hidden_target(target):
                        return ""
                    found = os.stat(name, dir_fd=folder)
            except OSError:
                return ""
            told = text(name)
            return lines.line(told, found, told == box, target) if served(found.st_mode) else ""

        some = _together(line, lines.lines)
        return self._folder(("facts", path, lines.facts, box), path, some, now, layers=layers)

    def fact(self, path: str, lines: listing.FactLines, layers: Layers = PLAIN) -> bytes:
        """The one line of MLST, with the full path (RFC 3659 section 7.3). Of a symbolic link what it leads to."""
        return listing.sent((lines.line(path[self._skip :] or "/", look(path, layers), path == self._box),))

    def names(self, path: str, now: float, pattern: str = "", typed: str = "", layers: Layers = PLAIN) -> Reader:
        """Lines of NLST: names that serve as arguments of the next command (RFC 1123 section 4.1.2.7), so what was
        `typed` before the last slash stays before them."""
        folder = bool(pattern) or is_folder(look(path, layers))
        if pattern or not folder:
            head = typed[: typed.rfind("/") + 1]
        else:
            head = "" if typed in ("", ".") else typed.rstrip("/") + "/"

        if not folder:
            return self._one(f"{head}{_last(path)}\r\n")
        kinds: Kinds = {}

        def line(name: str, folder: int) -> str:
            if name not in kinds:
                return f"{head}{text(name)}\r\n"
            entry, kinds[name] = kinds[name], None  # it is given back now: 100,000 at the end would hold up all
            if entry is None:  # a folder that changes meanwhile may tell a name twice
                return ""
            try:
                known = entry.is_file() or entry.is_dir()
                if entry.is_symlink() and _hidden_target(os.readlink(name, dir_fd=folder)):
                    return ""
            except OSError:
                return ""
            return f"{head}{text(name)}\r\n" if known else ""

        def some(names: Names, folder: int) -> list[str]:
            return [line(name, folder) for name in names]

        key = ("names", path, head)
        return self._folder(key, path, some, now, layers=layers, pattern=pattern, kinds=kinds)

    def _one(self, line: str) -> Reader:
        return self.renderings.begin(piece for piece in (listing.sent((line,)),))

    def _folder(
        self,
        key: Hashable,
        path: str,
        lines: Lines,
        now: float,
        *,
        layers: Layers,
        pattern: str = "",
        kinds: Kinds | None = None,
    ) -> Reader:
        folders, stamps = _union(path, layers)
        try:
            shared = None if pattern else self.renderings.shared(key, stamps)
            if shared is not None:
                _close(folders)
                return shared
            overlay = folders[0] if path == "/" and layers.number and stamps[0] is not None else -1
            slices = self._slices(folders, lines, _matcher(pattern), overlay, kinds)
            next(slices)  # from here on it is the generator that closes the folders
        except BaseException:
            _close(folders)
            raise
        if pattern or not all(stamp.settled(now) for stamp in stamps if stamp is not None):
            return self.renderings.begin(slices)
        return self.renderings.begin(slices, key, stamps)

    def _slices(
        self, folders: list[int], lines: Lines, match: Match | None, overlay: int, kinds: Kinds | None
    ) -> Generator[bytes, None, None]:
        """Everything of the folders, which are closed at the end; a name that several have is that of the first.

        `overlay`: the one of them that is the top of the overlay, where a folder is not meant as a name. `kinds` is
        filled if it is wanted, before `lines` hears of a name.

        Entries are looked at through the folder's descriptor: a path of many parts would be walked once for each.
        """
        try:
            yield b""
            runs: list[Names] = []
            where: dict[str, int] = {}  # which folder an entry is in, where there are several
            for folder in folders:
                with os.scandir(folder) as scan:
                    while batch := list(itertools.islice(scan, _NAMES)):
                        shown = self._shown([entry.name for entry in batch], match)
                        if len(folders) > 1:
                            shown = [n for n in shown if n not in where and (folder != overlay or n != ONCE)]
                            where |= dict.fromkeys(shown, folder)
                        if kinds is not None:
                            other = [entry for entry in batch if not _is_plain(entry)]
                            kinds |= {e.name: e for e in other if len(folders) == 1 or where.get(e.name) == folder}
                        shown.sort(reverse=True)
                        runs.append(shown)
                        if len(batch) == _NAMES:
                            yield b""
            if len(runs) > 1 and len(runs) * _NAMES <= _SORTED:
                runs = [list(itertools.chain.from_iterable(runs))]
                runs[0].sort(reverse=True)
                yield b""  # a slice of its own
            for piece in _pieces(runs):
                if where:
                    yield listing.sent(itertools.chain.from_iterable(lines([name], where[name]) for name in piece))
                else:
                    yield listing.sent(lines(piece, folders[0]))
        finally:
            _close(folders)

    def _shown(self, names: Names, match: Match | None) -> Names:
        """Those of them that clients see: of names that break lines (see `listing.tellable`) none."""
        firsts = self._rules.firsts
        if match is None and firsts is not None and listing.tellable("".join(names)):
            return [name for name in names if name[0] not in firsts or not self._rules.hides(text(name))]
        return [name for name in names if self._is_shown(name, match)]

    def _is_shown(self, name: str, match: Match | None) -> bool:
        if self._rules.hides(text(name)) or not listing.tellable(name):
            return False
        return match is None or match(text(name)) is not None


def _union(path: str, layers: Layers) -> tuple[list[int], tuple[Stamp | None, ...]]:
    """The folders that make up a path, open, the first layer first, and the stamp of each place. Raises OSError."""
    folders: list[int] = []
    stamps: list[Stamp | None] = []
    missing: OSError | None = None
    *_published, by_hand = places = layers.places(outside(path))
    try:
        for place in places:
            try:
                folders.append(os.open(place, _FOLDER))
            except OSError as error:
                if error.errno not in MISSING:
                    raise
                missing = error
                stamps.append(None)
                continue
            found = os.fstat(folders[-1])
            if place is by_hand and layers.number and GUARD.astray(place, (found.st_dev, found.st_ino)):
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


def _is_plain(entry: os.DirEntry[str]) -> bool:
    """Whether it is a regular file and no link to one; without a system call where the folder tells it."""
    try:
        return entry.is_file(follow_symlinks=False)
    except OSError:
        return False


def _together(one: Callable[[str, int], str], many: listing.Many) -> Lines:
    """The lines of entries whose status is asked for together, of regular files made by `many`; `one` makes all others,
    symbolic links among them."""

    def some(names: Names, folder: int) -> list[str]:
        look = os.stat
        try:
            found = [look(name, dir_fd=folder, follow_symlinks=False) for name in names]
        except OSError:  # one is gone
            return [one(name, folder) for name in names]
        texts = names if _ENCODING == "utf-8" else [text(name) for name in names]
        return many(texts, found, lambda at: one(names[at], folder))

    return some


def _pieces(runs: list[Names]) -> Iterator[Names]:
    """What is sorted backwards in one run or several, forwards and `_SLICE` at a time.

    The runs get empty on the way, so that each name is given back when it was used: 100,000 together would hold up all.
    """
    if len(runs) == 1:
        while piece := runs[0][: -_SLICE - 1 : -1]:
            del runs[0][-_SLICE:]
            yield piece
        return
    rest = heapq.merge(*map(_consumed, runs))
    while piece := list(itertools.islice(rest, _SLICE)):
        yield piece


def _consumed(run: Names) -> Iterator[str]:
    while run:
        yield run.pop()


def _last(path: str) -> str:
    return path.rpartition("/")[2]


def _target(name: str, folder: int, mode: int) -> str | None:
    """Where a link points, "" for what is none; None for what does not exist for a client. Raises OSError."""
    if not stat.S_ISLNK(mode):
        return "" if served(mode) else None
    pointed = os.readlink(name, dir_fd=folder)
    if _hidden_target(pointed):
        return None
    target = text(pointed)
    return target if served(os.stat(name, dir_fd=folder).st_mode) and listing.tellable(target) else None
