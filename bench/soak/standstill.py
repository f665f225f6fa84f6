"""How long a process of clients stood still: one that gets no processor hears nothing, whatever the server sends it.

A transfer that breaks by silence is told with the longest standstill meanwhile, and with what the kernel says of it:
how much of it the process waited for a processor, and how much it worked. So a client that starved is told from a
silent server.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from pathlib import Path
from typing import NamedTuple

EVERY_S = 0.1
_LEAST_S = 0.25
_KEPT = 256
_SCHEDSTAT = Path("/proc/self/schedstat")  # nanoseconds on a processor, and waiting for one (sched-stats.rst)


class Spell(NamedTuple):
    """A time in which nothing was done that should have been, from `t0` to `t1`, monotonic seconds.

    `waited_s`: of that, waiting for a processor; `worked_s`: on one. None where the kernel does not tell.
    """

    t0: float
    t1: float
    waited_s: float | None = None
    worked_s: float | None = None


class Standstill:
    """Looks at the clock every EVERY_S; what comes later than that is a standstill."""

    def __init__(self) -> None:
        self._spells: deque[Spell] = deque(maxlen=_KEPT)
        self._at, self._stat = time.monotonic(), _schedstat()

    async def watch(self) -> None:
        """Until it is cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
            self.beat(time.monotonic(), _schedstat())

    def beat(self, now: float, stat: tuple[float, float] | None) -> None:
        """It is `now`; `stat`: seconds on a processor and waiting for one, since the process began."""
        self._spells.extend(self._spell(now, stat))
        self._at, self._stat = now, stat

    def worst(self, t0: float, t1: float) -> list[float | None]:
        """The longest standstill in t0..t1: seconds in all (0: none that matters), waiting, at work; for JSON."""
        spells = [*self._spells, *self._spell(t1, _schedstat())]
        longest = max(
            (one for one in spells if one.t1 > t0 and one.t0 < t1), key=lambda one: one.t1 - one.t0, default=None
        )
        if longest is None:
            return [0.0, 0.0, 0.0]
        return [round(longest.t1 - longest.t0, 2), longest.waited_s, longest.worked_s]

    def _spell(self, now: float, stat: tuple[float, float] | None) -> list[Spell]:
        """What there is since the last beat: one or none."""
        if now - self._at - EVERY_S < _LEAST_S:
            return []
        if stat is None or self._stat is None:
            return [Spell(self._at, now)]
        return [Spell(self._at, now, round(stat[1] - self._stat[1], 2), round(stat[0] - self._stat[0], 2))]


def _schedstat() -> tuple[float, float] | None:
    try:
        ran, waited, _times = _SCHEDSTAT.read_text().split()
    except (OSError, ValueError):
        return None  # a kernel without that
    return int(ran) / 1e9, int(waited) / 1e9
