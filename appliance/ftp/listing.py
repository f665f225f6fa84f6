"""The lines of LIST, MLSD, MLST and NLST from stat values. Pure; times are UTC, owners are constants.

A name goes out with the very bytes it has in the folder: lines are text with `surrogateescape`, and `sent` makes bytes
of many at once. Names with control characters are left out by the caller, see `tellable`: nobody can ask for them, and
with CR or LF they would be read as lines of their own.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, TypeAlias

FACTS = ("type", "perm", "size", "modify", "unix.mode", "unique")  # RFC 3659 section 7.5; the first four are on
DEFAULT_FACTS = FACTS[:4]
_MONTHS = ("", "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_VALUE = re.compile(r"[A-Za-z0-9,.:!@#$%^&()\-_+?/\\'\"=]+")  # of a fact (RFC 3659 section 7.2): no space, no semicolon
_HALF_A_YEAR = 180 * 86400
_MARKED = bytes(0 if byte < 32 or byte == 127 else 1 for byte in range(256))
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_DAY, _LAST_DAY = -719_162, 2_932_897  # the years 1 to 9999
_MINUTES = tuple(f"{minute // 60:02}:{minute % 60:02}" for minute in range(1440))
_CLOCK = tuple(minute.replace(":", "") for minute in _MINUTES)
_SECONDS = tuple(f"{second:02}" for second in range(60))
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


def tellable(name: str) -> bool:
    """False for a name that nobody could ask for (`policy` refuses control bytes), or that would break lines.

    Asked of the names of a whole folder at once: so it takes 1 us for 50 of them, with a pattern 15.
    """
    return b"\0" not in name.encode("utf-8", "surrogateescape").translate(_MARKED)


def sent(lines: Iterable[str]) -> bytes:
    """Lines as they go out."""
    return "".join(lines).encode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class _Day:
    """A day as listings show it."""

    short: str  # with a space behind it: Nov 21
    year: str
    digits: str  # 20261121


_DAYS: dict[int, _Day] = {}


def _day(number: int) -> _Day:
    """The day with this number since 1970; the first one where no calendar has it."""
    _keep_small(_DAYS)
    at = _EPOCH + timedelta(days=number if _FIRST_DAY <= number < _LAST_DAY else 0)
    day = _Day(f"{_MONTHS[at.month]} {at.day:02} ", f" {at.year:04}", f"{at.year:04}{at.month:02}{at.day:02}")
    _DAYS[number] = day
    return day


def timestamp(seconds: float) -> str:
    """YYYYMMDDHHMMSS in UTC (RFC 3659 section 2.3); a time that no calendar has is on the first day of 1970."""
    number, second = divmod(int(seconds), 86400)
    return f"{_day(number).digits}{_CLOCK[second // 60]}{second % 60:02}"


_KIND, _REGULAR = 0o170000, stat.S_IFREG
# an os.stat_result as a tuple: mode, inode, device, links, owner, group, size, and times in whole seconds
Numbers: TypeAlias = Any
_MODE, _LINKS, _SIZE, _MTIME = stat.ST_MODE, stat.ST_NLINK, stat.ST_SIZE, stat.ST_MTIME
_NO_DAY = -(1 << 80)  # a second so long ago that no time is of the day that begins with it
Other: TypeAlias = Callable[[int], str]  # the line of the entry at this place, which is no regular file
Many: TypeAlias = Callable[[list[str], Iterable[Numbers], Other], list[str]]


class LongLines:
    """Lines as `ls -l` prints them, for LIST and STAT. `now` decides between time of day and year."""

    def __init__(self, now: float) -> None:
        self._oldest, self._newest = now - _HALF_A_YEAR, now + 86400
        self._heads: dict[tuple[int, int], str] = {}

    def line(self, name: str, found: Status, target: str = "") -> str:
        """One line with its CRLF; `target` is what a symbolic link points to."""
        kind = (found.st_mode, found.st_nlink)
        head = self._heads.get(kind) or self._head(kind)
        seconds = found.st_mtime
        number, second = divmod(int(seconds), 86400)
        day = _DAYS.get(number) or _day(number)
        late = _MINUTES[second // 60] if self._oldest < seconds <= self._newest else day.year
        if target:
            name = f"{name} -> {target}"
        return f"{head}{found.st_size:8} {day.short}{late} {name}\r\n"

    def lines(self, names: list[str], found: Iterable[Numbers], other: Other) -> list[str]:
        """As `line` for many files, in less than half of the time."""
        made: list[str] = []
        oldest, newest = self._oldest, self._newest
        # those of the one before are often those of the next
        mode, links, head, start, day = -1, -1, "", _NO_DAY, _day(0)
        for name, status in zip(names, found, strict=True):  # three places are sooner read than all unpacked
            if status[_MODE] != mode or status[_LINKS] != links:
                if status[_MODE] & _KIND != _REGULAR:
                    made.append(other(len(made)))
                    continue
                kind = mode, links = status[_MODE], status[_LINKS]
                head = self._heads.get(kind) or self._head(kind)
            changed = status[_MTIME]
            if not 0 <= changed - start < 86400:
                number = changed // 86400
                start, day = number * 86400, _DAYS.get(number) or _day(number)
            late = _MINUTES[(changed - start) // 60] if oldest < changed <= newest else day.year
            made.append(f"{head}{str(status[_SIZE]).rjust(8)} {day.short}{late} {name}\r\n")
        return made

    def _head(self, kind: tuple[int, int]) -> str:
        """What all entries of one mode and number of links begin with."""
        _keep_small(self._heads)
        head = self._heads[kind] = f"{stat.filemode(kind[0])} {kind[1]:3} ftp      ftp      "
        return head


class FactLines:
    """Lines of facts (RFC 3659 section 7) for MLSD and MLST. `facts` are those the client chose, in its order."""

    def __init__(self, facts: Iterable[str] = DEFAULT_FACTS) -> None:
        self.facts = tuple(fact for fact in facts if fact in FACTS)
        self._usual = self.facts == DEFAULT_FACTS
        self._heads: dict[tuple[int, bool], str] = {}

    def line(self, name: str, found: Status, box: bool = False, target: str = "") -> str:
        """One line with its CRLF. `box`: the folder of the drop box, in which files can be created and none be seen.

        `target`: where a symbolic link points. It is told as one, or mirrors would follow it, in circles too; what is
        `found` behind it gives the other facts (docs/decisions/0080).
        """
        kind = (found.st_mode, box)
        if target or not self._usual:
            values = {"size": f"{found.st_size}", "modify": timestamp(found.st_mtime), **_kind_facts(kind)}
            values["unique"] = f"{found.st_dev:x}g{found.st_ino:x}"
            if target:
                values["type"] = f"OS.unix=slink:{target}" if _VALUE.fullmatch(target) else "OS.unix=symlink"
            return "".join([f"{fact}={values[fact]};" for fact in self.facts]) + f" {name}\r\n"
        head = self._heads.get(kind) or self._head(kind)
        number, second = divmod(int(found.st_mtime), 86400)
        day = _DAYS.get(number) or _day(number)
        clock = f"{_CLOCK[second // 60]}{_SECONDS[second % 60]}"
        return f"{head}{found.st_size};modify={day.digits}{clock}; {name}\r\n"

    def lines(self, names: list[str], found: Iterable[Numbers], other: Other) -> list[str]:
        """As `line` for many files, in less than half of the time."""
        if not self._usual:
            return [other(at) for at in range(len(names))]
        made: list[str] = []
        mode, head, start, day = -1, "", _NO_DAY, ""
        for name, status in zip(names, found, strict=True):
            if status[_MODE] != mode:
                if status[_MODE] & _KIND != _REGULAR:
                    made.append(other(len(made)))
                    continue
                mode = status[_MODE]
                head = self._heads.get((mode, False)) or self._head((mode, False))
            second = (changed := status[_MTIME]) - start
            if not 0 <= second < 86400:
                number = changed // 86400
                start, day = number * 86400, (_DAYS.get(number) or _day(number)).digits
                second = changed - start
            made.append(f"{head}{status[_SIZE]};modify={day}{_CLOCK[second // 60]}{_SECONDS[second % 60]}; {name}\r\n")
        return made

    def _head(self, kind: tuple[int, bool]) -> str:
        """What all entries of one mode begin with, where the facts are the usual ones."""
        _keep_small(self._heads)
        known = _kind_facts(kind)
        head = self._heads[kind] = f"type={known['type']};perm={known['perm']};size="
        return head


def _kind_facts(kind: tuple[int, bool]) -> dict[str, str]:
    """The facts that a mode tells."""
    mode, box = kind
    folder = stat.S_ISDIR(mode)
    perm = ("ec" if box else "el") if folder else "r"
    return {"type": "dir" if folder else "file", "perm": perm, "unix.mode": f"{stat.S_IMODE(mode):04o}"}


def _keep_small(known: dict[Any, Any]) -> None:
    """A folder with ever other modes or days costs no more memory than this."""
    if len(known) >= _CACHED:
        known.clear()
