"""Which release the workers serve: read from the state folder when it is told to, at the start, and never guessed.

Guards: what is in force stays until another one is found whole in the root of every service that serves it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

from appliance import wire
from appliance.observe import events
from appliance.observe.log import Log
from appliance.published import current
from appliance.published.pins import NUMBER_MASK
from appliance.supervise.acts import Asker
from appliance.supervise.service import Service
from appliance.supervise.slot import WorkerSlot
from appliance.supervise.states import Slot

RIGHT = "one-shot"  # of the keeper: to say how much of a one-shot boot may be served, and to be told of releases
_ONE_SHOTS_MAX = 4096
_KNOWN_MAX = 256  # told to workers that are born later, whose clients may be pinned to one of them


class Releases:
    """The release in force, and those before it in this run of the supervisor."""

    def __init__(
        self,
        state_dir: str,
        log: Log,
        slots: Callable[[], Iterable[WorkerSlot]],
        tell: Callable[[events.Event], None],
    ) -> None:
        """`slots` gives all workers that are not gone, `tell` tells the events service."""
        self._state_dir, self._log, self._slots, self._tell = state_dir, log, slots, tell
        self._numbers: OrderedDict[str, int] = OrderedDict()
        self._last = 0
        self.now: wire.Release | None = None
        self._one_shots: OrderedDict[int, int] = OrderedDict()
        self.problem = ""  # why what was found last is not in force

    def look(self, services: Iterable[Service]) -> None:
        """Read what is to be in force, and tell the workers when that is another than before."""
        before = self.now.id if self.now is not None else ""
        try:
            self.problem = ""
            changed = self._take(current.read(self._state_dir), [service for service in services if service.published])
        except current.Unusable as why:
            self.problem = str(why)
            self._log.error("release", reason=self.problem)
            return
        if changed and self.now is not None:
            self._log.info("release", id=self.now.id, overlay=self.now.overlay)
            self._tell(events.Published(self.now.overlay, self.now.id.encode(), before.encode()))
            for slot in self._slots():
                if slot.service.published:  # one that still starts reads it when it serves
                    slot.send(self.now)
        self._wake_keeper()

    def _wake_keeper(self) -> None:
        """Also where nothing else has changed: there may be something new in its folder."""
        for slot in self._slots():
            if self.now is not None and RIGHT in slot.service.requests:
                slot.send(self.now)

    def one_shot(self, used: wire.Used) -> None:
        """The keeper says how much of a one-shot boot may be served; all workers are told."""
        self._one_shots.pop(used.key, None)
        if used.serves:
            self._one_shots[used.key] = used.serves
        if len(self._one_shots) > _ONE_SHOTS_MAX:
            self._one_shots.popitem(last=False)
        self._spread(wire.OneShot(used.key, used.serves))

    def keeper_died(self, *, replaced: bool = False) -> None:
        """Nobody sees what machines do: nothing of any one-shot boot is served until the next keeper says so.

        One that was `replaced` by a reload leaves another, which has said so already, and looks at what it has left.
        """
        if replaced and any(RIGHT in s.service.requests and s.state is Slot.SERVING for s in self._slots()):
            self._wake_keeper()
            return
        for key in list(self._one_shots):
            self.one_shot(wire.Used(key, 0))

    def _spread(self, message: wire.OneShot) -> None:
        for slot in self._slots():
            if slot.service.published:
                slot.send(message)

    def asked(self, services: Iterable[Service], asker: Asker | None) -> None:
        """An administrator has published something."""
        self.look(services)
        if asker is not None:
            now = f"{self.now.id}, overlay {self.now.overlay}" if self.now else "nothing"
            asker.end(not self.problem, "; ".join(filter(None, (self.problem, f"in force: {now}"))))

    def told_pinned(self, numbers: set[int], asker: Asker) -> None:
        """Tell the publisher's caller which releases clients are still being served: one line of their names."""
        asker.end(True, " ".join(name for name, number in self._numbers.items() if number & NUMBER_MASK in numbers))

    def _take(self, found: tuple[str, int] | None, services: list[Service]) -> bool:
        if found is None:
            if self.now is not None:
                raise current.Unusable(f"{self._state_dir}/{current.FILE} is gone")
            return False
        for service in services:
            gap = current.missing(service.jail, *found)
            if gap:
                raise current.Unusable(f"{service.name}: {gap} is missing, of the release that is to be served")
        name, overlay = found
        if self.now is not None and (self.now.id, self.now.overlay) == found:
            return False
        self.now = wire.Release(self._number(name), overlay, name)
        return True

    def _number(self, name: str) -> int:
        if name not in self._numbers:
            self._last += 1
            self._numbers[name] = self._last
            if len(self._numbers) > _KNOWN_MAX:
                self._numbers.popitem(last=False)
        self._numbers.move_to_end(name)
        return self._numbers[name]

    def at_birth(self, service: Service) -> dict[str, Any]:
        """What a worker of a service is told with its settings (`published.view.Published.born`)."""
        if not (service.published or RIGHT in service.requests) or self.now is None:
            return {}
        once = [[key, serves] for key, serves in self._one_shots.items()] if service.published else []
        known = [[number, name] for name, number in self._numbers.items()]
        return {"release": {"known": known, "now": [self.now.number, self.now.id, self.now.overlay], "once": once}}

    def facts(self, service: Service) -> dict[str, Any]:
        """What `status --json` tells of a service."""
        now = self.now if service.published else None
        return {"release": now.id if now else None, "overlay": now.overlay if now else None}

    def problems(self, services: Iterable[Service]) -> list[tuple[str, str]]:
        """What an operator should know, each with the remedy."""
        if self.problem:
            kept = f"; {self.now.id} stays in force" if self.now else "; nothing published is served"
            return [(f"{self.problem}{kept}", "appliance boot publish, or appliance boot rollback")]
        found = []
        for service in services:
            if service.published and self.now is not None:
                gap = current.missing(service.jail, self.now.id, self.now.overlay)
                if gap:
                    found.append((f"{service.name}: {gap} is gone", "appliance boot publish"))
        return found
