"""How a data connection comes about: a listener for the client (PASV, EPSV), or a connection to it (PORT, EPRT).

A passive listener stays out of the event loop until a transfer wants it. Only the client of the control connection is
let in, and only it is connected to; the worker itself has no connect(): the supervisor makes active connections.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING

from appliance.ftp import addresses
from appliance.ftp.loop import READ, WRITE

if TYPE_CHECKING:
    from appliance.ftp.data import Transfer
    from appliance.ftp.session import Session

LISTEN_S = 60.0  # an unused passive port is given back
_BACKLOG = 4  # connections waiting at a passive listener; strangers may take some
_STRANGERS = 8  # looked at in one turn
_TRIES = 32  # ports tried until one is free
_RETRY_S, _RETRIES = 0.05, 100  # the supervisor is asked again while it is busy with the connection before


class Passive:
    """A listening socket for one data connection (PASV, EPSV)."""

    def __init__(self, session: Session) -> None:
        """Bind an unpredictable free port of the range on the address the client reached. Raises OSError."""
        self.session = session
        self.made = session.house.now
        self.waiting: Transfer | None = None
        self.sock = _listen(session)
        self.port: int = self.sock.getsockname()[1]

    def take(self) -> socket.socket | None:
        """The client's connection if it is there. Anybody else's is closed and told to the operator."""
        for _ in range(_STRANGERS):
            try:
                sock, peer = self.sock.accept()
            except OSError:
                return None
            if addresses.plain(peer[0]) == self.session.client_ip:
                sock.setblocking(False)
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


def _listen(session: Session) -> socket.socket:
    ports = session.house.passive_ports
    family, here = session.local()
    for _ in range(_TRIES):
        port = ports[int.from_bytes(os.urandom(4), "big") % len(ports)]
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(
                socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
            )  # TIME_WAIT of an earlier transfer is no hindrance
            sock.bind((here[0], port, *here[2:]))
            sock.listen(_BACKLOG)
        except OSError as error:
            sock.close()
            if error.errno != errno.EADDRINUSE:
                raise
            continue
        return sock
    raise OSError(errno.EADDRINUSE, "no passive port is free")


class Active:
    """A connection to the client (PORT, EPRT): asked of the supervisor, since a worker cannot connect."""

    def __init__(self, transfer: Transfer, port: int) -> None:
        self.transfer, self.port = transfer, port
        self.house = transfer.session.house
        self.sock: socket.socket | None = None
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

    def answered(self, sock: socket.socket | None, number: int) -> None:
        """The supervisor's reply: a socket that is connecting, or the errno of its refusal."""
        self.house.connecting.pop(self._id, None)
        if sock is None:
            if number in (errno.EBUSY, errno.EAGAIN) and self._retries < _RETRIES:
                self._retries += 1
                self.house.loop.call_later(_RETRY_S, self._ask, _errback=self.handle_error)
            else:
                self.transfer.end("425 Cannot open data connection.", f"not connected: {os.strerror(number)}")
            return
        sock.setblocking(False)
        self.sock = sock
        self.house.loop.register(sock.fileno(), self, WRITE)

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
