"""The `hooks` service: hears what happens and has the operator's programs run for it, by a process beside it.

What strangers have chosen (names, addresses) is read here, in a jail, by a process that can start nothing; what runs
the programs (hooks.runner) reads none of it. A program that hangs, fails or floods costs events of its own hook, which
are counted and shown, and holds up nobody.
"""

from __future__ import annotations

import os
import select
import socket
import time
from typing import Any

from appliance import wire
from appliance.board.hearing import Hearing
from appliance.board.live import Live
from appliance.board.turns import Turns
from appliance.child.context import Context
from appliance.confine.hook import Hold
from appliance.errors import WireError
from appliance.hooks import orders, runner, triggers
from appliance.hooks.desk import Desk
from appliance.hooks.orders import End, Result
from appliance.observe import events, shares
from appliance.observe.emitter import Emitter
from appliance.observe.log import Log
from appliance.observe.subscribed import datagrams, records_of
from appliance.settings.hooks import Hook
from appliance.settings.plain import decode

EVENTS = "events"
_TURN_S = 0.5
_TICK_S = 1.0
_RESULTS = 64
_QUIET_S = 10.0  # between two lines about the same full queue
_TROUBLE_S = 60.0  # for which a full queue is shown as a problem


class Hooks:
    """See the module."""

    def __init__(self, context: Context, hooks: tuple[Hook, ...], programs: socket.socket) -> None:
        self._channel, self._counters = context.channel, context.counters
        self._log = Log("hooks", context.settings["log"], lost=lambda: self._counters.add("log_dropped"))
        self._hooks, self._programs = hooks, programs
        self._desk = Desk(hooks)
        self._link: socket.socket | None = None
        self._first = context.links.get(EVENTS)
        per_second = int(context.settings["events_per_second"])
        self._emitter = Emitter(None, per_second, lambda count: self._counters.add("events_lost", count))
        self._live = Live({}, int(context.settings["machines"]))
        self._hearing, self._turns = Hearing(self._live), Turns(self._live)
        self._ticked = 0.0
        self._epoch = time.time() - time.monotonic()  # so that a clock that is set changes no story
        self._failing: set[int] = set()  # hooks whose last run failed
        self._full: dict[int, tuple[float, float, int]] = {}  # hook -> since when full, told when, dropped since then
        self._leave_at: float | None = None
        self._poll = select.poll()

    def run(self) -> None:
        """Serve until drained: what waits is still run, as long as there is time."""
        self._poll.register(self._channel.fileno(), select.POLLIN)
        self._poll.register(self._programs, select.POLLIN)
        if self._first is not None:
            self._attach(self._first)
        while True:
            self._counters.tick()
            try:
                if not self._turn():
                    break
            except EOFError:
                break
            except Exception:  # the wall
                self._counters.add("crashes")
                self._log.crash("crash")
        self._programs.close()

    def _turn(self) -> bool:
        ready = {descriptor for descriptor, _event in self._poll.poll(_TURN_S * 1000)}
        if self._channel.fileno() in ready:
            self._hear_supervisor()
        if self._programs.fileno() in ready and not self._hear_runner():
            self._log.error("the process that runs hooks has ended")
            return False
        if self._link is not None and self._link.fileno() in ready:
            self._hear_events(self._link)
        now = time.monotonic()
        if now - self._ticked >= _TICK_S:
            self._ticked = now
            self._tick(now)
        self._give()
        return self._leave_at is None or not (self._desk.idle or now >= self._leave_at)

    # --- the supervisor and the events service

    def _hear_supervisor(self) -> None:
        received = self._channel.receive()
        if received is None:
            return
        message, descriptors = received
        if isinstance(message, wire.Link) and message.name == EVENTS and descriptors:
            self._attach(socket.socket(fileno=descriptors.pop()))
        elif isinstance(message, wire.View) and descriptors:
            self._hearing.view(message.number, message.name, shares.look_live(descriptors[0]))
        elif isinstance(message, wire.Unview):
            self._hearing.unview(message.number)
        elif isinstance(message, wire.Drain):
            self._leave_at = time.monotonic() + message.milliseconds / 1000
        for descriptor in descriptors:
            os.close(descriptor)

    def _attach(self, link: socket.socket) -> None:
        link.setblocking(False)
        self._detach()
        self._link = link
        self._emitter.attach(socket.socket(fileno=os.dup(link.fileno())))
        self._poll.register(link, select.POLLIN)

    def _detach(self) -> None:
        if self._link is not None:
            self._poll.unregister(self._link)
            self._link.close()
            self._link = None

    def _hear_events(self, link: socket.socket) -> None:
        for datagram in datagrams(link):
            if not datagram:
                self._detach()
                return
            try:
                records = records_of(datagram)
            except WireError as error:
                self._log.warning("event not understood", reason=str(error))
                continue
            self._hearing.take(records, self._epoch + time.monotonic())
            if self._leave_at is None:
                for record in records:
                    self._happened(record)

    def _tick(self, now: float) -> None:
        self._hearing.look(self._epoch + now)
        for event in self._turns.of(self._live.tick(self._epoch + now)):
            self._emitter.emit(event, now)  # it comes back from the events service, as to everybody
        self._emitter.flush(now)
        for number, (since, told, dropped) in list(self._full.items()):
            if now - since > _TROUBLE_S:
                del self._full[number]
            if dropped and now - told >= _QUIET_S:
                self._tell_full(number, now)
        self._show()

    # --- the programs

    def _happened(self, record: events.Record) -> None:
        trigger = triggers.trigger_of(record.event)
        if trigger is None:
            return
        now = time.monotonic()
        for number in self._desk.offer(trigger, triggers.document(trigger, record)):
            self._counters.add("dropped")
            _since, told, dropped = self._full.get(number, (now, now - _QUIET_S, 0))
            self._full[number] = (now, told, dropped + 1)
            if now - told >= _QUIET_S:
                self._tell_full(number, now)

    def _tell_full(self, number: int, now: float) -> None:
        since, _told, dropped = self._full.get(number, (now, now, 0))
        self._log.warning("hook dropped", run=self._hooks[number].run[0], reason="its queue is full", events=dropped)
        if number in self._full:
            self._full[number] = (since, now, 0)

    def _give(self) -> None:
        for order in self._desk.due():
            self._programs.send(orders.pack_order(order))
        self._counters.set("active", self._desk.running)

    def _hear_runner(self) -> bool:
        for _ in range(_RESULTS):
            try:
                message = self._programs.recv(orders.MESSAGE_MAX)
            except BlockingIOError:
                return True
            except OSError:
                return False
            if not message:
                return False
            try:
                self._over(orders.result_of(message))
            except WireError as error:
                self._log.error("a result that is none", reason=str(error))
                return False
        return True

    def _over(self, result: Result) -> None:
        number = self._desk.over(result.run)
        if number is None:
            return
        fields: dict[str, Any] = {"run": self._hooks[number].run[0], "ms": result.ms}
        if result.well:
            self._counters.add("transfers")
            self._failing.discard(number)
            self._log.info("hook", **fields, output=result.output)
        else:
            self._counters.add("failed")
            self._failing.add(number)
            self._log.warning(
                "hook failed", **fields, reason=_reason(result, self._hooks[number]), output=result.output
            )
        self._show()

    def _show(self) -> None:
        """A problem of `status`, as long as there is one."""
        self._counters.set("fault", 1 if self._failing or self._full else 0)


def _reason(result: Result, hook: Hook) -> str:
    if result.end is End.EXITED:
        return f"exit status {result.value}"
    if result.end is End.SIGNALLED:
        return f"signal {result.value}"
    if result.end is End.TIME_LIMIT:
        return f"ended after {hook.timeout:g} s, with all that it had started"
    if result.end is End.NOT_STARTED:
        return f"cannot be started: {os.strerror(result.value)}"
    return "whoever watched it was ended"


def prepare(context: Context) -> Hooks:
    """Start the runner, which stays what it is, and then be locked in. Raises StartError."""
    settings = context.settings
    hooks = tuple(decode(Hook, one) for one in settings["hooks"])
    held = Hold(str(settings["folder"]), int(settings["uid"]), int(settings["gid"]), bool(settings["required"]))
    return Hooks(context, hooks, runner.start(runner.Programs(hooks, held)))
