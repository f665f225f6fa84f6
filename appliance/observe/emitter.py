"""A worker's end of its link to the events service: tells, and never waits.

Events are held for up to HOLD_S and leave together: a system call, and waking the service, cost more than the event.
They become bytes when they leave, and may be made only then: the client that a transfer ends for does not wait for it,
and code that runs for many in one go comes from the memory once.
What the rate does not allow, or the queue does not take, is counted, and told as one `Lost` when there is room again.
Invariant: nothing that happens here raises, and the caller loses nothing
but the event.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, TypeAlias

from appliance.observe import events, framing

HOLD_S = 0.05
BURST_S = 8  # so many seconds' worth may come at once: a room full of machines that boot
_MANY = 100  # events that are held at most
_NEVER = float("inf")
_MAKE_UP_S = 1.0  # between two `Lost`
# what makes the frame of an event when it leaves, and behind it what is needed for that: values, never what they are
# parts of, so that the memory of a transfer is there for the next one at once
Late: TypeAlias = tuple[Any, ...]


class Emitter:
    """`lost` is called with the number of events nobody will hear of. Without a link nothing is told or counted."""

    __slots__ = ("_at", "_held", "_left", "_link", "_lost", "_made_up_at", "_missing", "_most", "_owing",
                 "_per_second", "_room", "due", "on")  # fmt: skip

    def __init__(self, link: socket.socket | None, per_second: int, lost: Callable[[int], None]) -> None:
        self._link, self._per_second, self._lost = link, per_second, lost
        self.on = link is not None  # somebody listens: it is worth while to make an event. An attribute, as `due`
        self.due = _NEVER  # when `pulse` has something to do; an attribute, because every turn of a loop looks
        self._most = float(per_second * BURST_S)
        self._left, self._at = self._most, 0.0  # what the rate allows, as it was then
        self._room = 0  # how many may come, of those that the rate allows, before anything has to be looked at
        self._held: list[Any] = []
        self._missing = {"rate": 0, "queue": 0}
        self._owing, self._made_up_at = False, 0.0
        if link is not None:
            link.setblocking(False)

    def attach(self, link: socket.socket) -> None:
        """Tell it to this one from now on."""
        link.setblocking(False)
        if self._link is not None:
            self._link.close()
        self._link, self.on = link, True

    def emit(self, event: events.Event | Late, now: float) -> None:
        """Tell of an event, at the latest with the first `pulse` after HOLD_S. `now`: monotonic seconds."""
        if self._room < 1 and not self._look(now):
            return
        self._room -= 1
        self._held.append(event)
        if self._room < 1 and len(self._held) >= _MANY:
            self.flush(now)

    def _look(self, now: float) -> bool:
        """Whether one more may come, and how many without asking: for those that leave together that is done once."""
        if self._link is None:
            return False
        self._left = min(self._left + (now - self._at) * self._per_second, self._most)
        self._at = now
        self._room = min(int(self._left), _MANY - len(self._held))
        if self._room < 1:
            self._miss("rate", 1, now)
            return False
        self._left -= self._room
        if not self._held:
            self.due = now + HOLD_S
        return True

    def pulse(self, now: float) -> None:
        """Send what has been held long enough."""
        if now >= self.due:
            self.flush(now)

    def flush(self, now: float) -> None:
        """Send what is held, if it is taken at once."""
        self.due = _NEVER
        if not self._held and not self._owing:
            return
        held, self._held = self._held, []
        self._left, self._room = self._left + self._room, 0
        made_up = self._made_up(now)
        frames = [framing.frame(events.Lost(missing, cause.encode())) for cause, missing in made_up.items()]
        size, others = sum(map(len, frames)), len(frames)
        for event in held:
            try:
                frame = event[0](event) if type(event) is tuple else framing.frame(event)
            except ValueError:
                self._miss("rate", 1, now)
                continue
            size += len(frame)
            if size > framing.DATAGRAM_MAX:
                self._send(frames, len(frames) - others, made_up, now)
                frames, size, others, made_up = [], len(frame), 0, {}
            frames.append(frame)
        if frames:
            self._send(frames, len(frames) - others, made_up, now)
        if self._owing:
            self.due = min(self.due, now + _MAKE_UP_S)

    def _made_up(self, now: float) -> dict[str, int]:
        """How many were lost for which cause, if it is time to tell."""
        if not self._owing or now - self._made_up_at < _MAKE_UP_S:
            return {}
        self._made_up_at = now
        return {cause: missing for cause, missing in self._missing.items() if missing}

    def _send(self, frames: list[bytes], count: int, made_up: dict[str, int], now: float) -> None:
        """Send a datagram with `count` events, and with what was `made_up` for."""
        if self._link is None:
            return
        try:
            self._link.send(b"".join(frames))
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
