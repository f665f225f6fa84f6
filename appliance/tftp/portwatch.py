"""The sockets of transfers in the loop: who is called for what comes to them, and to their ports from strangers.

A socket that belongs to a port of ours is waited for until it is closed, whoever has the port; one that goes through a
listener is not waited for at all.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from appliance.tftp import packet, sockets
from appliance.tftp.admission import TokenBucket
from appliance.tftp.packet import ErrorCode
from appliance.tftp.poll import Handler, Poll
from appliance.tftp.ports import Port, Ports
from appliance.tftp.transfer import Call, Transfer

_STRANGER = packet.error(ErrorCode.UNKNOWN_TID, "Unknown transfer ID")
_ANSWERED = {bytes((0, opcode)) for opcode in packet.Opcode if opcode != packet.Opcode.ERROR}
_STRANGERS_PER_SECOND = 1000  # their addresses may be forged too


class PortWatch:
    """Keeps the `ports`. `through(listener, step)`: so many transfers more go through a listener."""

    def __init__(self, poll: Poll, numbers: range | None, through: Callable[[socket.socket, int], None]) -> None:
        self._poll, self._through = poll, through
        self._strangers = TokenBucket(_STRANGERS_PER_SECOND)
        self.ports = Ports(self._watch, self._unwatch, numbers, dropped=self._dropped)

    # -- reads: their sockets are found by the loop itself

    def begin(self, transfer: Transfer) -> None:
        """Wait for what the socket of a read receives. Raises OSError."""
        call, port, sock = transfer.call, transfer.port, transfer.sock
        if call.via is not None:
            self._through(call.via, 1)
        elif port is None:
            self._poll.add(sock.fileno())
        elif not port.polled:
            self._poll.handle(sock.fileno(), lambda _now: _discard(sock))
            port.polled = True

    def end(self, transfer: Transfer, *, fit: bool) -> None:
        """A read is through with its socket; `fit`: the port may be used again with it."""
        port = transfer.port
        if port is None:
            transfer.sock.close()
        else:
            if not fit:
                self.ports.drop(port)
            self.ports.give(port)
        if transfer.call.via is not None:
            self._through(transfer.call.via, -1)

    # -- writes: their sockets have handlers

    def hold(self, call: Call, sock: socket.socket, port: Port | None, handler: Handler) -> None:
        """Call `handler(now)` for what comes to a write on this socket. Raises OSError."""
        if call.via is not None:
            self._through(call.via, 1)
        elif port is not None and port.polled:
            self._poll.rehandle(sock.fileno(), handler)
        else:
            self._poll.handle(sock.fileno(), handler)
            if port is not None:
                port.polled = True

    def release(self, call: Call, sock: socket.socket, port: Port | None) -> None:
        """A write is through with what `hold` held."""
        if port is not None:
            self._poll.rehandle(sock.fileno(), lambda _now: _discard(sock))
            self.ports.give(port)
            return
        if call.via is None:
            self._poll.unhandle(sock.fileno())
        sock.close()
        if call.via is not None:
            self._through(call.via, -1)

    # -- ports

    def _dropped(self, port: Port) -> None:
        if port.sock is not None:
            self._poll.unhandle(port.sock.fileno())

    def _watch(self, port: Port) -> None:
        self._poll.handle(port.watch.fileno(), lambda now: self._on_stranger(port, now))

    def _unwatch(self, port: Port) -> None:
        self._poll.unhandle(port.watch.fileno())

    def _on_stranger(self, port: Port, now: float) -> None:
        """Somebody who is not the client of the transfer on this port (RFC 1350 section 4). No answer to an ERROR."""
        try:
            datagram = sockets.receive(port.watch)
            told = port.busy and (not port.secret or datagram.peer[0] == port.host)
            wanted = told and datagram.payload[:2] in _ANSWERED and datagram.peer[1]
            if wanted and datagram.local is not None and self._strangers.take(now):
                sockets.reply(port.watch, _STRANGER, datagram.local, datagram.peer)
        except OSError:
            pass


def _discard(sock: socket.socket) -> None:
    """Throw away what a client sends after its transfer."""
    try:
        sock.recv(1)
    except OSError:
        pass
