"""The tables in which the workers of one service count what they gave to each client, shown to their siblings.

Old and new generations of a service count together. Invariant: a table is shown only when it is sealed, and a dead
worker's is taken back.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from appliance import wire
from appliance.observe import shares
from appliance.supervise.slot import WorkerSlot
from appliance.supervise.states import Slot

_LIVES = (Slot.SERVING, Slot.RETIRING)


@dataclass(slots=True)
class _Table:
    slot: WorkerSlot
    pid: int
    descriptor: int
    told: set[int] = field(default_factory=set)  # numbers of the tables that its worker was shown

    @property
    def counts(self) -> bool:
        """Its process may have given something out, and nobody else can write what it says."""
        return self.slot.state in (*_LIVES, Slot.ENDING) and shares.sealed(self.descriptor)


class Siblings:
    """Every table of every worker, by a number that is never used twice."""

    def __init__(self) -> None:
        self._salt = shares.salt()
        self._last = 0
        self._tables: dict[int, _Table] = {}

    def fresh(self, slot: WorkerSlot) -> list[int]:
        """The table of a process that was just made, which will write it: one descriptor, or none if it needs none."""
        if not slot.service.public:
            return []
        descriptor = shares.create(f"{slot.service.name}.{slot.index}", self._salt)
        self._last += 1
        self._tables[self._last] = _Table(slot, slot.pid, descriptor)
        return [descriptor]

    def repair(self) -> None:
        """Take back what dead workers had, and show everybody who serves the tables of all others of its service."""
        for number, table in list(self._tables.items()):
            if table.slot.pid != table.pid:
                os.close(table.descriptor)
                del self._tables[number]
        counting = {number: table for number, table in self._tables.items() if table.counts}
        for number, table in counting.items():
            if table.slot.state in _LIVES:
                name = table.slot.service.name
                others = {n: t for n, t in counting.items() if t.slot.service.name == name and n != number}
                table.told = set(_show(table, others))


def _show(table: _Table, others: dict[int, _Table]) -> Iterator[int]:
    """Bring one worker up to date; yields what it has been shown. What it does not take is tried again next time."""
    send: Callable[[wire.Message, list[int]], bool] = table.slot.send
    for number in table.told - others.keys():
        if not send(wire.Unshare(number), []):
            yield number
    for number, other in others.items():
        if number in table.told or send(wire.Share(number), [other.descriptor]):
            yield number
