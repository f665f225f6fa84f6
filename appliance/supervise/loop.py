"""The supervisor: one loop over signals, channels, timers and dead children; what it decides stands in two tables."""

from __future__ import annotations

import math
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterable
from typing import Any

from appliance import wire
from appliance.errors import WireError
from appliance.observe import events
from appliance.observe.log import Log
from appliance.supervise import folders, listeners
from appliance.supervise.acts import Acts
from appliance.supervise.banning import RIGHT as BAN
from appliance.supervise.banning import Banning
from appliance.supervise.gallery import Gallery
from appliance.supervise.group import Bound, Group
from appliance.supervise.links import Links
from appliance.supervise.lookout import Lookout
from appliance.supervise.naming import Naming
from appliance.supervise.notify import Notify
from appliance.supervise.orders import Orders
from appliance.supervise.privileged import Privileged
from appliance.supervise.reading import Wiring
from appliance.supervise.records import Records
from appliance.supervise.releases import RIGHT as ONE_SHOT
from appliance.supervise.releases import Releases
from appliance.supervise.reload import Reload
from appliance.supervise.service import Service
from appliance.supervise.siblings import Tables
from appliance.supervise.slot import WorkerSlot
from appliance.supervise.snapshot import Snapshot
from appliance.supervise.states import Act, Do, Event, Run, Signal, Slot, run_step
from appliance.supervise.telling import Telling
from appliance.supervise.totals import Totals

_TURN_S = 1.0
_MOST_CRASHES = 1000


class Supervisor:
    """Built from a wiring that was read; `run()` returns the exit code."""

    def __init__(
        self,
        wiring: Wiring,
        *,
        source: tuple[str, str],
        log: Log,
        notify: Notify,
        inherited: dict[str, list[socket.socket]],
        announce: Callable[[Supervisor], None],
    ) -> None:
        self.wiring, self.log, self.notify = wiring, log, notify
        self.path, self.name = source
        self.state = Run.STARTING
        self.groups: dict[str, Group] = {}
        self.old: list[Group] = []
        self.failed = False
        self.reload: Reload | None = None
        self._inherited = inherited
        self._announce = announce
        self.selector = selectors.EpollSelector()
        self._serial = 1
        self._crashes = 0
        self._due: float | None = None
        self._orders, self.lookout = Orders(self), Lookout(self)
        self._links = Links(self._generations)
        self._telling = Telling(self._generations)
        self._tables = Tables()
        self._privileged = Privileged(self.selector, self._generations)
        self.bans = Banning(log, self.slots, self.tell)
        self._gallery = Gallery(self._generations)
        self.naming = Naming(log, self.slots)
        self._totals = Totals()
        self._records = Records()
        self.releases = Releases(wiring.state_dir, log, self.slots, self.tell)
        self.snapshot = Snapshot(self)

    # -- starting

    def run(self) -> int:
        """Serve until stopped; 0, or 1 when it could not start."""
        self._catch_signals()
        self._listen_for_acts()
        now = time.monotonic()
        self._records.renew((), self.wiring.services)
        self.releases.look(self.wiring.services)
        for service in self.wiring.services:
            self.groups[service.name] = self.generation(service, self.bind(service, {}))
        self.admit()
        for group in self.groups.values():
            group.start(now)
        while self.state is not Run.STOPPED:
            self._turn()
        folders.clear(self.wiring.run_dir)
        return 1 if self.failed else 0

    def admit(self) -> None:
        """Let the groups of the settings ask, and act."""
        look, act = self.wiring.groups
        self._acts.group = act
        for name in (*folders.SOCKETS, folders.ACT):
            path = f"{self.wiring.run_dir}/{name}"
            try:
                folders.admit(path, act if name == folders.ACT else look)
            except FileNotFoundError:
                pass  # of a service that is switched off
            except OSError as error:
                self.log.warning("a group is not let in", path=path, reason=error.strerror or "")

    def bind(self, service: Service, have: Bound) -> Bound:
        """The sockets of a service: those it has, what systemd passed, or new ones. Raises StartError, keeping none."""
        socks = [sock for sock in self._inherited.get(service.name, []) if sock.fileno() >= 0]
        if socks:  # closed ones were given up when the service was switched off
            return {listeners.described(sock): [sock] for sock in socks}
        return listeners.bind_all(service.listen, have, service.workers)

    def generation(self, service: Service, bound: Bound, *, trial: bool = False) -> Group:
        """A new group of slots, not started yet. `trial`: it may refuse new files, and another serves on."""
        if service.owns:
            folders.own(service.jail, service.uid, service.gid, strangers=service.name != "custody")
        group = Group(self, service, bound, self._serial, self.wiring.drain_s, trial=trial)
        self._serial += service.workers
        self._privileged.configure(service)
        return group

    def _catch_signals(self) -> None:
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)  # the number itself comes through the pipe
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        self.selector.register(reader, selectors.EVENT_READ, lambda: self._signals(reader))

    def _listen_for_acts(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        listeners.bind_unix(sock, f"{self.wiring.run_dir}/{folders.ACT}", 0o600)
        self._acts = Acts(sock, self.watch, self.unwatch, self._orders.act)

    # -- the loop

    def _turn(self) -> None:
        next_due = min(self._dues(), default=math.inf)
        for key, _mask in self.selector.select(max(0.0, min(next_due - time.monotonic(), _TURN_S))):
            self._walled(key.data)
        self._walled(self._timers)

    def _walled(self, action: Callable[[], None]) -> None:
        """A bug here must not take every service down: it is logged, counted, and the loop goes on."""
        try:
            action()
        except Exception:
            self._crashes += 1
            self.log.crash("supervisor bug", count=self._crashes)
            if self._crashes >= _MOST_CRASHES:  # it does not get better: let systemd start a fresh one
                raise

    def _dues(self) -> Iterable[float]:
        for slot in self.slots():
            if slot.due is not None:
                yield slot.due
            if slot.muted_until is not None:
                yield slot.muted_until
        if self._due is not None:
            yield self._due
        yield self.lookout.due

    def _timers(self) -> None:
        now = time.monotonic()
        for slot in self.slots():
            slot.unmute(now)
            if slot.due is not None and slot.due <= now:
                slot.event(Event.DUE, now)
        if self._due is not None and self._due <= now:
            self._due = None
            self.signal(Signal.DUE)
        if self.reload is not None:
            self.reload.timer(now)
        self._privileged.expire(now)
        if self.lookout.timer(now):
            self._gallery.repair()
            self._tables.repair()  # once more for a worker that did not take what it was shown

    def _signals(self, reader: int) -> None:
        for number in os.read(reader, 512):
            if number == signal.SIGCHLD:
                self._reap()
            elif number == signal.SIGHUP:
                self._orders.act(b"reload", None)
            elif number in (signal.SIGTERM, signal.SIGINT):
                self.signal(Signal.TERM)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            slot = next((s for s in self.slots() if s.pid == pid), None)
            if slot is not None:  # others: settings readers, and orphans when we are process 1
                self._privileged.forget(slot)
                slot.died(status, time.monotonic())

    # -- the whole

    def signal(self, event: Signal) -> None:
        """Take the step that the table of the whole names."""
        self.state, actions = run_step(self.state, event)
        for action in actions:
            _ACTS[action](self)

    def _announce_ready(self) -> None:
        self.notify.send("READY=1", f"STATUS={self.snapshot.summary()}")
        self._announce(self)
        self._orders.catch_up()

    def _read(self) -> None:
        self.notify.reloading()

    def _abandon(self) -> None:
        if self.reload is not None:
            self.reload.abandon("the appliance is stopping")
        self.reload = None

    def _drain_all(self) -> None:
        # systemd waits as long as we do, whatever TimeoutStopSec says (sd_notify(3))
        patience = f"EXTEND_TIMEOUT_USEC={round((self.wiring.drain_s + 15) * 1e6)}"
        self.notify.send("STOPPING=1", patience, "STATUS=Finishing running transfers")
        self.log.info("finishing running transfers; a second signal ends them now", seconds=self.wiring.drain_s)
        self._due = time.monotonic() + self.wiring.drain_s + 2.0
        self._retire_next()

    def _retire_next(self) -> None:
        """Retire what nobody leans on; peers and the status child stay until the others are gone."""
        now = time.monotonic()
        groups = [group for group in [*self.groups.values(), *self.old] if not group.gone]
        for group in groups:
            if group.service.name != "status" and not self._leant_on(group, groups):
                group.tell(Event.RETIRE, now)
                listeners.close_except(group.bound, {})  # new clients are refused from now on
        if all(group.service.name == "status" for group in groups):
            for group in groups:
                group.tell(Event.END, now)

    @staticmethod
    def _leant_on(group: Group, groups: list[Group]) -> bool:
        return any(group.service.name in other.service.links for other in groups)

    def _end_all(self) -> None:
        self.notify.send("STOPPING=1")
        self._abandon()
        for group in [*self.groups.values(), *self.old]:
            group.tell(Event.END, time.monotonic())
        self._check_empty()

    def _fail(self) -> None:
        self.failed = True

    def _check_empty(self) -> None:
        if all(group.gone for group in [*self.groups.values(), *self.old]) and self.state is not Run.STOPPED:
            self.signal(Signal.EMPTY)

    def _remember(self) -> None:
        """The caller knows who has asked."""

    # -- what slots need (slot.Host)

    def watch(self, sock: socket.socket, callback: Callable[[], None]) -> None:
        """Call back when `sock` is readable."""
        self.selector.register(sock, selectors.EVENT_READ, callback)

    def unwatch(self, sock: socket.socket) -> None:
        """No longer; twice is once."""
        try:
            self.selector.unregister(sock)
        except (KeyError, ValueError):
            pass

    def links_for(self, slot: WorkerSlot) -> list[tuple[str, socket.socket]]:
        """Fresh channels to the peers of a worker that starts."""
        return self._links.fresh(slot)

    def hand_over(self) -> None:
        """A reload is about to tell old workers to finish."""
        self._links.hand_over()

    def pinned(self) -> set[int]:
        """The numbers of the releases that clients are pinned to, as the tables of the workers have them."""
        return self._tables.pinned()

    def tables_for(self, slot: WorkerSlot) -> list[tuple[str, int]]:
        """The tables that a worker which starts shows to its siblings."""
        return [*self._tables.fresh(slot), *(("live", table) for table in self._gallery.fresh(slot))]

    def record_for(self, slot: WorkerSlot) -> list[int]:
        """The record file that its workers append to."""
        return self._records.of(slot.service)

    def release_for(self, slot: WorkerSlot) -> dict[str, Any]:
        """What is published, for a worker that starts."""
        return self.releases.at_birth(slot.service)

    def renew_records(self, coming: Iterable[Service]) -> None:
        """Open the record files anew, so that one that was moved away is not written to any more. Raises StartError."""
        self._records.renew(self.wiring.services, coming)
        for slot in self.slots():
            record = self._records.of(slot.service)
            if record:  # one that still starts has got the old one, and reads this when it serves
                slot.send(wire.Reopened(), record)

    def tell(self, event: events.Event) -> None:
        """Tell the events service what happened here."""
        self._telling.tell(event)

    def took_step(self, slot: WorkerSlot, event: Event, actions: tuple[Do, ...]) -> None:
        """A slot changed: lend or take back, repair links, and see what it means for the whole."""
        for group in self._generations():
            group.lend()
        self._links.repair()
        self._telling.repair()
        if event is Event.READY:
            self.bans.greet(slot)
            self.naming.greet(slot)
        elif event is Event.DIED and ONE_SHOT in slot.service.requests:
            self.releases.keeper_died(replaced=slot.state is Slot.GONE)
        self._tables.repair()
        self._gallery.repair()
        if self.reload is not None:
            self.reload.slot_changed(slot)
        self.old = [group for group in self.old if not group.gone]
        if Do.FORGET in actions:
            self._totals.keep(slot)
        if self.state is Run.STARTING:
            if slot.boot_failure and event is Event.DIED:
                self.signal(Signal.BOOT_FAILED)
            elif all(group.complete for group in self.groups.values()):
                self.signal(Signal.ALL_READY)
        elif self.state is Run.DRAINING and event is Event.DIED:
            self._retire_next()
        if Do.FORGET in actions and self.state in (Run.DRAINING, Run.STOPPING):
            self._check_empty()

    def received(self, slot: WorkerSlot, message: wire.Message, fds: list[int]) -> None:
        """A request or query of a worker. Raises WireError for one that its service has no right to."""
        if isinstance(message, wire.Query) and slot.service.name in ("status", "board", "metrics"):
            slot.send(wire.Facts(self.snapshot.text()))
        elif isinstance(message, wire.Request):
            self._privileged.carry_out(slot, message, fds)
        elif isinstance(message, wire.Used) and ONE_SHOT in slot.service.requests:
            self.releases.one_shot(message)
        elif isinstance(message, wire.Offence) and BAN in slot.service.requests:
            self.bans.offence(slot, message)
        elif not isinstance(message, wire.Resolved) or not self.naming.resolved(slot, message):
            raise WireError(f"{slot.service.name} may not ask this")

    def reload_over(self) -> None:
        """The reload is done or refused."""
        self.naming.keep(self.wiring.services)
        self.reload = None
        self.signal(Signal.RELOADED)

    # -- looking over everything

    def totals(self, name: str) -> dict[str, int]:
        """What a service has counted since the supervisor began."""
        return self._totals.of(name, self.slots())

    def _generations(self) -> list[Group]:
        coming = self.reload.groups if self.reload is not None else []
        return [*coming, *self.groups.values(), *self.old]

    def slots(self) -> list[WorkerSlot]:
        """Every worker that is not gone, the new ones of a reload first."""
        return [slot for group in self._generations() for slot in group.slots if slot.state is not Slot.GONE]


_ACTS: dict[Act, Callable[[Supervisor], None]] = {
    Act.ANNOUNCE: Supervisor._announce_ready,
    Act.READ: Supervisor._read,
    Act.READ_AGAIN: Supervisor._remember,
    Act.ABANDON: Supervisor._abandon,
    Act.DRAIN_ALL: Supervisor._drain_all,
    Act.END_ALL: Supervisor._end_all,
    Act.FAIL: Supervisor._fail,
}
