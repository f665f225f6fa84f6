"""A worker's end of its link to the events service: tells, and never waits.

Events are held for up to HOLD_S and leave together: a system call, and waking the service, cost more than the event.
What the rate does not allow, or the queue does not take, is counted, and told as one `Lost` when there is room again.
Invariant: nothing that happens here raises, and the caller loses nothing
but the event.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from appliance.observe import events

HOLD_S = 0.05
BURST_S = 8  # so many seconds' worth may come at once: a room full of machines that boot
_FULL = events.DATAGRAM_MAX // 2  # one event more, and it still fits
_NEVER = float("inf")
_MAKE_UP_S = 1.0  # between two `Lost`


class Emitter:
    """`lost` is called with the number of events nobody will hear of. Without a link nothing is told or counted."""

    __slots__ = ("_at", "_held", "_left", "_link", "_lost", "_made_up_at", "_missing", "_most", "_owing",
                 "_per_second", "_size", "due")  # fmt: skip

    def __init__(self, link: socket.socket | None, per_second: int, lost: Callable[[int], None]) -> None:
        self._link, self._per_second, self._lost = link, per_second, lost
        self._most = float(per_second * BURST_S)
        self._left, self._at = self._most, 0.0
        self.due = _NEVER  # when `pulse` has something to do; an attribute, because every turn of a loop looks
        self._held: list[bytes] = []
        self._size = 0
        self._missing = {"rate": 0, "queue": 0}
        self._owing, self._made_up_at = False, 0.0
        if link is not None:
            link.setblocking(False)

    @property
    def on(self) -> bool:
        """Somebody listens: it is worth while to make an event."""
        return self._link is not None

    def attach(self, link: socket.socket) -> None:
        """Tell it to this one from now on."""
        link.setblocking(False)
        if self._link is not None:
            self._link.close()
        self._link = link

    def emit(self, event: events.Event, now: float) -> None:
        """Tell of an event, at the latest with the first `pulse` after HOLD_S. `now`: monotonic seconds."""
        if self._link is None:
            return
        if (self._left < 1.0 or not self._held) and not self._refilled(now):
            self._miss("rate", 1, now)
            return
        self._left -= 1.0
        try:
            frame = events.frame(event)
        except ValueError:
            self._miss("rate", 1, now)
            return
        if not self._held:
            self.due = now + HOLD_S
        self._held.append(frame)
        self._size += len(frame)
        if self._size > _FULL:
            self.flush(now)

    def _refilled(self, now: float) -> bool:
        """Whether the rate allows one more; asked once for all events that leave together, and when nothing is left."""
        self._left = min(self._left + (now - self._at) * self._per_second, self._most)
        self._at = now
        return self._left >= 1.0

    def pulse(self, now: float) -> None:
        """Send what has been held long enough."""
        if now >= self.due:
            self.flush(now)

    def flush(self, now: float) -> None:
        """Send what is held, if it is taken at once."""
        self.due = _NEVER
        held = self._held
        if not held and not self._owing:
            return
        count, made_up = len(held), {}
        if self._owing and now - self._made_up_at >= _MAKE_UP_S:
            self._made_up_at = now
            made_up = {cause: missing for cause, missing in self._missing.items() if missing}
            held = [*(events.frame(events.Lost(missing, cause.encode())) for cause, missing in made_up.items()), *held]
        self._held, self._size = [], 0
        if not held or self._link is None:
            return
        try:
            self._link.send(b"".join(held))
        except OSError:  # its queue is full; or it is gone, and the supervisor brings another link
            self._miss("queue", count, now)
            return
        for cause, missing in made_up.items():
            self._missing[cause] -= missing
        self._owing = any(self._missing.values())

    def _miss(self, cause: str, number: int, now: float) -> None:
        if number:
            self._owing = True
            self.due = min(self.due, now + _MAKE_UP_S)
            self._missing[cause] += number
            self._lost(number)
