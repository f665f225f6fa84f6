"""Channels between a worker and its peers (an FTP worker, the custodian), kept whole over the death of either side."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from appliance import wire
from appliance.supervise.group import Group
from appliance.supervise.slot import WorkerSlot
from appliance.supervise.states import Slot

EVENTS = "events"
_EVENTS_BUFFER = 1 << 20  # bytes asked for: events are never waited with, so the queue takes what comes at once
Groups = Callable[[], Iterable[Group]]


@dataclass(slots=True)
class _Link:
    worker: WorkerSlot
    peer: WorkerSlot | None  # who holds the other end; None while it waits in `end`
    end: socket.socket | None
    peer_pid: int = 0


class Links:
    """`groups` gives all generations, the newest first: a worker is linked to the newest peer that serves.

    A worker of the newest generation waits for the newest peer, though an older one still serves: that one is about to
    be told to finish, and would refuse whatever the worker asks for until its last upload is over.
    """

    def __init__(self, groups: Groups) -> None:
        self._groups = groups
        self._links: dict[tuple[int, str], _Link] = {}

    def fresh(self, worker: WorkerSlot) -> list[tuple[str, socket.socket]]:
        """New channels for a worker that is about to start: (name of the peer, the worker's end)."""
        return [(name, self._make(worker, name)) for name in worker.service.links]

    def _make(self, worker: WorkerSlot, name: str) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        if name == EVENTS:
            for end in (ours, theirs):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _EVENTS_BUFFER)
        self.drop(worker, name)
        self._links[worker.serial, name] = _Link(worker, None, theirs)
        self._deliver(worker.serial, name)
        return ours

    def _deliver(self, serial: int, name: str) -> None:
        link = self._links[serial, name]
        peer = self._peer(link.worker, name)
        if peer is None or link.end is None:
            return
        if peer.send(wire.Link(serial, _label(link.worker)), [link.end.fileno()]):
            link.end.close()
            link.end, link.peer, link.peer_pid = None, peer, peer.pid

    def _peer(self, worker: WorkerSlot, name: str) -> WorkerSlot | None:
        groups = list(self._groups())
        peers = [group for group in groups if group.service.name == name]
        newest = next((group for group in groups if group.service.name == worker.service.name), None)
        if newest is not None and worker in newest.slots:
            peers = peers[:1]
        return next((group.slots[0] for group in peers if group.serving), None)

    def repair(self) -> None:
        """Deliver what waits, and replace what a dead peer held."""
        for (serial, name), link in list(self._links.items()):
            if link.worker.state is Slot.GONE:
                self.drop(link.worker, name)
            elif link.end is not None:
                self._deliver(serial, name)
            elif link.peer is not None and link.peer.pid != link.peer_pid and link.worker.state is Slot.SERVING:
                ours = self._make(link.worker, name)
                link.worker.send(wire.Link(0, name), [ours.fileno()])
                ours.close()

    def drop(self, worker: WorkerSlot, name: str) -> None:
        """Forget a link of this worker."""
        link = self._links.pop((worker.serial, name), None)
        if link and link.end is not None:
            link.end.close()


def _label(worker: WorkerSlot) -> str:
    return f"{worker.service.name}.{worker.index}"
