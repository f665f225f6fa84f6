"""How a data connection comes about: a listener for the client (PASV, EPSV), or a connection to it (PORT, EPRT).

A passive listener stays out of the event loop until a transfer wants it. Only the client of the control connection is
let in, and only it is connected to; the worker itself has no connect(): the supervisor makes active connections.

Sockets here are `socket.SocketType`, what `socket.socket` is made on: half the time for one that lives for one file.
"""

from __future__ import annotations

import errno
import itertools
import os
import socket
from typing import TYPE_CHECKING, Any

from appliance.ftp import addresses
from appliance.ftp.loop import READ, WRITE

if TYPE_CHECKING:
    from appliance.ftp.data import Transfer
    from appliance.ftp.session import Session

LISTEN_S = 60.0  # an unused passive port is given back
ARRANGED_S = 5.0  # as long a client may take from the reply to PASV or PORT to its RETR before a drain sends it away
_BACKLOG = 4  # connections waiting at a passive listener; strangers may take some
_STRANGERS = 8  # looked at in one turn
_TRIES = 32  # ports tried until one is free
_KIND = socket.SOCK_STREAM | socket.SOCK_CLOEXEC
_DICE = 256  # ports chosen with one call for random bytes
_RETRY_S, _RETRIES = 0.05, 100  # the supervisor is asked again while it is busy with the connection before


class Passive:
    """A listening socket for one data connection (PASV, EPSV)."""

    def __init__(self, session: Session) -> None:
        """Bind an unpredictable free port of the range on the address the client reached. Raises OSError."""
        self.session = session
        self.made = session.house.now
        self.waiting: Transfer | None = None
        self._family, here = session.local()
        self.sock, self.port = _listen(session.house.passive_ports, self._family, here)

    def take(self) -> socket.SocketType | None:
        """The client's connection, if it is there; it blocks. Anybody else's is closed and told to the operator."""
        for _ in range(_STRANGERS):
            try:
                fd, peer = self.sock._accept()  # type: ignore[attr-defined]  # what `socket.accept` is made on
            except OSError:
                return None
            sock = socket.SocketType(self._family, socket.SOCK_STREAM, 0, fd)
            if peer[0] == self.session.client_ip or addresses.plain(peer[0]) == self.session.client_ip:
                return sock
            sock.close()
            self.session.house.complain("data connection refused", self.session.client, f"came from {peer[0]}")
        return None

    def wait(self, transfer: Transfer) -> None:
        """Watch for the client's connection."""
        self.waiting = transfer
        self.session.house.loop.register(self.sock.fileno(), self, READ)

    def handle_read_event(self) -> None:
        sock = self.take()
        if sock is not None and self.waiting is not None:
            transfer = self.waiting
            self.close()
            transfer.connected(sock)

    def handle_write_event(self) -> None:
        """Never asked for."""

    def handle_close(self) -> None:
        self.handle_error()

    def handle_error(self) -> None:
        self.session.handle_error()

    def close(self) -> None:
        """Give the port back; may be called twice."""
        if self.waiting is not None:
            self.session.house.loop.unregister(self.sock.fileno())
            self.waiting = None
        self.sock.close()


class Ports:
    """The range of passive ports; nobody can foretell which one is next."""

    def __init__(self, first: int, last: int) -> None:
        self._ports = range(first, last + 1)
        self._dice = iter(b"")

    def choose(self) -> int:
        """Any of them, each as likely as the others."""
        dice = bytes(itertools.islice(self._dice, 4))
        if not dice:
            self._dice = iter(os.urandom(4 * _DICE))
            return self.choose()
        return self._ports[int.from_bytes(dice, "big") % len(self._ports)]


def _listen(ports: Ports, family: int, here: tuple[Any, ...]) -> tuple[socket.SocketType, int]:
    for _ in range(_TRIES):
        port = ports.choose()
        sock = socket.SocketType(family, _KIND | socket.SOCK_NONBLOCK)
        try:
            # TIME_WAIT of an earlier transfer is no hindrance
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((here[0], port, *here[2:]))
            sock.listen(_BACKLOG)
        except OSError as error:
            sock.close()
            if error.errno != errno.EADDRINUSE:
                raise
            continue
        return sock, port
    raise OSError(errno.EADDRINUSE, "no passive port is free")


class Active:
    """A connection to the client (PORT, EPRT): asked of the supervisor, since a worker cannot connect."""

    def __init__(self, transfer: Transfer, port: int) -> None:
        self.transfer, self.port = transfer, port
        self.house = transfer.session.house
        self.sock: socket.SocketType | None = None
        self._id = 0
        self._retries = 0
        self._ask()

    def _ask(self) -> None:
        if self.transfer.over:
            return
        try:
            self._id = self.house.request_active(self.port, self.transfer.session.socket.fileno())
        except OSError as error:  # its queue is full, or it is gone
            self.answered(None, error.errno or errno.EIO)
        else:
            self.house.connecting[self._id] = self

    def answered(self, sock: socket.SocketType | None, number: int) -> None:
        """The supervisor's reply: a socket that is connecting, or the errno of its refusal."""
        self.house.connecting.pop(self._id, None)
        if sock is None:
            if number in (errno.EBUSY, errno.EAGAIN) and self._retries < _RETRIES:
                self._retries += 1
                self.house.loop.call_later(_RETRY_S, self._ask, _errback=self.handle_error)
            else:
                self.transfer.end("425 Cannot open data connection.", f"not connected: {os.strerror(number)}")
            return
        try:
            sock.getpeername()
        except OSError:  # not yet, or refused
            self.sock = sock
            self.house.loop.register(sock.fileno(), self, WRITE)
        else:
            self.transfer.connected(sock)

    def handle_read_event(self) -> None:
        self.handle_write_event()

    def handle_write_event(self) -> None:
        sock = self.sock
        if sock is None:
            return
        number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            self.transfer.end("425 Cannot open data connection.", f"not connected: {os.strerror(number)}")
            return
        self.house.loop.unregister(sock.fileno())
        self.sock = None  # from here on it is the transfer's, and nobody unregisters it on our behalf
        self.transfer.connected(sock)

    def handle_close(self) -> None:
        self.handle_write_event()

    def handle_error(self) -> None:
        self.transfer.session.handle_error()

    def close(self) -> None:
        """Forget the request and the connection under way; may be called twice."""
        self.house.connecting.pop(self._id, None)
        if self.sock is not None:
            self.house.loop.unregister(self.sock.fileno())
            self.sock.close()
            self.sock = None
