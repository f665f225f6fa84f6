"""pyftpdlib's event loop, with its two faults in our use taken out, and its logging switched off.

Invariant: an event is only ever given to the object it was raised for. Descriptors are reused at once, so an object
that was registered while a batch of events is worked off gets none of that batch (what is still true comes again).
"""

from __future__ import annotations

import logging
import select
from typing import Any, Protocol

import pyftpdlib.ioloop

READ, WRITE = select.EPOLLIN, select.EPOLLOUT
_GONE = select.EPOLLERR | select.EPOLLHUP


class Watched(Protocol):
    """What can be registered: called for one descriptor, and `handle_error` with whatever a call raised."""

    def handle_read_event(self) -> None: ...

    def handle_write_event(self) -> None: ...

    def handle_close(self) -> None: ...

    def handle_error(self) -> None: ...


class Loop(pyftpdlib.ioloop.IOLoop):  # type: ignore[misc]  # pyftpdlib has no types
    """One epoll and one heap of timers. It is made after the process was born, so no two workers share an epoll."""

    def __init__(self) -> None:
        super().__init__()
        self._fresh: set[int] = set()

    def register(self, fd: int, instance: Watched | Any, events: int) -> None:
        """Watch a descriptor."""
        super().register(fd, instance, events)
        self._fresh.add(fd)

    def poll(self, timeout: float | None) -> None:
        """Wait once, at most `timeout` seconds, and give every event to its object; the wall is `handle_error`."""
        try:
            events = self._poller.poll(-1 if timeout is None else timeout)
        except InterruptedError:
            return
        fresh, watched = self._fresh, self.socket_map.get
        fresh.clear()
        for fd, event in events:
            instance = watched(fd)
            if instance is None or fd in fresh:
                continue
            try:
                if event & READ:
                    instance.handle_read_event()
                elif event & _GONE:
                    instance.handle_close()
                if event & WRITE and watched(fd) is instance and fd not in fresh:
                    instance.handle_write_event()
            except Exception:
                instance.handle_error()

    def idle(self) -> bool:
        """Whether the next `poll` would find nothing; nothing is taken from it."""
        return not self._poller.poll(0, 1)

    def close(self) -> None:
        """Let the epoll and the timers go; what is still watched belongs to others, who close it."""
        self.socket_map.clear()
        self.sched.close()
        self._poller.close()


def silence() -> None:
    """Switch pyftpdlib's own logging off: it formats several lines per command, and would write where nobody reads."""
    logger = logging.getLogger("pyftpdlib")
    logger.setLevel(logging.CRITICAL + 1)
    logger.propagate = False
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
