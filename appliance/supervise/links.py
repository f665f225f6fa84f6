"""Channels between a worker and its peers (an FTP worker, the custodian), kept whole over the death of either side."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from appliance import wire
from appliance.observe.events import SUBSCRIBERS
from appliance.supervise.group import Group
from appliance.supervise.slot import WorkerSlot
from appliance.supervise.states import Slot

EVENTS, HOOKS = "events", "hooks"
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
        if peer is None or link.end is None or self._is_early(link.worker):
            return
        if peer.send(wire.Link(serial, _label(link.worker)), [link.end.fileno()]):
            link.end.close()
            link.end, link.peer, link.peer_pid = None, peer, peer.pid

    def _peer(self, worker: WorkerSlot, name: str) -> WorkerSlot | None:
        peers = [group for group in self._groups() if group.service.name == name]
        if self._is_newest(worker):
            peers = peers[:1]
        return next((group.slots[0] for group in peers if group.serving), None)

    def _is_early(self, worker: WorkerSlot) -> bool:
        """Whether one before it still does what it is to do: what both generations heard, hooks would do twice."""
        if worker.service.name != HOOKS:
            return False
        own = [group for group in self._groups() if group.service.name == HOOKS]
        place = next((at for at, group in enumerate(own) if worker in group.slots), len(own))
        return any(group.serving for group in own[place + 1 :])

    def _is_newest(self, worker: WorkerSlot) -> bool:
        newest = next((group for group in self._groups() if group.service.name == worker.service.name), None)
        return newest is not None and worker in newest.slots

    def repair(self) -> None:
        """Deliver what waits, and replace what a dead peer held."""
        for (serial, name), link in list(self._links.items()):
            if link.worker.state is Slot.GONE:
                self.drop(link.worker, name)
            elif link.end is not None:
                self._deliver(serial, name)
            elif link.peer is not None and link.peer.pid != link.peer_pid and self._wants(link, name):
                self._renew(link, name)

    def _wants(self, link: _Link, name: str) -> bool:
        """Whether a worker needs another link: one that serves waits for its peer, one that finishes what it has begun
        does not."""
        serves, finishes = link.worker.state is Slot.SERVING, link.worker.state is Slot.RETIRING
        return serves or (
            finishes and not self._hears_no_more(link.worker) and self._peer(link.worker, name) is not None
        )

    def _hears_no_more(self, worker: WorkerSlot) -> bool:
        """What subscribes to events finishes without new ones, which its successor hears: no hook is run twice."""
        return worker.service.name in SUBSCRIBERS and not self._is_newest(worker)

    def hand_over(self) -> None:
        """After a reload: whoever goes on for a while tells what happens to the new events service, before the old one
        is told to finish and reads its last."""
        for (_serial, name), link in list(self._links.items()):
            if name != EVENTS or link.end is not None or self._hears_no_more(link.worker):
                continue
            if self._wants(link, name) and self._peer(link.worker, name) not in (None, link.peer):
                self._renew(link, name)

    def _renew(self, link: _Link, name: str) -> None:
        try:
            ours = self._make(link.worker, name)
        except OSError:  # no descriptors: what comes after this must not suffer; the next step tries again
            return
        link.worker.send(wire.Link(0, name), [ours.fileno()])
        ours.close()

    def drop(self, worker: WorkerSlot, name: str) -> None:
        """Forget a link of this worker."""
        link = self._links.pop((worker.serial, name), None)
        if link and link.end is not None:
            link.end.close()


def _label(worker: WorkerSlot) -> str:
    return f"{worker.service.name}.{worker.index}"
