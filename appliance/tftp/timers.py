"""When running reads and writes want to be rung: a heap in which the entries of those that want it later stay.

Pure. An owner has one valid entry, the one with its own `due`; whoever moves its time forward leaves the old one where
it is, and it is thrown away when it comes up. Moving it back costs nothing: the entry that rings first asks again.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

NEVER = float("inf")
_SPARE = 1024  # entries that are thrown away, besides four of each owner, before all are looked through


class Owner(Protocol):
    """What has a timer: `due` is its time, 0 for none; `over` is not None any more when it has ended."""

    due: float

    @property
    def over(self) -> object: ...


O = TypeVar("O", bound=Owner)  # noqa: E741


class Timers(Generic[O]):
    """The timers of one kind. `due`: when `ring` has something to do; an attribute, because every turn looks."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, O]] = []
        self._sequence = 0
        self._most = _SPARE
        self.due = NEVER

    def set(self, owner: O, due: float) -> None:
        """Ring `owner` at that time, and not at any other."""
        owner.due = due
        self._sequence += 1
        heapq.heappush(self._heap, (due, self._sequence, owner))
        self.due = min(self.due, due)
        if len(self._heap) > self._most:
            self._heap = [entry for entry in self._heap if entry[2].over is None and entry[0] == entry[2].due]
            heapq.heapify(self._heap)
            self._most = _SPARE + 4 * len(self._heap)

    def ring(self, now: float) -> Iterator[O]:
        """Those whose time has come, without a timer from now on; to be used up to its end."""
        while self._heap and self._heap[0][0] <= now:
            due, _sequence, owner = heapq.heappop(self._heap)
            if owner.over is None and due == owner.due:
                owner.due = 0.0
                yield owner
        self.due = self._heap[0][0] if self._heap else NEVER

    def next(self) -> float:
        """When one of those that have not ended wants to be rung, if none moved its time back; NEVER for nobody."""
        heap = self._heap
        while heap:
            due, _sequence, owner = heap[0]
            if owner.over is None:
                self.due = due
                return due
            heapq.heappop(heap)
        self.due = NEVER
        return NEVER
