"""The table of privileged requests: what a worker may ask of the supervisor, and what is checked before it is done.

One entry so far. `active` opens a data connection from the FTP data port (RFC 959 section 3.2) to the client of a
control connection. The worker names nothing but a port: the address comes from the accepted control socket that it
shows, and that is looked at by the kernel's word (type, local address, peer), never by the worker's. The connect is
started here and the connecting socket is handed over: an unconnected one could be pointed anywhere.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

ACTIVE = 1
NAMES = {"active": ACTIVE}
_RATE, _BURST = 2500.0, 200.0  # requests a second of one worker at most, and how many at once: docs/decisions/0020
_ALL, _LEAST = 5000.0, 100.0  # of all workers of a service together; of each at least: docs/decisions/0066
_CONNECT_S = 30.0
_MOST = 256  # connects under way: strangers whose firewall drops them must not use up the supervisor's descriptors
_ESTABLISHED = 1  # first byte of struct tcp_info, include/net/tcp_states.h


class Refused(Exception):
    """The request is refused; `errno` is what the worker is told."""

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(reason)
        self.errno = number


class Liar(Exception):
    """Only a worker that no longer runs our program can have sent this: it is ended."""


def rate(workers: int) -> float:
    """Messages a second that one of so many workers may send: all of them leave the supervisor time for its work."""
    return max(_LEAST, min(_RATE, _ALL / workers))


@dataclass(slots=True)
class Budget:
    """A token bucket for one worker, which gets `rate` a second."""

    rate: float
    tokens: float = _BURST
    at: float = field(default_factory=time.monotonic)

    def take(self, now: float) -> bool:
        """True when one more request fits."""
        self.tokens = min(_BURST, self.tokens + (now - self.at) * self.rate)
        self.at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


@dataclass(slots=True)
class ActiveConnections:
    """Connects under way, one per control connection at most. Sockets here are our copies, closed when decided."""

    source_port: int
    local: Callable[[], Iterable[tuple[str, int]]]  # what the FTP service listens on: (host, port)
    under_way: dict[tuple[str, int], tuple[socket.socket, float]] = field(default_factory=dict)

    def open(self, control_fd: int, port: int, now: float) -> socket.socket:
        """Start the connect and return its socket (ours to keep until `settle`). Raises Refused, Liar or OSError."""
        family, here, client = self._examine(control_fd)
        if port < 1024:
            raise Refused(errno.EACCES, f"data port {port} is privileged")
        if client in self.under_way:
            raise Refused(errno.EBUSY, "one data connection at a time")
        if len(self.under_way) >= _MOST:
            raise Refused(errno.EAGAIN, "too many data connections under way")
        data = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            data.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            data.bind((here, self.source_port))
            result = data.connect_ex((client[0], port))
            if result not in (0, errno.EINPROGRESS):
                raise OSError(result, os.strerror(result))
        except BaseException:
            data.close()
            raise
        self.under_way[client] = (data, now + _CONNECT_S)
        return data

    @staticmethod
    def stands(data: socket.socket) -> bool:
        """Whether the connect is done already, as it is on a fast network: nothing is left to wait for."""
        return data.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _ESTABLISHED

    def settle(self, data: socket.socket) -> None:
        """The connect is decided, either way: close our copy."""
        client = next((client for client, (known, _deadline) in self.under_way.items() if known is data), None)
        if client is not None:
            del self.under_way[client]
        data.close()

    def expire(self, now: float) -> list[socket.socket]:
        """Sockets whose connect took too long; the caller settles them."""
        return [sock for sock, deadline in self.under_way.values() if deadline < now]

    def _examine(self, control_fd: int) -> tuple[int, str, tuple[str, int]]:
        try:
            sock = socket.SocketType(fileno=control_fd)
        except OSError as error:
            raise Liar("the control connection is no socket") from error
        try:
            if sock.type != socket.SOCK_STREAM or sock.family not in (socket.AF_INET, socket.AF_INET6):
                raise Liar("the control connection is no TCP socket")
            here, peer = sock.getsockname(), self._peer(sock)
            if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                raise Liar("the control connection is a listener")
            if sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != _ESTABLISHED:
                raise Refused(errno.ENOTCONN, "the client has closed its control connection")
            if not self._is_ours(here):
                raise Liar(f"the control connection is not one of ours: local port {here[1]}")
            return sock.family, here[0], (peer[0], peer[1])
        finally:
            sock.detach()

    @staticmethod
    def _peer(sock: socket.SocketType) -> tuple[str, int]:
        try:
            peer = sock.getpeername()
        except OSError as error:  # the client hung up meanwhile, or it never was a connection
            raise Refused(errno.ENOTCONN, "the control connection has no peer") from error
        return peer[0], peer[1]

    def _is_ours(self, here: tuple[str, int]) -> bool:
        return any(here[1] == port and host in (here[0], "0.0.0.0", "::") for host, port in self.local())
