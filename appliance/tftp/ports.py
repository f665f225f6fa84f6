"""Local ports of transfers, each with a second, unconnected socket that hears strangers (RFC 1350 section 4).

A transfer's own socket is connected, so a datagram from a foreign port never reaches it; it reaches the port's watch
socket, and there gets ERROR 5. Both are kept for later transfers, which only connect anew: 4 µs per transfer, not 30.

Invariant: between two transfers the socket stays connected to the last client, so nobody else can fill its queue; what
that client still sends is thrown away as it comes, and once more after the socket has been connected to the next one.

Whoever knows the port of a transfer can answer for its client without hearing a word, and have a file sent to an
address that he forged. Kept ports come round again in a row that anybody learns from a few transfers of his own. So
they are for clients whose address nobody outside can forge. Every other gets a port that is used once, and is secret: a
stranger gets ERROR 5 only where it comes from the client's own address, or a scan would find the port.
"""

from __future__ import annotations

import errno
import random
import socket
from collections import deque
from collections.abc import Callable, Iterable

from appliance.tftp import sockets

_FRESH = 16  # so many ports lie between two uses of one: late packets of the last transfer do not meet the next
_KEPT = 256
_TRIM_S = 60.0  # what nobody needed for so long is too much


class PortsFull(Exception):
    """Every port of the range is taken."""


class Port:
    """One local port number and its watch; `busy` while a transfer runs on it.

    `sock` is the socket of its transfers, bound to `local`; None before the first one. `polled`: the loop waits for it.
    `secret`: used for one transfer only, and strangers from elsewhere than its client's `host` are told nothing.
    """

    __slots__ = ("busy", "family", "host", "local", "number", "polled", "secret", "sock", "watch")

    def __init__(self, watch: socket.socket, *, secret: bool) -> None:
        self.watch, self.secret = watch, secret
        self.host = ""
        self.family = int(watch.family)  # socket.family makes an enum each time: 1 µs
        self.number: int = watch.getsockname()[1]
        self.busy = True
        self.sock: socket.socket | None = None
        self.local: sockets.Local | None = None
        self.polled = False


class Ports:
    """The ports of one worker. `opened` and `closed` are told, so that a watch is polled as long as it exists.

    `numbers`: the only ones that may be used; None is any free one. `dropped` is told before a polled `sock` is closed.
    """

    def __init__(
        self,
        opened: Callable[[Port], None],
        closed: Callable[[Port], None],
        numbers: Iterable[int] | None = None,
        *,
        dropped: Callable[[Port], None] = lambda _port: None,
    ) -> None:
        self._opened, self._closed, self._dropped = opened, closed, dropped
        self._unheld: dict[int, list[int]] | None = None
        if numbers is not None:
            self._unheld = {socket.AF_INET: list(numbers), socket.AF_INET6: list(numbers)}
        self._random = random.SystemRandom()  # whoever can tell the next port can forge the first ACK
        self._idle: dict[int, deque[Port]] = {socket.AF_INET: deque(), socket.AF_INET6: deque()}
        self._unneeded = dict.fromkeys(self._idle, 0)  # the fewest that were kept at once since the last trim
        self._trim_at = 0.0

    def take(self, family: int, *, secret: bool = False) -> Port | None:
        """A port nobody uses. None when there is no descriptor for its watch: the transfer does without.

        `secret`: one that nobody can foresee. Of a range that is all in use or kept, a kept one then, in no order.
        Raises PortsFull, and with a range, which cannot be left, OSError when there is no descriptor.
        """
        idle = self._idle[family]
        if len(idle) >= _FRESH and not secret:
            port = idle.popleft()
            port.busy = True
            if len(idle) < self._unneeded[family]:  # noqa: PLR1730 (min() costs more, and every transfer comes by)
                self._unneeded[family] = len(idle)
            return port
        if self._unheld is not None:
            return self._take_of_range(family, self._unheld[family], secret)
        try:
            watch = sockets.watch(family)
        except OSError:
            return None
        port = Port(watch, secret=secret)
        self._opened(port)
        return port

    def _take_of_range(self, family: int, unheld: list[int], secret: bool) -> Port:
        """In no order that can be foreseen; what a sibling holds is tried again another time."""
        taken: list[int] = []
        try:
            while unheld:
                at = self._random.randrange(len(unheld))
                unheld[at], unheld[-1] = unheld[-1], unheld[at]
                try:
                    watch = sockets.watch(family, unheld[-1])
                except OSError as error:
                    if error.errno != errno.EADDRINUSE:
                        raise
                    taken.append(unheld.pop())
                    continue
                unheld.pop()
                port = Port(watch, secret=secret)
                self._opened(port)
                return port
        finally:
            unheld.extend(taken)
        idle = self._idle[family]
        if not idle:
            raise PortsFull
        idle.rotate(-self._random.randrange(len(idle)) if secret else 0)
        port = idle.popleft()
        port.busy, port.secret = True, secret
        self._unneeded[family] = min(self._unneeded[family], len(idle))
        return port

    def connect(self, port: Port, local: sockets.Local, peer: sockets.Peer) -> socket.socket:
        """The socket of a transfer on this port, from `local` to `peer`. Raises OSError; then the port has none."""
        port.host = peer[0]
        try:
            if port.sock is not None:
                if port.local == local and sockets.turn(port.sock, peer):
                    return port.sock
                self.drop(port)
            port.sock, port.local = sockets.connect(local, peer, port.number), local
        except BaseException:
            self.drop(port)
            raise
        return port.sock

    def drop(self, port: Port) -> None:
        """Close its socket: the next transfer gets a new one."""
        if port.sock is None:
            return
        if port.polled:
            self._dropped(port)
            port.polled = False
        port.sock.close()
        port.sock = None

    def give(self, port: Port) -> None:
        """Back from a finished transfer."""
        if port.secret:
            self.close(port)
            return
        idle = self._idle[port.family]
        port.busy = False
        idle.append(port)
        if len(idle) > _KEPT:
            self.close(idle.popleft())

    def trim(self, now: float) -> None:
        """Once a minute: let those go that a crowd has left behind. `now`: monotonic seconds."""
        if now < self._trim_at:
            return
        self._trim_at = now + _TRIM_S
        for family, idle in self._idle.items():
            for _ in range(self._unneeded[family] - _FRESH):
                self.close(idle.popleft())
            self._unneeded[family] = len(idle)

    def close(self, port: Port) -> None:
        """For good: the port cannot be used."""
        self.drop(port)
        self._closed(port)
        if self._unheld is not None:
            self._unheld[port.family].append(port.number)
        port.watch.close()

    def close_idle(self) -> None:
        """All that no transfer holds."""
        for idle in self._idle.values():
            while idle:
                self.close(idle.popleft())
        self._unneeded = dict.fromkeys(self._idle, 0)
