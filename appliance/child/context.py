"""What a confined child holds: settings, descriptors, the channel to the supervisor. Service rooms see nothing else."""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from appliance import wire
from appliance.errors import WireError
from appliance.observe import shares
from appliance.observe.emitter import Emitter
from appliance.observe.live import Live
from appliance.observe.tables import Counters
from appliance.observe.tally import Tally
from appliance.published.pins import Pins

ACTIVE = 1  # the privileged request "data connection from port 20"


class Channel:
    """The child's end of the socket pair to the supervisor: poll `fileno()` for reading, then call `receive()`."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        sock.setblocking(False)
        self._next_id = 0

    def fileno(self) -> int:
        """The descriptor to poll."""
        return self._sock.fileno()

    def receive(self) -> tuple[wire.Message, list[int]] | None:
        """One message and its descriptors, or None when there is none now. EOFError: the supervisor is gone."""
        try:
            data, fds, _flags, _peer = socket.recv_fds(self._sock, wire.MAX_MESSAGE, wire.MAX_FDS)
        except BlockingIOError:
            return None
        if not data:
            raise EOFError("the supervisor is gone")
        return wire.parse(data, from_child=False), fds

    def send(self, message: wire.Message, fds: tuple[int, ...] = ()) -> None:
        """Send one message; raises OSError when the supervisor is gone or does not read."""
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self._sock.sendmsg([wire.pack(message)], ancillary)

    def request(self, kind: int, argument: int, descriptor: int) -> int:
        """Ask for a privileged action; returns the id under which the Reply will come."""
        self._next_id = (self._next_id + 1) & 0x7FFFFFFF
        self.send(wire.Request(self._next_id, kind, argument), (descriptor,))
        return self._next_id


@dataclass(slots=True)
class Context:
    """All that a worker is given.

    ``listeners`` are ready-bound, non-blocking sockets of this worker. ``links`` are SOCK_SEQPACKET channels to peer
    services by name (an FTP worker has ``custody`` when uploads are on; in the custodian new ones arrive as Link
    messages). ``tally`` counts what each client was given, here and by the siblings; ``live`` shows who is on; ``pins``
    tell which release each began with, None where nothing published is served. ``root`` is the working directory
    of the jail as seen from inside: always use paths relative to it.
    """

    service: str
    index: int
    settings: dict[str, Any]
    channel: Channel
    counters: Counters
    listeners: list[socket.socket] = field(default_factory=list)
    links: dict[str, socket.socket] = field(default_factory=dict)
    documents: dict[str, int] = field(default_factory=dict)  # of the settings reader; "record" of workers
    tally: Tally = field(default_factory=Tally)
    pins: Pins | None = None
    live: Live = field(default_factory=Live)
    folders: dict[str, int] = field(default_factory=dict)  # outside the jail, which a short-lived child works in
    writable: set[int] = field(default_factory=set)  # the descriptors of those it may change

    def emitter(self) -> Emitter:
        """What tells the events service, if there is one; `Emitter.attach` is for the Link that replaces its link."""
        per_second = int(self.settings.get("events_per_second", 1))
        return Emitter(self.links.get("events"), per_second, lambda count: self.counters.add("events_lost", count))

    def sibling(self, message: wire.Share | wire.Unshare, descriptors: list[int]) -> None:
        """A sibling came or went. Closes the descriptors. Raises OSError or ValueError; then it is not counted."""
        told = self.pins if message.what == wire.PINS else self.tally
        try:
            if told is None:
                return
            if isinstance(message, wire.Unshare):
                told.unlink(message.number)
            elif descriptors:
                told.link(message.number, shares.look(descriptors[0]))
        finally:
            for descriptor in descriptors:
                os.close(descriptor)


class Worker(Protocol):
    """What the `main` of a service returns after it has imported and built everything it will ever need.

    One with a method `start_threads()` has it called when all confinement is on; no thread can be made afterwards.
    """

    def run(self) -> None:
        """Serve until drained; returns then. Called once, after confinement."""


Prepare = Callable[[Context], Worker]


def take_listener(descriptor: int) -> socket.socket:
    """Wrap a descriptor that the supervisor sent as a non-blocking socket. Raises WireError when it is none."""
    try:
        sock = socket.socket(fileno=descriptor)
    except OSError as error:
        raise WireError(f"not a socket: {error}") from error
    sock.setblocking(False)
    return sock
