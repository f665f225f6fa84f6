"""The lines of LIST, MLSD, MLST and NLST from stat values. Pure; times are UTC, owners are constants.

A name goes out with the very bytes it has in the folder. Names with CR or LF cannot be told in a listing (they would be
read as lines of their own) and are left out by the caller: see `tellable`.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Protocol

FACTS = ("type", "perm", "size", "modify", "unix.mode", "unique")  # RFC 3659 section 7.5; the first four are on
DEFAULT_FACTS = FACTS[:4]
_MONTHS = ("", "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_HALF_A_YEAR = 180 * 86400
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_S, _LAST_S = -62_135_596_800, 253_402_300_800  # the years 1 to 9999
_MINUTES = tuple(b"%02d:%02d" % divmod(minute, 60) for minute in range(1440))
_CACHED = 4096


class Status(Protocol):
    """The part of an os.stat_result that a listing shows."""

    @property
    def st_mode(self) -> int: ...
    @property
    def st_nlink(self) -> int: ...
    @property
    def st_size(self) -> int: ...
    @property
    def st_mtime(self) -> float: ...
    @property
    def st_dev(self) -> int: ...
    @property
    def st_ino(self) -> int: ...


def tellable(name: bytes) -> bool:
    """False for a name that would break the lines of a listing."""
    return b"\n" not in name and b"\r" not in name


@dataclass(frozen=True, slots=True)
class _Day:
    """A day as listings show it."""

    short: bytes  # Nov 21
    year: bytes
    digits: bytes  # 20261121


@lru_cache(_CACHED)
def _day(number: int) -> _Day:
    """The day with this number since 1970."""
    at = _EPOCH + timedelta(days=number)
    short = f"{_MONTHS[at.month]} {at.day:02}"
    return _Day(short.encode(), f" {at.year:04}".encode(), f"{at.year:04}{at.month:02}{at.day:02}".encode())


def _known(seconds: float) -> int:
    """Whole seconds; 0 for a time that no calendar has."""
    return int(seconds) if _FIRST_S <= seconds < _LAST_S else 0


def timestamp(seconds: float) -> bytes:
    """YYYYMMDDHHMMSS in UTC (RFC 3659 section 2.3)."""
    day, second = divmod(_known(seconds), 86400)
    minute = _MINUTES[second // 60]
    return b"%b%b%b%02d" % (_day(day).digits, minute[:2], minute[3:], second % 60)


class LongLines:
    """Lines as `ls -l` prints them, for LIST and STAT. `now` decides between time of day and year."""

    def __init__(self, now: float) -> None:
        self._oldest, self._newest = now - _HALF_A_YEAR, now + 86400
        self._modes: dict[int, bytes] = {}

    def line(self, name: bytes, found: Status, target: bytes = b"") -> bytes:
        """One line with its CRLF; `target` is what a symbolic link points to."""
        mode, seconds = found.st_mode, _known(found.st_mtime)
        day, second = divmod(seconds, 86400)
        date = _day(day)
        late = _MINUTES[second // 60] if self._oldest < seconds <= self._newest else date.year
        shown = self._modes.get(mode)
        if shown is None:
            shown = self._modes[mode] = stat.filemode(mode).encode()
        head = b"%b %3d ftp      ftp      %8d %b %b " % (shown, found.st_nlink, found.st_size, date.short, late)
        return b"%b%b -> %b\r\n" % (head, name, target) if target else b"%b%b\r\n" % (head, name)


class FactLines:
    """Lines of facts (RFC 3659 section 7) for MLSD and MLST. `facts` are those the client chose, in its order."""

    def __init__(self, facts: Iterable[str] = DEFAULT_FACTS) -> None:
        self.facts = tuple(fact for fact in facts if fact in FACTS)
        self._unique = "unique" in self.facts
        self._forms: dict[tuple[int, bool], bytes] = {}

    def line(self, name: bytes, found: Status, box: bool = False) -> bytes:
        """One line with its CRLF. `box`: the folder of the drop box, in which files can be created and none be seen."""
        mode, time = found.st_mode, timestamp(found.st_mtime)
        form = self._forms.get((mode, box))
        if form is None:
            form = self._forms[mode, box] = self._form(mode, box)
        unique = b"%xg%x" % (found.st_dev, found.st_ino) if self._unique else b""
        return form % {b"size": found.st_size, b"time": time, b"unique": unique, b"name": name}

    def _form(self, mode: int, box: bool) -> bytes:
        """What all entries of one mode have in common; the rest is filled in per entry."""
        folder = stat.S_ISDIR(mode)
        values = {
            "type": "dir" if folder else "file",
            "perm": ("ec" if box else "el") if folder else "r",
            "size": "%(size)d",
            "modify": "%(time)b",
            "unix.mode": f"{stat.S_IMODE(mode):04o}",
            "unique": "%(unique)b",
        }
        return "".join(f"{fact}={values[fact]};" for fact in self.facts).encode() + b" %(name)b\r\n"
