"""What the supervisor itself has to tell the events service: workers, bans, reloads. Kept while that is not there."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from appliance import wire
from appliance.observe import events, framing
from appliance.supervise.group import Group
from appliance.supervise.links import EVENTS
from appliance.supervise.states import Slot

_MOST = 256  # kept; the oldest are forgotten


class Telling:
    """`groups` gives all generations, the newest first."""

    def __init__(self, groups: Callable[[], Iterable[Group]]) -> None:
        self._groups = groups
        self._waiting: deque[bytes] = deque(maxlen=_MOST)

    def tell(self, event: events.Event) -> None:
        """Tell, now or as soon as there is somebody to tell it to."""
        self._waiting.append(framing.encode(event))
        self.repair()

    def repair(self) -> None:
        """Tell what waits, if there is somebody now."""
        if not self._waiting:
            return
        groups = (group for group in self._groups() if group.service.name == EVENTS)
        slot = next((one for group in groups for one in group.slots if one.state is Slot.SERVING), None)
        while slot is not None and self._waiting and slot.send(wire.Tell(self._waiting[0])):
            self._waiting.popleft()
