"""The link to the custodian of the uploads, as a TFTP worker has it, and what a peer is told of each of its reasons."""

from __future__ import annotations

import socket
from collections.abc import Callable

from appliance.custody import wire
from appliance.custody.client import Client, Hearer
from appliance.custody.wire import Reason
from appliance.tftp.files import Refusal
from appliance.tftp.journal import Journal
from appliance.tftp.packet import ErrorCode

_ASKS_QUEUED = 64  # then no more questions of strangers

_NAME = (ErrorCode.ACCESS, "Name is not accepted")
_FULL = (ErrorCode.DISK_FULL, "No room for uploads")
_LOST = (ErrorCode.UNDEFINED, "Upload could not be stored")
_TOLD: dict[Reason, tuple[ErrorCode, str]] = {
    Reason.NAME_LENGTH: _NAME,
    Reason.NAME_TEXT: _NAME,
    Reason.NAME_CHARACTER: _NAME,
    Reason.NAME_START: _NAME,
    Reason.NAME_SPACE: _NAME,
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


class Custodian(Client):
    """The link of one worker. What could not be sent is sent in a later turn of the loop (`flush`)."""

    def __init__(
        self, journal: Journal, watch: Callable[[int, Callable[[float], None]], None], unwatch: Callable[[int], None]
    ) -> None:
        """`watch(descriptor, handler)`: call it when something can be read; `unwatch(descriptor)`: not any more."""

        def begin(sock: socket.socket) -> None:
            watch(sock.fileno(), self._readable)

        super().__init__(watch=begin, unwatch=lambda sock: unwatch(sock.fileno()), lost=journal.custodian_gone)

    @property
    def behind(self) -> bool:
        """It has so much to do that strangers' questions are not put to it."""
        return len(self._queue) >= _ASKS_QUEUED

    def ask(self, hearer: Hearer, declared: int, client: str, name: bytes) -> int:
        """Would an upload be refused? Returns the id of the question; nothing is held."""
        return self.begin(hearer, lambda number: wire.Ask(number, declared, client, name))

    def reserve(self, hearer: Hearer, declared: int, client: str, name: bytes) -> int:
        """Ask for an upload; returns its id."""
        return self.begin(hearer, lambda number: wire.Reserve(number, declared, client, name))

    def fetch(self, hearer: Hearer, client: str, name: bytes) -> int:
        """Ask for a finished upload; returns the id of the question."""
        return self.begin(hearer, lambda number: wire.Fetch(number, client, name))

    def _readable(self, _now: float) -> None:
        self.receive()
        self.flush()  # it has read something, so there may be room
