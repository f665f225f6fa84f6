"""The tables that workers show each other: what they gave to each client, and which release each client is pinned to.

The first are shown within a service, the second among all that serve releases; old and new generations count together.
Invariant: a table is shown only when it is sealed. What a dead worker gave out ends with it, its pins by themselves.
"""

from __future__ import annotations

import array
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from appliance import wire
from appliance.observe import shares
from appliance.published import pins
from appliance.supervise.slot import WorkerSlot
from appliance.supervise.states import Slot

_LIVES = (Slot.SERVING, Slot.RETIRING)
_DEAD_MAX = 32  # tables of dead workers that are kept; the oldest go first


@dataclass(slots=True)
class _Table:
    slot: WorkerSlot
    pid: int
    descriptor: int
    told: set[int] = field(default_factory=set)  # numbers of the tables that its worker was shown
    ends: float | None = None  # of what a dead worker said

    @property
    def counts(self) -> bool:
        """Its process may have given something out, and nobody else can write what it says."""
        lives = self.ends is not None or self.slot.state in (*_LIVES, Slot.ENDING)
        return lives and shares.sealed(self.descriptor)


class Siblings:
    """Every table of one kind, by a number that is never used twice."""

    def __init__(self, what: int) -> None:
        """`what` they tell: wire.TALLY or wire.PINS."""
        self._what = what
        self._salt = shares.salt()
        self._last = 0
        self._tables: dict[int, _Table] = {}

    def fresh(self, slot: WorkerSlot) -> list[int]:
        """The table of a process that was just made, which will write it: one descriptor, or none if it needs none."""
        if not (slot.service.published if self._what == wire.PINS else slot.service.public):
            return []
        descriptor = shares.create(f"{slot.service.name}.{slot.index}", self._salt)
        self._last += 1
        self._tables[self._last] = _Table(slot, slot.pid, descriptor)
        return [descriptor]

    def repair(self, now: float) -> None:
        """Take back what dead workers had, and show everybody who serves the tables of all others in its circle."""
        for number, table in list(self._tables.items()):
            if table.slot.pid != table.pid and not self._outlives(table, now):
                self._drop(number)
        dead = [number for number, table in self._tables.items() if table.ends is not None]
        for number in dead[:-_DEAD_MAX]:
            self._drop(number)
        counting = {number: table for number, table in self._tables.items() if table.counts}
        for number, table in self._tables.items():
            # Pins matter to the very first request, so one that starts is told: it reads them before that.
            starts = self._what == wire.PINS and table.slot.state is Slot.STARTING
            if table.ends is None and (starts or (table.slot.state in _LIVES and number in counting)):
                others = {n: t for n, t in counting.items() if n != number and self._together(t.slot, table.slot)}
                table.told = set(self._show(table, others))

    def pinned(self, now: float) -> set[int]:
        """The numbers of the releases that clients are pinned to. Of workers that lie they may be any."""
        counting = [table for table in self._tables.values() if table.counts]
        length_s = max((float(table.slot.service.settings["pin"]) for table in counting), default=0.0)
        words = (array.array("Q", os.pread(table.descriptor, pins.SIZE, 0)) for table in counting)
        return pins.held(words, now, length_s)

    def _outlives(self, table: _Table, now: float) -> bool:
        """Whether what a dead worker said counts for a while yet."""
        if self._what != wire.PINS or not shares.sealed(table.descriptor):
            return False
        if table.ends is None:
            table.ends = now + float(table.slot.service.settings["pin"])
        return now < table.ends

    def _drop(self, number: int) -> None:
        os.close(self._tables.pop(number).descriptor)

    def _together(self, one: WorkerSlot, other: WorkerSlot) -> bool:
        return self._what == wire.PINS or one.service.name == other.service.name

    def _show(self, table: _Table, others: dict[int, _Table]) -> Iterator[int]:
        """Bring one worker up to date; yields what it has been shown. What it does not take is tried again."""
        send: Callable[[wire.Message, list[int]], bool] = table.slot.send
        for number in table.told - others.keys():
            if not send(wire.Unshare(number, self._what), []):
                yield number
        for number, other in others.items():
            if number in table.told or send(wire.Share(number, self._what), [other.descriptor]):
                yield number


class Tables:
    """Both kinds."""

    def __init__(self) -> None:
        self._kinds = {"share": Siblings(wire.TALLY), "pins": Siblings(wire.PINS)}  # by the role in a birth

    def fresh(self, slot: WorkerSlot) -> list[tuple[str, int]]:
        """The tables of a process that was just made, with their roles."""
        return [(role, descriptor) for role, kind in self._kinds.items() for descriptor in kind.fresh(slot)]

    def pinned(self) -> set[int]:
        """See `Siblings.pinned`."""
        return self._kinds["pins"].pinned(time.monotonic())

    def repair(self) -> None:
        """See `Siblings.repair`."""
        now = time.monotonic()
        for kind in self._kinds.values():
            kind.repair(now)
