"""Local ports of transfers, each with a second, unconnected socket that hears strangers (RFC 1350 section 4).

A transfer's own socket is connected, so a datagram from a foreign port never reaches it; it reaches the port's watch
socket, and there gets ERROR 5. A watch is kept for later transfers: 2 µs per transfer, not 11, and none per block.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable

from appliance.tftp import sockets

_FRESH = 16  # so many ports lie between two uses of one: late packets of the last transfer do not meet the next
_KEPT = 256


class Port:
    """One local port number and its watch; `busy` while a transfer runs on it."""

    __slots__ = ("busy", "number", "watch")

    def __init__(self, watch: socket.socket) -> None:
        self.watch = watch
        self.number: int = watch.getsockname()[1]
        self.busy = True


class Ports:
    """The ports of one worker. `opened` and `closed` are told, so that a watch is polled as long as it exists."""

    def __init__(self, opened: Callable[[Port], None], closed: Callable[[Port], None]) -> None:
        self._opened, self._closed = opened, closed
        self._idle: dict[int, deque[Port]] = {socket.AF_INET: deque(), socket.AF_INET6: deque()}

    def take(self, family: int) -> Port | None:
        """A port nobody uses. None when there is no descriptor for its watch: the transfer does without."""
        idle = self._idle[family]
        if len(idle) >= _FRESH:
            port = idle.popleft()
            port.busy = True
            return port
        try:
            watch = sockets.watch(family)
        except OSError:
            return None
        port = Port(watch)
        self._opened(port)
        return port

    def give(self, port: Port) -> None:
        """Back from a finished transfer."""
        idle = self._idle[port.watch.family]
        port.busy = False
        idle.append(port)
        if len(idle) > _KEPT:
            self.close(idle.popleft())

    def close(self, port: Port) -> None:
        """For good: the port cannot be used."""
        self._closed(port)
        port.watch.close()

    def close_idle(self) -> None:
        """All that no transfer holds."""
        for idle in self._idle.values():
            while idle:
                self.close(idle.popleft())
