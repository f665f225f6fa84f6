"""What the loop of a worker waits for besides its transfers: descriptors, and who is called when one is readable."""

from __future__ import annotations

import select
from collections.abc import Callable

from appliance.observe.tables import Counters
from appliance.tftp.journal import Journal

Handler = Callable[[float], None]


class Poll:
    """One epoll. `wait(seconds, most)` is that of the kernel, without a step between: every turn goes through it."""

    def __init__(self, counters: Counters, journal: Journal) -> None:
        self._counters, self._journal = counters, journal
        self._handlers: dict[int, Handler] = {}
        self._epoll = select.epoll()
        self.wait = self._epoll.poll

    def add(self, descriptor: int) -> None:
        """Wait for a transfer's own descriptor; its closing ends that."""
        self._epoll.register(descriptor, select.EPOLLIN)

    def handle(self, descriptor: int, handler: Handler) -> None:
        """Call `handler(now)` whenever `descriptor` is readable."""
        self._epoll.register(descriptor, select.EPOLLIN)
        self._handlers[descriptor] = handler

    def rehandle(self, descriptor: int, handler: Handler) -> None:
        """Call another one for a descriptor that is waited for."""
        self._handlers[descriptor] = handler

    def unhandle(self, descriptor: int) -> None:
        """Wait for it no more."""
        del self._handlers[descriptor]
        self._epoll.unregister(descriptor)

    def call(self, descriptor: int, now: float) -> None:
        """It is readable. The wall: a bug met here ends nothing."""
        handler = self._handlers.get(descriptor)
        if handler is None:
            return  # closed earlier in this turn
        try:
            handler(now)
        except Exception:
            self._counters.add("crashes")
            self._journal.crash()

    def close(self) -> None:
        """The end of the loop."""
        self._epoll.close()
