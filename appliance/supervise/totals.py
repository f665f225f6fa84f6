"""What a service has counted since the supervisor began, over all its workers, living, dead and retired.

Invariant: no number ever falls, whatever is restarted or replaced.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from appliance.observe.tables import MONOTONIC
from appliance.supervise.slot import WorkerSlot


class Totals:
    """`keep` is called once for each slot that is gone for good."""

    def __init__(self) -> None:
        self._past: dict[str, Counter[str]] = {}

    def keep(self, slot: WorkerSlot) -> None:
        """A slot is gone; what it counted stays."""
        self._past.setdefault(slot.service.name, Counter()).update(_of(slot))

    def of(self, name: str, slots: Iterable[WorkerSlot]) -> dict[str, int]:
        """The totals of a service; `slots` are those that are not gone."""
        total = Counter(self._past.get(name, {}))
        for slot in slots:
            if slot.service.name == name:
                total.update(_of(slot))
        return {key: total[key] for key in (*MONOTONIC, "restarts") if total[key]}


def _of(slot: WorkerSlot) -> dict[str, int]:
    now = slot.counters()
    return {**{name: slot.totals[name] + now[name] for name in MONOTONIC}, "restarts": slot.restarts}
