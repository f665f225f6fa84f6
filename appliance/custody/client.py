"""A worker's end of its link to a custodian: questions go out under an id, answers come to who asked.

There may be no custodian for a while, until the supervisor brings a new link. Whoever waits for an answer when a link
is lost is told so. A worker never waits for the link itself: what it cannot send now it sends later.
"""

from __future__ import annotations

import errno
import os
import socket
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

from appliance.custody import wire
from appliance.errors import WireError

_MESSAGES = 64  # heard in one turn
_QUEUED = 4096  # and it is taken for dead

# Told an answer and its descriptors, of which it takes out what it will close itself; None: the link is lost, and with
# it everything under this id.
Hearer: TypeAlias = Callable[[wire.FromCustodian | None, list[int]], None]


class Client:
    """The link of one worker. What differs between loops comes as call-backs."""

    def __init__(
        self,
        *,
        watch: Callable[[socket.socket], None],
        unwatch: Callable[[socket.socket], None],
        lost: Callable[[str, int], None],
    ) -> None:
        """`watch(sock)`: call `receive` when something can be read; `unwatch(sock)`: not any more.

        `lost(why, count)`: the link is gone, on which so many waited.
        """
        self._watch, self._unwatch, self._lost = watch, unwatch, lost
        self._sock: socket.socket | None = None
        self._hearers: dict[int, Hearer] = {}
        self._queue: deque[bytes] = deque()
        self._next_id = 0
        self.freed = 1  # counts up with each upload that is given up: there may be room for others again

    @property
    def here(self) -> bool:
        """False while there is no custodian."""
        return self._sock is not None

    def attach(self, sock: socket.socket) -> None:
        """Use this link from now on; what was under way on the one before is lost."""
        self.lose("replaced")
        sock.setblocking(False)
        self._sock = sock
        self._watch(sock)

    def begin(self, hearer: Hearer, message: Callable[[int], wire.FromWorker]) -> int:
        """Say `message(id)` under a new id, which is returned; the answers come to `hearer`."""
        self._next_id = (self._next_id + 1) & 0xFFFFFFFF
        self._hearers[self._next_id] = hearer
        self.say(message(self._next_id))
        return self._next_id

    def take(self, number: int, hearer: Hearer) -> None:
        """What is said under this id comes to another from now on."""
        self._hearers[number] = hearer

    def forget(self, number: int) -> None:
        """No answer under this id is wanted any more."""
        self._hearers.pop(number, None)

    def say(self, message: wire.FromWorker) -> None:
        """Send a message, later if the custodian is behind."""
        if self._sock is None:
            return
        self.freed += isinstance(message, wire.Abort)
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
        self._unwatch(self._sock)
        self._sock.close()
        self._sock = None
        self._queue.clear()
        lost, self._hearers = list(self._hearers.values()), {}
        self._lost(why, len(lost))
        for hearer in lost:
            hearer(None, [])

    def receive(self) -> None:
        """Hear what has come."""
        for _ in range(_MESSAGES):
            if self._sock is None:
                return
            try:
                datagram, descriptors, _flags, _peer = socket.recv_fds(self._sock, wire.MAX_MESSAGE, 1)
            except BlockingIOError:
                return
            except OSError as error:
                self.lose(os.strerror(error.errno or errno.EIO))
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
