"""One worker place: a process, its channel, its counters and its state; every event goes through the table."""

from __future__ import annotations

import array
import errno
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from appliance import wire
from appliance.confine.report import Layer, Report
from appliance.errors import WireError
from appliance.observe import events, tables
from appliance.observe.log import Log
from appliance.supervise.listeners import mend
from appliance.supervise.requests import Budget, rate
from appliance.supervise.service import Service
from appliance.supervise.spawn import spawn
from appliance.supervise.states import FORGIVEN_AFTER, Do, Event, Slot, backoff, slot_step

START_S = 60.0  # from spawn to READY; a small machine that starts all its children at once needs more than twenty
KILL_S = 5.0  # a killed process that is not reaped by then is killed again
FRESH_S = 3.0  # a worker's loop turns once a second; standing still for longer withholds the watchdog's sign of life
HANG_S = 10.0  # and for so long, the worker is replaced
_ENDED = (errno.EPIPE, errno.ECONNRESET)  # of a channel whose other end is gone with its process
MUTE_S = 0.1  # a worker that talks more than its budget is not listened to for so long


class Host(Protocol):
    """What a slot needs of the supervisor."""

    log: Log

    def watch(self, sock: socket.socket, callback: Callable[[], None]) -> None:
        """Call back when `sock` is readable."""

    def unwatch(self, sock: socket.socket) -> None:
        """No longer."""

    def links_for(self, slot: WorkerSlot) -> list[tuple[str, socket.socket]]:
        """Fresh channels to the peers of a worker that is about to start."""

    def tables_for(self, slot: WorkerSlot) -> list[tuple[str, int]]:
        """The tables that a worker which is about to start shows to its siblings, each with its role in the birth."""

    def record_for(self, slot: WorkerSlot) -> list[int]:
        """The record file that its workers append to; empty if there is none."""

    def release_for(self, slot: WorkerSlot) -> dict[str, Any]:
        """What is published, as it is told with the settings; empty where that does not matter."""

    def tell(self, event: events.Event) -> None:
        """Tell the events service."""

    def took_step(self, slot: WorkerSlot, event: Event, actions: tuple[Do, ...]) -> None:
        """The slot changed; lend, take back, forget, and look at the whole."""

    def received(self, slot: WorkerSlot, message: wire.Message, fds: list[int]) -> None:
        """A request or query of this worker."""


class WorkerSlot:
    """See the module. `serial` is unique over the life of the supervisor and names the slot to its peers."""

    def __init__(
        self,
        host: Host,
        service: Service,
        index: int,
        listeners: list[socket.socket],
        *,
        serial: int,
        drain_s: float,
        trial: bool = False,
    ) -> None:
        self.service, self.index, self.serial = service, index, serial
        self.listeners = listeners
        self.state = Slot.BACKOFF
        self.due: float | None = None
        self.pid = 0
        self.restarts = 0
        self.failures = 0
        self.last_exit = ""
        self.boot_failure = False  # it said itself that it cannot start: trying again changes nothing
        self.report = Report(Layer(0), 0, 0)
        self.totals = dict.fromkeys(tables.MONOTONIC, 0)
        self.serving_since = 0.0
        self._host = host
        self.muted_until: float | None = None
        self._budget = Budget(rate(service.workers))
        self._deaf = False  # it does not take its answers; said once
        self._drain_s = drain_s
        self._trial = trial
        self._channel: socket.socket | None = None
        self._reader: tables.Reader | None = None

    # -- events

    def event(self, event: Event, now: float) -> None:
        """Take the step that the table names. Raises SupervisorBug for an impossible event."""
        self.state, actions = slot_step(self.state, event)
        self.due = None if event in (Event.READY, Event.DIED, Event.DUE) else self.due
        for action in actions:
            _ACTIONS[action](self, now)
        if self.state is Slot.SERVING and event is Event.READY:
            self.serving_since, self.due = now, now + FORGIVEN_AFTER
            self.tell_of("serving")
        self._host.took_step(self, event, actions)

    def died(self, status: int, now: float) -> None:
        """The process was reaped."""
        code = os.waitstatus_to_exitcode(status)
        name = signal.Signals(-code).name if code < 0 and -code in signal.valid_signals() else str(code)
        self.last_exit = f"signal {name}" if code < 0 else f"exit status {code}"
        self.boot_failure = self.state is Slot.STARTING and code > 0
        if self.state in (Slot.STARTING, Slot.SERVING):
            self._host.log.warning(
                "worker died",
                service=self.service.name,
                worker=self.index,
                pid=self.pid,
                why=self.last_exit,
                **_lost(self.counters()),
            )
            self.tell_of("died")
        self._let_go()
        self.event(Event.DIED, now)

    def tell_of(self, state: str) -> None:
        """Tell the events service how this worker is."""
        died = state == "died"
        self._host.tell(
            events.Worker(
                worker=self.index,
                pid=self.pid,
                restarts=self.restarts,
                lost=self.counters()["active"] if died else 0,
                service=self.service.name.encode(),
                state=state.encode(),
                why=self.last_exit.encode() if died else b"",
            )
        )

    def stands_still(self, now: float, limit: float) -> bool:
        """True when it should serve and its loop has not turned for `limit` seconds."""
        tick = self.counters()["tick"]
        return self.state is Slot.SERVING and now - max(tick / 1e9, self.serving_since) > limit

    # -- talking

    def send(self, message: wire.Message, fds: list[int] | None = None) -> bool:
        """Send one message; False when the worker does not take it."""
        if self._channel is None:
            return False
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            self._channel.sendmsg([wire.pack(message)], ancillary)
        except OSError as error:
            if not self._deaf and error.errno not in _ENDED:  # how it died the reaper tells, at once
                self._deaf = True
                self._host.log.warning(
                    "worker does not listen", service=self.service.name, pid=self.pid, why=str(error)
                )
            return False
        return True

    def counters(self) -> dict[str, int]:
        """What the worker counted since it was born."""
        return self._reader.snapshot() if self._reader else dict.fromkeys(tables.COUNTERS, 0)

    def total(self, name: str) -> int:
        """A counter over all processes that this slot has had."""
        return self.totals[name] + self.counters()[name]

    def _receive(self) -> None:
        if self._channel is None:
            return  # the process was reaped in this very turn of the loop
        now = time.monotonic()
        if not self._budget.take(now):
            self._host.unwatch(self._channel)
            self.muted_until = now + MUTE_S
            return
        try:
            data, fds = _take(self._channel)
        except BlockingIOError:
            return
        except OSError:
            data, fds = b"", []
        try:
            if not data:
                self._host.unwatch(self._channel)  # it is dying; the reaper will tell how
                return
            self._handle(wire.parse(data, from_child=True), fds)
        except WireError as error:
            self._host.log.error("worker broke the protocol", service=self.service.name, pid=self.pid, why=str(error))
            self._host.unwatch(self._channel)  # it is killed; what else it has said does not matter
            self.event(Event.FAULT, time.monotonic())
        finally:
            for descriptor in fds:
                os.close(descriptor)

    def unmute(self, now: float) -> None:
        """Listen again to a worker that had talked too much."""
        if self.muted_until is not None and self.muted_until <= now:
            self.muted_until = None
            if self._channel is not None:
                self._host.watch(self._channel, self._receive)

    def _handle(self, message: wire.Message, fds: list[int]) -> None:
        if not isinstance(message, wire.Ready):
            self._host.received(self, message, fds)
            return
        self.report = Report(Layer(message.layers & 0x3FF), message.landlock_abi, message.syscalls)
        if self.service.required and self.report.missing():
            raise WireError(f"confinement is incomplete: {', '.join(self.report.missing())}")
        self.event(Event.READY, time.monotonic())

    # -- actions of the table

    def _spawn(self, now: float) -> None:
        self.due = now + START_S
        try:
            child = spawn(self.service.name, self.index)
        except OSError as error:
            self._host.log.error("cannot make a process", service=self.service.name, why=str(error))
            self.event(Event.DIED, now)
            return
        self.pid, self._channel = child.pid, child.channel
        self._budget, self._deaf = Budget(rate(self.service.workers)), False
        self._host.watch(child.channel, self._receive)
        self._send_start()

    def _send_start(self) -> None:
        mend(self.listeners)
        links = self._host.links_for(self)
        shares = self._host.tables_for(self)
        table = tables.create(f"{self.service.name}.{self.index}")
        record = self._host.record_for(self)
        fds = [
            table,
            *(descriptor for _role, descriptor in shares),
            *record,
            *(sock.fileno() for sock in self.listeners),
            *(sock.fileno() for _, sock in links),
        ]
        roles = [
            "table",
            *(role for role, _descriptor in shares),
            *("document:record" for _ in record),
            *(f"listener:{i}" for i in range(len(self.listeners))),
            *(f"link:{name}" for name, _ in links),
        ]
        self._reader = tables.Reader(table)
        trial = self._trial and not self.restarts
        told = self._host.release_for(self)
        self.send(start_message(self.service, self.index, tuple(roles), trial=trial, told=told), fds)
        os.close(table)
        for _, sock in links:
            sock.close()

    def _kill(self, now: float) -> None:
        self.due = now + KILL_S
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)  # not reaped yet, so the number is still ours

    def _drain(self, now: float) -> None:
        self.due = now + self._drain_s + 1.0
        if not self.send(wire.Drain(int(self._drain_s * 1000))):
            self._kill(now)

    def _count_failure(self, now: float) -> None:
        self.failures += 1
        self.restarts += 1
        self.due = now + backoff(self.failures)

    def _forgive(self, _now: float) -> None:
        self.failures = 0

    def _let_go(self) -> None:
        if self._channel is not None:
            self._host.unwatch(self._channel)
            self._channel.close()
        for name, count in self.counters().items():
            if name in self.totals:
                self.totals[name] += count
        if self._reader is not None:
            self._reader.close()
        self._channel, self._reader, self.pid, self.muted_until = None, None, 0, None

    def _host_does(self, _now: float) -> None:
        """Lending, taking back and forgetting concern siblings: `took_step` does them."""


def _lost(counters: dict[str, int]) -> dict[str, int]:
    """What ended with a process, which wrote no line about it: sessions or transfers, and transfers of the sessions."""
    lost = {"lost": counters["active"], "lost_transfers": counters["under_way"]}
    return {name: count for name, count in lost.items() if count}


def _take(channel: socket.socket) -> tuple[bytes, list[int]]:
    """One message and its descriptors, closed on exec from the first moment (socket.recv_fds of 3.11 drops flags)."""
    room = socket.CMSG_LEN(wire.MAX_FDS * array.array("i").itemsize)
    data, ancillary, _flags, _peer = channel.recvmsg(wire.MAX_MESSAGE, room, socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for level, kind, body in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(body[: len(body) - len(body) % fds.itemsize])
    return data, list(fds)


def start_message(
    service: Service, index: int, roles: tuple[str, ...], *, trial: bool = False, told: Mapping[str, Any] | None = None
) -> wire.Start:
    """The first message to a child of `service`. `trial`: its files are new; older workers serve on without them.

    `told`: what it gets with its settings, and what changes while it runs.
    """
    confinement = {
        "jail": service.jail,
        "promise": service.promise,
        "uid": service.uid,
        "gid": service.gid,
        "writes": service.writes,
        "bind_tcp": list(service.bind_tcp) if service.bind_tcp[1] else None,
        "nofile": service.nofile,
        "fsize": service.fsize,
        "parent": os.getpid(),
        "required": service.required,
    }
    settings = {**service.settings, **(told or {}), **({"trial": True} if trial else {})}
    return wire.Start(service.name, index, service.main, settings, confinement, roles)


_ACTIONS: dict[Do, Callable[[WorkerSlot, float], None]] = {
    Do.SPAWN: WorkerSlot._spawn,
    Do.KILL: WorkerSlot._kill,
    Do.DRAIN: WorkerSlot._drain,
    Do.COUNT_FAILURE: WorkerSlot._count_failure,
    Do.FORGIVE: WorkerSlot._forgive,
    Do.LEND: WorkerSlot._host_does,
    Do.TAKE_BACK: WorkerSlot._host_does,
    Do.FORGET: WorkerSlot._host_does,
}
