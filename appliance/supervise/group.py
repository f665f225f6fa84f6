"""One generation of one service: its slots and its listeners, and the lending between siblings."""

from __future__ import annotations

import os
import socket

from appliance import wire
from appliance.supervise.listeners import address_text
from appliance.supervise.service import Listen, Service
from appliance.supervise.slot import Host, WorkerSlot
from appliance.supervise.states import Event, Slot

Bound = dict[Listen, list[socket.socket]]


class Group:
    """All workers of one service value. `bound` has the sockets of each address, one per worker or one shared."""

    def __init__(
        self, host: Host, service: Service, bound: Bound, serial: int, drain_s: float, *, trial: bool = False
    ) -> None:
        self.service, self.bound = service, bound
        self._files = _stamps(service.files)  # before the workers read them: a change in between is found, not lost
        self.names = [_name(listen, sockets[0]) for listen, sockets in bound.items()]
        self.jail_identity = _identity(service.jail)
        self.stuck = False  # its folder is another one now, and its workers could not follow
        self.lent: dict[int, WorkerSlot] = {}  # slot index -> sibling that serves its listeners
        self.slots = [
            WorkerSlot(
                host, service, index, self._listeners(index), serial=serial + index, drain_s=drain_s, trial=trial
            )
            for index in range(service.workers)
        ]

    def _listeners(self, index: int) -> list[socket.socket]:
        return [sockets[index % len(sockets)] for sockets in self.bound.values()]

    def start(self, now: float) -> None:
        """Make every process."""
        for slot in self.slots:
            slot.event(Event.DUE, now)

    def tell(self, event: Event, now: float) -> None:
        """The same event to every slot that is not gone."""
        for slot in self.slots:
            if slot.state is not Slot.GONE:
                slot.event(event, now)

    @property
    def complete(self) -> bool:
        """Every worker serves."""
        return all(slot.state is Slot.SERVING for slot in self.slots)

    @property
    def serving(self) -> bool:
        """Some worker serves, so every listener is served (lent ones included)."""
        return any(slot.state is Slot.SERVING for slot in self.slots)

    @property
    def gone(self) -> bool:
        """Nothing is left of it."""
        return all(slot.state is Slot.GONE for slot in self.slots)

    def lend(self) -> None:
        """See that the listeners of every failed slot are served by a sibling, and give them back to one that is up."""
        for slot in self.slots:
            helper = self.lent.get(slot.index)
            if slot.state is Slot.SERVING or (helper and helper.state is not Slot.SERVING):
                self._take_back(slot)
            if slot.state in (Slot.BACKOFF, Slot.STARTING) and slot.failures and slot.index not in self.lent:
                self._lend(slot)

    def _lend(self, slot: WorkerSlot) -> None:
        shared = all(len(sockets) == 1 for sockets in self.bound.values())
        helper = next((s for s in self.slots if s.state is Slot.SERVING), None)
        if helper is None or shared or not slot.listeners:
            return
        if helper.send(wire.Adopt(slot.index), [sock.fileno() for sock in slot.listeners]):
            self.lent[slot.index] = helper

    def _take_back(self, slot: WorkerSlot) -> None:
        helper = self.lent.pop(slot.index, None)
        if helper and helper.state is Slot.SERVING:
            helper.send(wire.Unadopt(slot.index))

    def addresses(self) -> list[str]:
        """What it listens on, with the real ports."""
        return [address_text(host, port) if port else host for host, port in self.names]

    @property
    def public(self) -> bool:
        """It listens on the network."""
        return any(port for _host, port in self.names)

    def reachable(self) -> str:
        """One address that a person on this machine can type."""
        host, port = min(self.names, key=lambda name: ":" in name[0])
        return address_text({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port)

    @property
    def renewed(self) -> bool:
        """The files that its workers loaded at their birth have changed since it was made."""
        return _stamps(self.service.files) != self._files

    def jail_moved(self) -> str:
        """Empty while the jail is the folder it was; otherwise what happened to it: ``missing``, ``replaced`` (or gone,
        and made anew for a new generation), or ``broken``: its disk is dead, say, and nobody can tell.
        """
        service = self.service
        try:
            now = _look(service.jail)
        except (FileNotFoundError, NotADirectoryError):
            return "replaced" if service.owns and os.path.isdir(os.path.dirname(service.jail)) else "missing"
        except OSError:
            return "broken"
        return "" if now == self.jail_identity else "replaced"

    def jail_closed(self) -> bool:
        """Whether the mode of the jail keeps its workers from entering it."""
        service = self.service
        try:
            found = os.stat(service.jail)
        except OSError:
            return False
        shift = 6 if found.st_uid == service.uid else 3 if found.st_gid == service.gid else 0
        return not found.st_mode >> shift & 1


def _name(listen: Listen, sock: socket.socket) -> tuple[str, int]:
    if listen.local:
        return listen.host, 0
    name = sock.getsockname()
    return name[0], name[1]


def _identity(path: str) -> tuple[int, int] | None:
    try:
        return _look(path)
    except OSError:
        return None


def _look(path: str) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino


def _stamps(files: tuple[str, ...]) -> list[tuple[int, ...] | None]:
    return [_stamp(path) for path in files]


def _stamp(path: str) -> tuple[int, ...] | None:
    """What tells a file from the one it was: ctime tells even of a write that sets the old mtime again."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
