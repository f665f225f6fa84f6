"""The tables of who is on now, shown to the services that may look at them.

Invariant: a table is shown only when it is sealed, so that whoever looks can only read, and a dead worker's is taken
back.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from appliance import wire
from appliance.observe import shares
from appliance.supervise.group import Group
from appliance.supervise.slot import WorkerSlot
from appliance.supervise.states import Slot

VIEWERS = ("status", "board", "hooks")


@dataclass(slots=True)
class _Picture:
    slot: WorkerSlot
    pid: int
    descriptor: int


@dataclass(slots=True)
class _Viewer:
    pid: int
    told: set[int] = field(default_factory=set)


class Gallery:
    """`groups` gives all generations. Every table has a number that is never used twice."""

    def __init__(self, groups: Callable[[], Iterable[Group]]) -> None:
        self._groups = groups
        self._last = 0
        self._pictures: dict[int, _Picture] = {}
        self._viewers: dict[int, _Viewer] = {}

    def fresh(self, slot: WorkerSlot) -> list[int]:
        """The table of a process that was just made: one descriptor, or none for a service nobody is on with."""
        if slot.service.promise not in ("tftp", "ftp"):
            return []
        descriptor = shares.blank(f"{slot.service.name}.{slot.index}")
        self._last += 1
        self._pictures[self._last] = _Picture(slot, slot.pid, descriptor)
        return [descriptor]

    def repair(self) -> None:
        """Take back what dead workers had, and show every viewer what it has not been shown."""
        for number, picture in list(self._pictures.items()):
            if picture.slot.pid != picture.pid:
                os.close(picture.descriptor)
                del self._pictures[number]
        shown = {number: one for number, one in self._pictures.items() if shares.sealed(one.descriptor)}
        viewers = [slot for group in self._groups() if group.service.name in VIEWERS for slot in group.slots]
        self._viewers = {slot.serial: self._viewers.get(slot.serial, _Viewer(slot.pid)) for slot in viewers}
        for slot in viewers:
            if slot.state is Slot.SERVING:
                self._show(slot, shown)

    def _show(self, slot: WorkerSlot, shown: dict[int, _Picture]) -> None:
        viewer = self._viewers[slot.serial]
        if viewer.pid != slot.pid:
            viewer.pid, viewer.told = slot.pid, set()
        for number in viewer.told - shown.keys():
            if slot.send(wire.Unview(number)):
                viewer.told.discard(number)
        for number in shown.keys() - viewer.told:
            one = shown[number].slot
            if slot.send(wire.View(number, f"{one.service.name}.{one.index}"), [shown[number].descriptor]):
                viewer.told.add(number)
