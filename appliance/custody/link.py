"""The channel to one worker: its uploads under way, and answers that wait until it reads them.

Invariant: a descriptor goes along with the message it belongs to, or is not sent at all. Of files that are read back
one descriptor waits here at most, so that a worker that reads no answers uses up no descriptors of the others.
"""

from __future__ import annotations

import array
import errno
import os
import socket
from collections import deque
from dataclasses import dataclass, field

from appliance.custody import store, wire
from appliance.custody.ledger import Upload
from appliance.errors import WireError

_BACKLOG = 4096  # answers waiting for a worker that does not read


@dataclass(slots=True)
class Work:
    """One upload of one link. `over`: what had its name when it began."""

    upload: Upload
    partial: store.Partial
    started: float
    over: store.Standing | None


@dataclass(slots=True)
class Link:
    """`works` by the worker's id; `answers` are datagrams, each with the message it was made of."""

    sock: socket.socket
    slot: int
    works: dict[int, Work] = field(default_factory=dict)
    answers: deque[wire.FromCustodian] = field(default_factory=deque)
    _opened: int = -1  # the descriptor of the Opened that waits

    @property
    def behind(self) -> bool:
        """Answers are waiting."""
        return bool(self.answers)

    def say(self, message: wire.FromCustodian, descriptor: int = -1) -> None:
        """Answer, later if the worker is behind. `descriptor` is that of an Opened, and is ours to close.

        Raises WireError when the worker reads nothing. An Opened is for a link that is not `behind`.
        """
        self._opened = descriptor if descriptor >= 0 else self._opened
        if len(self.answers) >= _BACKLOG:
            raise WireError("the worker reads no answers")
        self.answers.append(message)
        self.flush()

    def flush(self) -> None:
        """Send what waits, as far as the worker takes it. Raises WireError when it lets descriptors pile up."""
        while self.answers:
            message = self.answers[0]
            if isinstance(message, wire.Granted) and message.id not in self.works:
                self.answers.popleft()  # aborted before it could be handed over
                continue
            try:
                self.sock.sendmsg([wire.pack(message)], self._rights(message))
            except OSError as error:
                if error.errno == errno.ETOOMANYREFS:
                    raise WireError("the worker takes no descriptors") from error
                break  # full, or gone: then the end of file says it
            self.answers.popleft()
            if isinstance(message, wire.Opened):
                self._forget()

    def _rights(self, message: wire.FromCustodian) -> list[tuple[int, int, array.array[int]]]:
        if isinstance(message, wire.Granted):
            descriptor = self.works[message.id].partial.fd
        elif isinstance(message, wire.Opened):
            descriptor = self._opened
        else:
            return []
        return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))]

    def _forget(self) -> None:
        if self._opened >= 0:
            os.close(self._opened)
            self._opened = -1

    def close(self) -> None:
        """Let the socket go, and what waited for it."""
        self._forget()
        self.sock.close()
