"""Which program is run next: a queue for each hook, none longer than it may be, none run more often at once. Pure.

Each hook has a queue of its own, so a slow program holds up no other one's events, and nothing else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from appliance.hooks.orders import Order
from appliance.settings.hooks import Hook


class Desk:
    """See the module."""

    def __init__(self, hooks: Sequence[Hook]) -> None:
        self._hooks = hooks
        self._queues: list[deque[bytes]] = [deque() for _ in hooks]
        self._running: dict[int, int] = {}  # run -> hook
        self._last = 0

    def offer(self, trigger: str, document: bytes) -> list[int]:
        """An event for all hooks that want it; the numbers of those that had no room for it."""
        full = []
        for number, hook in enumerate(self._hooks):
            if trigger in hook.on:
                if len(self._queues[number]) >= hook.queue:
                    full.append(number)
                else:
                    self._queues[number].append(document)
        return full

    def due(self) -> Iterator[Order]:
        """What is to be run now; it counts as running."""
        for number, queue in enumerate(self._queues):
            while queue and sum(one == number for one in self._running.values()) < self._hooks[number].parallel:
                self._last = (self._last + 1) & 0xFFFFFFFF
                self._running[self._last] = number
                yield Order(self._last, number, queue.popleft())

    def over(self, run: int) -> int | None:
        """A run is over; the number of its hook, None for a run that was never begun."""
        return self._running.pop(run, None)

    @property
    def running(self) -> int:
        """How many programs run."""
        return len(self._running)

    @property
    def idle(self) -> bool:
        """Nothing runs and nothing waits."""
        return not self._running and not any(self._queues)
