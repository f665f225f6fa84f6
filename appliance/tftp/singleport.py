"""Single-port mode: every packet of a transfer leaves from the listener's own port, for NAT and containers.

What an ordinary transfer has from the kernel is made here: which transfer a datagram belongs to (one for each client
address and port), the address that replies leave from, the path's MTU. There is no server TID that a stranger could
miss (RFC 1350 section 4): what fits no transfer is dropped in silence, and nobody gets ERROR 5.

Two workers read one queue while an old generation drains after a reload, and while a listener is given back to a
sibling. Each then looks before it takes, and leaves for a moment what can only be the other's.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Mapping
from typing import Any

from appliance.tftp import packet, sockets
from appliance.tftp.packet import BLOCK_MAX, HEADER
from appliance.tftp.receiving import Write
from appliance.tftp.sockets import Datagram, Local, Peer
from appliance.tftp.transfer import Call, Transfer

_LARGEST = HEADER.size + BLOCK_MAX + 1
_DATA, _ACK, _ERROR = (bytes((0, code)) for code in (packet.Opcode.DATA, packet.Opcode.ACK, packet.Opcode.ERROR))
_INSIDE = {_DATA, _ACK, _ERROR}
_UDP_SEGMENT = 103
_SEGMENT = struct.Struct("=H")
_PMTUDISC_WANT = 1
_HEAD = 64
_MOMENT_S = 0.02  # a busy machine lets the other one run by then
_HANDOVER_S = 60.0  # so long after the last sign of another reader one is still expected
_UNTAKEN_MAX = 8  # so often nobody took what was left: there is nobody


class Shared(socket.socket):
    """A transfer's own descriptor of the listener, with as much of a connected socket's ways as a transfer uses.

    A descriptor of its own, because the listener may be given back while the transfer runs.
    """

    __slots__ = ("_ancillary", "_inbox", "_leaving", "_peer", "_unfragmented")

    def __init__(self, listener: socket.socket, local: Local, peer: Peer) -> None:
        """Raises OSError when there is no descriptor."""
        super().__init__(listener.family, listener.type, listener.proto, fileno=socket.dup(listener.fileno()))
        self._peer = peer
        if self.family == socket.AF_INET6 and ":" not in peer[0]:  # an IPv4 client of a dual-stack listener
            local, self._peer = Local(f"::ffff:{local.address}"), (f"::ffff:{peer[0]}", peer[1], 0, 0)
        self._leaving = sockets.leaving_from(self.family, local)
        self._ancillary = [self._leaving]
        self._unfragmented: tuple[int, int, int] | None = None
        self._inbox: bytes | None = None

    def put(self, datagram: bytes) -> None:
        """What the next `recv` returns."""
        self._inbox = datagram

    def recv(self, bufsize: int, _flags: int = 0, /) -> bytes:
        """What was `put`, cut as the kernel cuts. Raises BlockingIOError when there is nothing."""
        datagram, self._inbox = self._inbox, None
        if datagram is None:
            raise BlockingIOError(errno.EAGAIN, "nothing more")
        return datagram[:bufsize]

    def recv_into(self, buffer: Any, nbytes: int = 0, _flags: int = 0, /) -> int:
        """As `recv`. What a plain socket would do here is to take somebody else's datagram from the listener."""
        datagram = self.recv(nbytes or len(buffer))
        buffer[: len(datagram)] = datagram
        return len(datagram)

    def send(self, data: Any, _flags: int = 0, /) -> int:
        """One datagram, or as many as there are segments. Raises OSError."""
        if self._unfragmented is None:
            return self.sendmsg((data,), self._ancillary, 0, self._peer)
        # The option is the listener's, through which others send: it holds for this packet only.
        level, option, value = self._unfragmented
        super().setsockopt(level, option, value)
        try:
            return self.sendmsg((data,), self._ancillary, 0, self._peer)
        finally:
            super().setsockopt(level, option, _PMTUDISC_WANT)

    def setsockopt(self, level: int, option: int, value: Any, _length: int = 0, /) -> None:
        """Segmentation and fragments, as `sockets` sets them: for what this transfer sends, not for the listener."""
        if (level, option) != (socket.IPPROTO_UDP, _UDP_SEGMENT):
            self._unfragmented = (level, option, value)
        elif value:
            self._ancillary = [self._leaving, (level, option, _SEGMENT.pack(value))]
        else:
            self._ancillary = [self._leaving]


def room(call: Call) -> int:
    """Bytes of file data that one unfragmented packet to this client carries. Raises OSError.

    A listener has no route of its own: a socket that is connected for a moment knows it.
    """
    with sockets.connect(call.local, call.peer, 0) as probe:
        return sockets.room(probe)


class Gate:
    """One listener in single-port mode: sorts what comes. `running` transfers go through it.

    `retired`: it takes no more requests, and is closed when nothing runs through it.
    """

    def __init__(
        self, listener: socket.socket, reads: Mapping[Peer, Transfer], writes: Mapping[Peer, Write], now: float
    ) -> None:
        """`reads`, `writes`: the newest of each client address and port."""
        self.retired = False
        self.running = 0
        self._listener, self._reads, self._writes = listener, reads, writes
        self._polite_until = now + _HANDOVER_S
        self._left: tuple[bytes, Peer] | None = None
        self._left_at = 0.0
        self._untaken = 0

    def retire(self, now: float) -> None:
        """No more requests; somebody else may take them from now on."""
        self.retired = True
        self._polite_until = now + _HANDOVER_S
        self._untaken = 0

    def receive(self, now: float) -> Datagram | None:
        """The next datagram; None when it is left to another reader. Raises OSError, BlockingIOError for none."""
        if now < self._polite_until:
            head, _ancillary, _flags, peer = self._listener.recvmsg(_HEAD, 0, socket.MSG_PEEK)
            if self._leave(head, peer, now):
                return None
        return sockets.receive(self._listener, _LARGEST)

    def owner(self, datagram: Datagram) -> Transfer | Write | None:
        """The transfer that a datagram belongs to: DATA to a write, ACK to a read, ERROR to what there is."""
        kind = datagram.payload[:2]
        if datagram.local is None or kind not in _INSIDE:
            return None
        local, peer = sockets.unmapped(datagram.local, datagram.peer)
        found: Transfer | Write | None = None if kind == _DATA else self._reads.get(peer)
        if found is None and kind != _ACK:
            found = self._writes.get(peer)
        return found if found is not None and found.call.local == local else None

    def takes(self, datagram: Datagram) -> bool:
        """Whether what has no owner is to be judged as a request."""
        return not self.retired and datagram.payload[:2] not in _INSIDE

    def _leave(self, head: bytes, peer: Peer, now: float) -> bool:
        """Whether to leave the first of the queue where it is. It is looked at again at once, until `_MOMENT_S`."""
        client, inside = sockets.unmapped(Local(""), peer)[1], head[:2] in _INSIDE
        known = client in self._reads or client in self._writes
        if (known and inside) if self.retired else (known or not inside):
            return False
        if self._left != (head, peer):
            if self._left is not None:  # what was left is gone: there is another reader
                self._polite_until, self._untaken = now + _HANDOVER_S, 0
            self._left, self._left_at = (head, peer), now
            return True
        if now - self._left_at < _MOMENT_S:
            return True
        self._left = None
        self._untaken += 1
        if self._untaken >= _UNTAKEN_MAX:
            self._polite_until = 0.0
        return False
