"""When a problem that `status` shows begins and is over, as events; a clock that was set; log lines nobody takes. Pure.

A problem is told when two looks in a row found it, and is over when two did not: what comes and goes between them, as
the start of a worker does, is nobody's alarm.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from appliance.observe import events

STEP_S = 5.0  # less is what a time server does all day
SHOWN_S = 600.0
QUIET_S = 10.0  # without a dropped line, and the log is written again
_MOST = 64  # problems told of at once
_CHANGES = re.compile(r", last by .*|\d+")  # counts and waits: the problem is the same with another number


@dataclass(slots=True)
class _Trouble:
    fault: events.Fault
    looks: int = 0  # in a row that have found it, or not found it
    there: bool = True
    told: bool = False


class Troubles:
    """`look` with all problems now; it returns what is to be told."""

    def __init__(self) -> None:
        self._known: dict[str, _Trouble] = {}

    def look(self, problems: Iterable[Mapping[str, str]]) -> list[events.Fault]:
        """One event for each problem that has begun, or is over."""
        now: dict[str, events.Fault] = {}
        for problem in problems:
            what, remedy = problem["what"], problem["remedy"]
            part = re.match(r"[a-z-]*", what)
            fault = events.Fault(part=part[0].encode() if part else b"", what=what.encode(), remedy=remedy.encode())
            now.setdefault(_CHANGES.sub("", what), fault)
        for key, fault in list(now.items())[:_MOST]:
            if key not in self._known and len(self._known) < _MOST:
                self._known[key] = _Trouble(fault)
        return [told for key in list(self._known) if (told := self._step(key, now.get(key))) is not None]

    def _step(self, key: str, found: events.Fault | None) -> events.Fault | None:
        trouble = self._known[key]
        if (found is not None) != trouble.there:
            trouble.there, trouble.looks = found is not None, 0
        trouble.looks += 1
        if trouble.looks < 2:
            return None
        if found is None:
            del self._known[key]
            return trouble.fault._replace(over=1) if trouble.told else None
        if trouble.told:
            return None
        trouble.told, trouble.fault = True, found
        return found


class Unwritten:
    """Log lines that were dropped, because the journal is gone or does not read, say."""

    def __init__(self) -> None:
        self._total = 0
        self._until, self._lines = 0.0, 0

    def look(self, total: int, now: float) -> None:
        """`total`: lines dropped since the start, by all workers. `now`: monotonic seconds."""
        if total > self._total:
            self._lines = total - self._total + (self._lines if now < self._until else 0)
            self._until = now + QUIET_S
        self._total = total

    def problems(self, now: float) -> list[tuple[str, str]]:
        """One while lines are dropped, and until none was for QUIET_S."""
        if now >= self._until:
            return []
        what = f"log: {self._lines} lines of the log or the xferlog could not be written"
        return [(what, "systemctl status systemd-journald; df -h; it goes on by itself when that is mended")]


class Clock:
    """Looks at the clock that may be set beside one that nobody sets."""

    def __init__(self) -> None:
        self._offset: float | None = None
        self._step, self._until = 0.0, 0.0

    def look(self, wall: float, steady: float) -> float:
        """Seconds by which it was set since the last look, forward above 0; 0 when it was not."""
        offset = wall - steady
        step = 0.0 if self._offset is None else offset - self._offset
        self._offset = offset
        if abs(step) < STEP_S:
            return 0.0
        self._step, self._until = step, steady + SHOWN_S
        return step

    def problems(self, wall: float, steady: float, made: float) -> list[tuple[str, str]]:
        """What is wrong with it, and the remedy. `made`: when this program was, seconds since the epoch."""
        found = []
        if wall < made:
            what = "clock: it says a time before this program was made"
            found.append((what, "timedatectl set-ntp true, or date -s"))
        if steady < self._until:
            way = "forward" if self._step > 0 else "back"
            what = f"clock: it was set {way} by {abs(self._step):.0f} s; what was told before has the old time"
            found.append((what, "nothing, if it is right now; else timedatectl set-ntp true"))
        return found
