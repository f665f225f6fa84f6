"""The lines of LIST, MLSD, MLST and NLST from stat values. Pure; times are UTC, owners are constants.

A name goes out with the very bytes it has in the folder. Names with CR or LF cannot be told in a listing (they would be
read as lines of their own) and are left out by the caller: see `tellable`.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Protocol

FACTS = ("type", "perm", "size", "modify", "unix.mode", "unique")  # RFC 3659 section 7.5; the first four are on
DEFAULT_FACTS = FACTS[:4]
_MONTHS = ("", "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_HALF_A_YEAR = 180 * 86400
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
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


def _moment(seconds: float) -> datetime:
    try:
        return _EPOCH + timedelta(seconds=int(seconds))
    except OverflowError:
        return _EPOCH  # a time stamp beyond the year 9999 or before the year 1


def timestamp(seconds: float) -> str:
    """YYYYMMDDHHMMSS in UTC (RFC 3659 section 2.3)."""
    at = _moment(seconds)
    return f"{at.year:04}{at.month:02}{at.day:02}{at.hour:02}{at.minute:02}{at.second:02}"


def _date(seconds: float, now: float) -> str:
    at = _moment(seconds)
    recent = now - _HALF_A_YEAR < seconds <= now + 86400
    late = f"{at.hour:02}:{at.minute:02}" if recent else f" {at.year:04}"
    return f"{_MONTHS[at.month]} {at.day:02} {late}"


class LongLines:
    """Lines as `ls -l` prints them, for LIST and STAT. `now` decides between time of day and year."""

    def __init__(self, now: float) -> None:
        self._now = now
        self._dates: dict[int, bytes] = {}
        self._modes: dict[int, bytes] = {}

    def line(self, name: bytes, found: Status, target: bytes = b"") -> bytes:
        """One line with its CRLF; `target` is what a symbolic link points to."""
        mode, modified = found.st_mode, found.st_mtime
        minute = int(modified) // 60
        date = self._dates.get(minute)
        if date is None:
            if len(self._dates) >= _CACHED:
                self._dates.clear()
            date = self._dates[minute] = _date(modified, self._now).encode()
        shown = self._modes.get(mode)
        if shown is None:
            shown = self._modes[mode] = stat.filemode(mode).encode()
        head = b"%b %3d ftp      ftp      %8d %b " % (shown, found.st_nlink, found.st_size, date)
        return b"%b%b -> %b\r\n" % (head, name, target) if target else b"%b%b\r\n" % (head, name)


class FactLines:
    """Lines of facts (RFC 3659 section 7) for MLSD and MLST. `facts` are those the client chose, in its order."""

    def __init__(self, facts: Iterable[str] = DEFAULT_FACTS) -> None:
        self.facts = tuple(fact for fact in facts if fact in FACTS)
        self._unique = "unique" in self.facts
        self._times: dict[int, bytes] = {}
        self._forms: dict[tuple[int, bool], bytes] = {}

    def line(self, name: bytes, found: Status, box: bool = False) -> bytes:
        """One line with its CRLF. `box`: the folder of the drop box, in which files can be created and none be seen."""
        mode, whole = found.st_mode, int(found.st_mtime)
        form = self._forms.get((mode, box))
        if form is None:
            form = self._forms[mode, box] = self._form(mode, box)
        time = self._times.get(whole)
        if time is None:
            if len(self._times) >= _CACHED:
                self._times.clear()
            time = self._times[whole] = timestamp(whole).encode()
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
