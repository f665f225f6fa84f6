"""What the board knows at this moment, and what has changed since it was last told. Pure.

A mirror has thousands of FTP sessions that are no machines: a fact from FTP joins the story of a machine that is known
by its TFTP or DHCP traffic, and counts in the chart alone otherwise.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping
from typing import Any

from appliance.board.diagnosis import Finding, World, diagnose
from appliance.board.rows import row, story
from appliance.board.story import Book, Fact, Machine

CHART = 300  # samples that the chart shows
_SERVED = 4000  # names that are remembered for "did you mean"
_ENDS = ("done", "aborted", "failed")


class Live:
    """`names` gives machines a name by their MAC address, in lower case with colons."""

    def __init__(self, names: Mapping[str, str] | None = None, machines: int = 2000) -> None:
        self._names = names or {}
        self._book = Book(machines)
        self._served: OrderedDict[str, None] = OrderedDict()
        self._world = World(self._served)
        self._changed: dict[str, None] = {}
        self._told: set[str] = set()
        self._under_way: OrderedDict[tuple[str, str, str], int] = OrderedDict()
        self._moved = {"tftp": 0, "ftp": 0}
        self._chart: deque[list[int]] = deque(maxlen=CHART)
        self._sampled: float | None = None
        self.health: dict[str, Any] = {}
        self._health_told: dict[str, Any] = {}

    def tell(self, fact: Fact) -> None:
        """Take in one fact."""
        self._count(fact)
        if fact.kind == "done":
            self._served[fact.file] = None
            self._served.move_to_end(fact.file)
            if len(self._served) > _SERVED:
                self._served.popitem(last=False)
        apart = fact.service == "ftp" or fact.kind == "address"
        if not apart or self._book.knows(fact.client, fact.mac):
            self._changed[self._book.tell(fact).key] = None

    def _count(self, fact: Fact) -> None:
        """What has moved since the last fact about the same transfer."""
        if fact.service not in self._moved or fact.kind not in ("progress", *_ENDS):
            return
        key = (fact.service, fact.client, fact.file)
        before = self._under_way.pop(key, 0)
        self._moved[fact.service] += max(0, fact.bytes - before)
        if fact.kind == "progress":
            self._under_way[key] = fact.bytes
            if len(self._under_way) > _SERVED:
                self._under_way.popitem(last=False)

    def tick(self, now: float) -> dict[str, Any]:
        """What pages are to be told now: rows that changed, keys that are gone, one sample of the chart, health."""
        for machine in self._book.tick(now):
            self._changed[machine.key] = None
        present = self._book.machines
        rows = [self._row(present[key]) for key in self._changed if key in present]
        gone = [key for key in self._told if key not in present]
        self._told = set(present)
        self._changed = {}
        frame: dict[str, Any] = {"now": round(now, 1), "rows": rows, "gone": gone, "sample": self._sample(now)}
        if self.health != self._health_told:
            frame["health"] = self._health_told = self.health
        return frame

    def _sample(self, now: float) -> list[int]:
        """Bytes per second by TFTP and FTP since the last sample."""
        passed = now - self._sampled if self._sampled is not None else 1.0
        passed = passed if 0.1 < passed < 60 else 1.0  # a clock that was set
        sample = [round(self._moved["tftp"] / passed), round(self._moved["ftp"] / passed)]
        self._sampled, self._moved = now, {"tftp": 0, "ftp": 0}
        self._chart.append(sample)
        return sample

    def snapshot(self, now: float) -> dict[str, Any]:
        """Everything, for a page that was opened now."""
        return {
            "now": round(now, 1),
            "all": True,
            "rows": [self._row(machine) for machine in self._book.machines.values()],
            "gone": [],
            "chart": list(self._chart),
            "health": self.health,
        }

    def story(self, key: str) -> dict[str, Any] | None:
        """The whole story of one machine; None where it is not known."""
        machine = self._book.machines.get(key)
        return story(machine, self._why(machine), self._name(machine)) if machine else None

    def _row(self, machine: Machine) -> dict[str, Any]:
        return row(machine, self._why(machine), self._name(machine))

    def _why(self, machine: Machine) -> Finding | None:
        return diagnose(machine, self._world)

    def _name(self, machine: Machine) -> str:
        return self._names.get(machine.mac, "")
