"""The link to the custodian of the uploads, as a TFTP worker sees it, and what a peer is told of each of its reasons.

There may be no custodian for a while, until the supervisor brings a new link. Whoever waits for an answer when a link
is lost is told so. A worker never waits for the link itself: what it cannot send now it sends in a later turn.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

from appliance.custody import wire
from appliance.custody.wire import Reason
from appliance.errors import WireError
from appliance.tftp.files import Refusal
from appliance.tftp.journal import Journal
from appliance.tftp.packet import ErrorCode

_MESSAGES = 64  # heard in one turn
_QUEUED = 4096  # and it is taken for dead
_ASKS_QUEUED = 64  # then no more questions of strangers

_NAME = (ErrorCode.ACCESS, "Name is not accepted")
_FULL = (ErrorCode.DISK_FULL, "No room for uploads")
_LOST = (ErrorCode.UNDEFINED, "Upload could not be stored")
_TOLD: dict[Reason, tuple[ErrorCode, str]] = {
    Reason.NAME_LENGTH: _NAME,
    Reason.NAME_TEXT: _NAME,
    Reason.NAME_CHARACTER: _NAME,
    Reason.NAME_START: _NAME,
    Reason.NAME_DENIED: _NAME,
    Reason.EXISTS: (ErrorCode.EXISTS, "File already exists"),
    Reason.SIZE: (ErrorCode.DISK_FULL, "File is too large"),
    Reason.QUOTA: _FULL,
    Reason.CLIENT_QUOTA: _FULL,
    Reason.FILES: _FULL,
    Reason.DISK: (ErrorCode.DISK_FULL, "Disk is full"),
    Reason.BUSY: (ErrorCode.UNDEFINED, "Server is busy, try again"),
    Reason.INCOMPLETE: (ErrorCode.UNDEFINED, "Upload is incomplete"),
    Reason.STORE: _LOST,
    Reason.ABSENT: (ErrorCode.NOT_FOUND, "File not found"),
    Reason.UNDER_WAY: (ErrorCode.UNDEFINED, "Name is being uploaded already"),
    Reason.UNREADABLE: (ErrorCode.ACCESS, "Access violation"),
}
AWAY = Refusal(ErrorCode.UNDEFINED, "Uploads are not possible right now", "no custodian")


def refusal_of(reason: Reason) -> Refusal:
    """What the peer and the operator are told about a reason."""
    return Refusal(*_TOLD[reason], reason.name.lower())


# Told an answer and its descriptors, of which it takes out what it will close itself; None: the link is lost, and with
# it everything under this id.
Hearer: TypeAlias = Callable[[wire.FromCustodian | None, list[int]], None]


class Custodian:
    """The link of one worker."""

    def __init__(
        self, journal: Journal, watch: Callable[[int, Callable[[float], None]], None], unwatch: Callable[[int], None]
    ) -> None:
        """`watch(descriptor, handler)`: call it when something can be read; `unwatch(descriptor)`: not any more."""
        self._journal, self._watch, self._unwatch = journal, watch, unwatch
        self._sock: socket.socket | None = None
        self._hearers: dict[int, Hearer] = {}
        self._queue: deque[bytes] = deque()
        self._next_id = 0

    @property
    def here(self) -> bool:
        """False while there is no custodian."""
        return self._sock is not None

    @property
    def behind(self) -> bool:
        """It has so much to do that strangers' questions are not put to it."""
        return len(self._queue) >= _ASKS_QUEUED

    def attach(self, sock: socket.socket) -> None:
        """Use this link from now on; what was under way on the one before is lost."""
        self.lose("replaced")
        sock.setblocking(False)
        self._sock = sock
        self._watch(sock.fileno(), self._readable)

    def ask(self, hearer: Hearer, declared: int, client: str, name: bytes) -> int:
        """Would an upload be refused? Returns the id of the question; nothing is held."""
        return self._new(hearer, lambda number: wire.Ask(number, declared, client, name))

    def reserve(self, hearer: Hearer, declared: int, client: str, name: bytes) -> int:
        """Ask for an upload; returns its id."""
        return self._new(hearer, lambda number: wire.Reserve(number, declared, client, name))

    def fetch(self, hearer: Hearer, client: str, name: bytes) -> int:
        """Ask for a finished upload; returns the id of the question."""
        return self._new(hearer, lambda number: wire.Fetch(number, client, name))

    def forget(self, number: int) -> None:
        """No answer under this id is wanted any more."""
        self._hearers.pop(number, None)

    def say(self, message: wire.FromWorker) -> None:
        """Send a message, later if the custodian is behind."""
        if self._sock is None:
            return
        self._queue.append(wire.pack(message))
        if len(self._queue) > _QUEUED:
            self.lose("it reads nothing")
        elif len(self._queue) == 1:
            self.flush()

    def flush(self) -> None:
        """Send what waits."""
        while self._queue and self._sock is not None:
            try:
                self._sock.send(self._queue[0])
            except OSError:
                return  # full; or gone, and then the end of file says it
            self._queue.popleft()

    def lose(self, why: str) -> None:
        """The link is gone: whoever waits is told."""
        if self._sock is None:
            return
        self._unwatch(self._sock.fileno())
        self._sock.close()
        self._sock = None
        self._queue.clear()
        lost, self._hearers = list(self._hearers.values()), {}
        self._journal.custodian_gone(why, len(lost))
        for hearer in lost:
            hearer(None, [])

    def _new(self, hearer: Hearer, message: Callable[[int], wire.FromWorker]) -> int:
        self._next_id = (self._next_id + 1) & 0xFFFFFFFF
        self._hearers[self._next_id] = hearer
        self.say(message(self._next_id))
        return self._next_id

    def _readable(self, _now: float) -> None:
        self._receive()
        self.flush()  # it has read something, so there may be room

    def _receive(self) -> None:
        for _ in range(_MESSAGES):
            if self._sock is None:
                return
            try:
                datagram, descriptors, _flags, _peer = socket.recv_fds(self._sock, wire.MAX_MESSAGE, 1)
            except BlockingIOError:
                return
            except OSError as error:
                self.lose(os.strerror(error.errno or 0))
                return
            if not datagram:
                self.lose("it closed the link")
                return
            try:
                self._hear(datagram, descriptors)
            finally:
                for descriptor in descriptors:
                    os.close(descriptor)

    def _hear(self, datagram: bytes, descriptors: list[int]) -> None:
        try:
            message = wire.parse_from_custodian(datagram)
        except WireError as error:
            self.lose(str(error))
            return
        hearer = self._hearers.get(message.id)
        if hearer is not None:
            hearer(message, descriptors)
