"""Questions to the custodian on behalf of requests that are not answered yet: may it upload, may it read this back.

Invariant: until the custodian has answered, a request holds one entry here and nothing else, neither a port nor a file.
Of more than _WAITING_MAX one is forgotten, because whoever asks may be a forged address: the oldest of the client that
has most, so that no client takes the place of another.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from appliance.custody import wire
from appliance.tftp.custodian import AWAY, Custodian, refusal_of
from appliance.tftp.files import OpenFile, Refusal, adopt
from appliance.tftp.options import Policy
from appliance.tftp.sockets import Datagram, Peer
from appliance.tftp.transfer import Call

_WAITING_MAX = 256
_PATIENCE_S = 10.0  # then a repeat of the request asks again


@dataclass(frozen=True, slots=True)
class Waiting:
    """A request that waits for the custodian, and where its refusal would be sent from.

    `name`: in the box. `declared`: bytes that a write announced, 0 for unknown.
    """

    listener: socket.socket
    datagram: Datagram
    call: Call
    policy: Policy
    name: bytes
    declared: int = 0


# What comes of it: the file to be read, None for "it may write", or a refusal; and the time.
Conclude: TypeAlias = Callable[[Waiting, OpenFile | Refusal | None, float], None]


class Desk:
    """The questions of one worker."""

    def __init__(self, custodian: Custodian, conclude: Conclude) -> None:
        self._custodian, self._conclude = custodian, conclude
        self._waiting: dict[Peer, tuple[int, Waiting]] = {}
        self._of: dict[str, dict[Peer, None]] = {}  # whose they are, by client; each in the order they came

    @property
    def overrun(self) -> bool:
        """There is no custodian, or it has so much to do that nothing new should be asked now."""
        return not self._custodian.here or self._custodian.behind

    def ask(self, waiting: Waiting) -> None:
        """May this be uploaded? The answer goes to `conclude`."""
        hearer = partial(self._hear, waiting)
        self._put(waiting, self._custodian.ask(hearer, waiting.declared, waiting.call.client, waiting.name))

    def fetch(self, waiting: Waiting) -> None:
        """May this be read back? The answer goes to `conclude`."""
        self._put(waiting, self._custodian.fetch(partial(self._hear, waiting), waiting.call.client, waiting.name))

    def is_repeat(self, call: Call) -> bool:
        """Whether the custodian is being asked about this very request."""
        entry = self._waiting.get(call.peer)
        if entry is None:
            return False
        asked = entry[1].call
        return call.repeats(asked) and call.at - asked.at < _PATIENCE_S

    def clear(self) -> None:
        """Nobody waits any more."""
        for peer in list(self._waiting):
            self._drop(peer)

    def _put(self, waiting: Waiting, number: int) -> None:
        self._drop(waiting.call.peer)
        client = waiting.call.client
        self._waiting[waiting.call.peer] = number, waiting
        self._of.setdefault(client, {})[waiting.call.peer] = None
        if len(self._waiting) > _WAITING_MAX:
            most = max(self._of.values(), key=len)  # of equal ones the client that came first
            self._drop(next(iter(most)))

    def _drop(self, peer: Peer) -> None:
        entry = self._waiting.pop(peer, None)
        if entry is not None:
            number, waiting = entry
            self._custodian.forget(number)
            theirs = self._of[waiting.call.client]
            del theirs[peer]
            if not theirs:
                del self._of[waiting.call.client]

    def _hear(self, waiting: Waiting, message: wire.FromCustodian | None, descriptors: list[int]) -> None:
        self._drop(waiting.call.peer)
        answer: OpenFile | Refusal | None = AWAY
        if isinstance(message, wire.More):
            answer = None
        elif isinstance(message, wire.Refused):
            answer = refusal_of(message.reason)
        elif isinstance(message, wire.Opened) and descriptors:
            answer = adopt(descriptors.pop())
        self._conclude(waiting, answer, time.monotonic())
