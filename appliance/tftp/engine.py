"""The loop of one worker: epoll, one heap of timers, and one exception wall per session and turn.

Whatever goes wrong in one transfer ends that transfer; whatever a stranger sends ends nothing. The loop turns at least
once a second, and tells the watchdog.
"""

from __future__ import annotations

import heapq
import select
import socket
import time
from collections.abc import Callable

from appliance.observe import events
from appliance.observe.live import Live
from appliance.observe.tables import Counters
from appliance.observe.tally import Tally
from appliance.published.view import Published
from appliance.settings.forms import port_range_parts
from appliance.settings.tftp import TftpSettings
from appliance.tftp import packet, sockets
from appliance.tftp.admission import Admission, Networks, TokenBucket
from appliance.tftp.custodian import Custodian
from appliance.tftp.journal import Journal
from appliance.tftp.packet import ErrorCode
from appliance.tftp.ports import Port, Ports
from appliance.tftp.present import Present
from appliance.tftp.rates import Pacer
from appliance.tftp.receiving import Write
from appliance.tftp.reception import REPLACED, Reception
from appliance.tftp.session import NO_ANSWER, PROBE, Done, Failed
from appliance.tftp.singleport import Gate, Shared
from appliance.tftp.supply import Supply
from appliance.tftp.terms import rated
from appliance.tftp.transfer import GONE, Call, Transfer
from appliance.tftp.uploads import Uploads

BATCH = 16  # requests taken per wake-up of a listener
HALF_OPEN_MAX = 2048
_TURN_S = 0.9  # the watchdog wants a sign of life every second
_TICK_S = 0.25
_STRANGER = packet.error(ErrorCode.UNKNOWN_TID, "Unknown transfer ID")
_ANSWERED = {bytes((0, opcode)) for opcode in packet.Opcode if opcode != packet.Opcode.ERROR}
_STRANGERS_PER_SECOND = 1000  # their addresses may be forged too
_EVICTED = Failed("evicted")
_DONE = Done()
_NOBODY = {NO_ANSWER, GONE, _EVICTED.outcome, REPLACED.outcome}
_BUSY = "Server is busy, try again"
_BROKEN = ("Internal error", "crash")
_KICKED = ("Ended by the operator", "kicked by the operator")
_STOPPING = ("Server is stopping", "stopped")


class Engine:
    """Serves one worker's listeners until drained."""

    def __init__(
        self,
        settings: TftpSettings,
        *,
        memory: int,
        unseen_per_second: int,
        near: Networks,
        journal: Journal,
        counters: Counters,
        tally: Tally | None = None,
        published: Published | None = None,
        live: Live | None = None,
    ) -> None:
        """`memory`: bytes for read-ahead and cache. `unseen_per_second`: this worker's share of the service's limit.

        `near`: clients there are never asked for a permit. `tally`: what the siblings have given out, if there are any.
        `published`: what is published, if anything is. `live`: where it is shown who is on.
        """
        self._counters, self._journal, self._emitter = counters, journal, journal.emitter
        self._present = Present(live or Live(), journal.emitter)
        self.published = published or Published()
        self._listeners: list[socket.socket] = []
        self._single_port = settings.single_port
        self._gates: dict[socket.socket, Gate] = {}  # by listener, in single-port mode only
        limits, tally = settings.limits, tally or Tally()
        self._pacer = Pacer(limits.rate_per_client, limits.rate_total, tally) if rated(settings) else None
        self._half_open_max = min(limits.transfers, HALF_OPEN_MAX)
        self._admission = Admission(
            transfers=limits.transfers,
            per_client=limits.per_client,
            unseen_per_second=unseen_per_second,
            near=near,
            tally=tally,
        )
        numbers = port_range_parts(settings.port_range) if settings.port_range else None
        self._ports = Ports(self._watch, self._unwatch, numbers, dropped=self._dropped)
        shelf = memory // 8
        supply = Supply(memory - shelf)
        self._custodian = Custodian(journal, self.handle, self._unhandle)
        self._uploads = Uploads(
            custodian=self._custodian,
            admission=self._admission,
            supply=supply,
            per_client=limits.per_client,
            give_up_s=settings.give_up_after,
            journal=journal,
            counters=counters,
            hold=self._hold,
            release=self._release_socket,
            gone=self._present.gone,
            changed=self._count,
        )
        self._reception = Reception(
            settings,
            shelf=shelf,
            admission=self._admission,
            supply=supply,
            ports=self._ports,
            journal=journal,
            counters=counters,
            end=self._finish,
            begin=self._begin,
            custodian=self._custodian,
            uploads=self._uploads,
            pacer=self._pacer,
            published=self.published,
        )
        self._strangers = TokenBucket(_STRANGERS_PER_SECOND)
        self._transfers: dict[int, Transfer] = {}
        self._half_open: dict[Transfer, None] = {}  # in the order they came
        self._handlers: dict[int, Callable[[float], None]] = {}
        self._timers: list[tuple[float, int, Transfer]] = []
        self._sequence = 0
        self._drained_by: float | None = None
        self._now = time.monotonic()
        self._tick_at = 0.0
        self._epoll = select.epoll()

    def run(self) -> None:
        """Serve; returns when drained, or told to leave."""
        self._reception.settle_in()
        try:
            while not self._finished():
                self._turn()
        finally:
            self._close()

    def listen(self, listener: socket.socket) -> None:
        """Take requests from this socket too. Raises OSError."""
        sockets.tell_destination(listener)
        self._listeners.append(listener)
        if self._single_port:
            now = time.monotonic()
            gate = self._gates[listener] = Gate(listener, self._reception.live, self._uploads.live, now)
            self.handle(listener.fileno(), lambda now: self._on_gate(gate, listener, now))
        else:
            self.handle(listener.fileno(), lambda now: self._on_requests(listener, now))

    def unlisten(self, listener: socket.socket) -> None:
        """Take no more requests from a listener, and close it; closed already is right too.

        In single-port mode it is closed when the last transfer that goes through it is over.
        """
        if listener not in self._listeners:
            return
        self._listeners.remove(listener)
        gate = self._gates.get(listener)
        if gate is not None and gate.running:
            gate.retire(time.monotonic())
        else:
            self._shut(listener)

    def _shut(self, listener: socket.socket) -> None:
        self._gates.pop(listener, None)
        self._unhandle(listener.fileno())
        listener.close()

    def handle(self, descriptor: int, handler: Callable[[float], None]) -> None:
        """Call `handler(now)` whenever `descriptor` is readable."""
        self._epoll.register(descriptor, select.EPOLLIN)
        self._handlers[descriptor] = handler

    def drain(self, seconds: float) -> None:
        """Take no more requests; `run` returns when the transfers are done, at the latest after `seconds`."""
        self._drained_by = time.monotonic() + seconds
        self._reception.desk.clear()
        for listener in list(self._listeners):
            self.unlisten(listener)

    def attach(self, link: socket.socket) -> None:
        """Uploads go through the custodian behind this link from now on."""
        self._custodian.attach(link)

    def kick(self, number: int) -> None:
        """The administrator ends the transfer of this number; one that is over meanwhile is no error."""
        for transfer in [one for one in self._transfers.values() if one.number == number]:
            self._abort(transfer, *_KICKED)
        self._uploads.kick(number, *_KICKED)

    def leave(self) -> None:
        """`run` returns after this turn."""
        self._drained_by = 0.0

    def _finished(self) -> bool:
        if self._drained_by is None:
            return False
        return not (self._transfers or self._uploads.active) or time.monotonic() >= self._drained_by

    def _turn(self) -> None:
        ready = self._epoll.poll(self._wait(), 256)
        self._now = now = time.monotonic()
        if now >= self._tick_at:
            self._tick_at = now + _TICK_S
            self._counters.tick()
            self._custodian.flush()
            self._present.look(self._transfers, self._uploads.running, now)
        transfers = self._transfers
        for descriptor, _events in ready:
            transfer = transfers.get(descriptor)
            if transfer is None:
                self._other(descriptor, now)
                continue
            try:
                if not transfer.readable(now):
                    self._after(transfer, now)
            except Exception:
                self._crashed(transfer)
        if self._timers and self._timers[0][0] <= now:
            self._ring(now)
        if self._uploads.due <= now:
            self._uploads.ring(now)
        if self._pacer is not None:
            self._release(self._pacer, now)
        self._journal.flush()
        self._emitter.pulse(now)

    def _wait(self) -> float:
        """How long nothing happens by itself, in seconds; counted from the last turn."""
        timers, until = self._timers, self._now + _TURN_S
        while timers:
            due, _sequence, transfer = timers[0]
            if transfer.over is None:
                until = min(until, due)
                break
            heapq.heappop(timers)
        until = min(until, self._uploads.due, self._emitter.due)
        if self._drained_by is not None and self._drained_by < until:
            until = self._drained_by
        if self._pacer is not None:
            until = min(until, self._pacer.due(self._now))
        return until - self._now if until > self._now else 0.0

    def _other(self, descriptor: int, now: float) -> None:
        """Anything readable that is not a transfer."""
        handler = self._handlers.get(descriptor)
        if handler is None:
            return  # closed earlier in this turn
        try:
            handler(now)
        except Exception:
            self._counters.add("crashes")
            self._journal.crash()

    # -- transfers

    def _begin(self, transfer: Transfer, now: float) -> None:
        self._admission.begin(transfer.call.client)
        self._transfers[transfer.sock.fileno()] = transfer
        self._half_open[transfer] = None
        self._reception.live[transfer.call.peer] = transfer
        self._count()
        if transfer.call.via is not None:
            self._through(transfer.call.via, 1)
        try:
            self._poll(transfer)
            transfer.start(now)
            self._after(transfer, now)
        except Exception:
            self._crashed(transfer)
        if self._admission.half_open > self._half_open_max:
            self._finish(next(iter(self._half_open)), _EVICTED)

    def _after(self, transfer: Transfer, now: float) -> None:
        """See to whatever an event may have changed."""
        if transfer.refused:
            transfer.last_words(now)
        if transfer.over is None and transfer.session.heard and not transfer.confirmed:
            self._confirm(transfer, now)
        if transfer.over is not None:
            self._finish(transfer, transfer.over)
            return
        due = transfer.wants_timer_at(now)
        if due < transfer.due or not transfer.due:
            self._schedule(transfer, due)

    def _confirm(self, transfer: Transfer, now: float) -> None:
        cause = self._admission.over_cap(transfer.call.client, transfer.call.quota)
        if cause:
            transfer.perform(transfer.session.abort(ErrorCode.UNDEFINED, _BUSY, cause))
            return
        del self._half_open[transfer]
        self._admission.confirm(transfer.call.client, now, transfer.call.quota)
        if not transfer.call.pinned:
            self.published.pin(transfer.call.peer[0], transfer.call.release)
        transfer.confirm()

    def _finish(self, transfer: Transfer, how: Done | Failed) -> None:
        """End a transfer, for whatever reason: the one place where its resources go."""
        now = time.monotonic()
        transfer.over = how
        if transfer.number:
            self._present.gone(transfer)
        descriptor = transfer.sock.fileno()
        del self._transfers[descriptor]
        self._half_open.pop(transfer, None)
        if self._reception.live.get(transfer.call.peer) is transfer:
            del self._reception.live[transfer.call.peer]
        self._admission.end(transfer.call.client, confirmed=transfer.confirmed, quota=transfer.call.quota)
        fit, port = transfer.close(), transfer.port
        if port is None:
            transfer.sock.close()
        else:
            if not fit:
                self._ports.drop(port)
            self._ports.give(port)
        if transfer.call.via is not None:
            self._through(transfer.call.via, -1)
        self._record(transfer, how, now)

    def _through(self, listener: socket.socket, step: int) -> None:
        """One transfer more, or fewer, goes through a listener (single-port mode)."""
        gate = self._gates[listener]
        gate.running += step
        if gate.retired and not gate.running:
            self._shut(listener)

    def _record(self, transfer: Transfer, how: Done | Failed, now: float) -> None:
        counters, session = self._counters, transfer.session
        sent_bytes = transfer.delivered
        self._count()
        counters.add("bytes", sent_bytes)
        if session.retransmits:
            counters.add("retransmits", session.retransmits)
        if isinstance(how, Failed):
            counters.add("failed")
        elif how.outcome != PROBE:
            counters.add("transfers")
        if not session.heard and how.outcome in _NOBODY:
            self._journal.unanswered(transfer.call.peer, transfer.call.request.name, now, transfer.agreed.block_size)
            return
        if isinstance(how, Failed) and transfer.path_ate_it:
            self._reception.lessons.path_ate(transfer.call.client, now)
        if session.heard:
            self._reception.lessons.passed(
                transfer.call.client,
                now,
                window=transfer.agreed.window,
                blocks=session.acked,
                losses=session.setbacks,
                sliced=session.sliced,
                interval_s=session.measured_s,
            )
        if isinstance(how, Done):
            pinned = transfer.call.pinned or transfer.confirmed  # a file of one block is over with its first ACK
            (self.published.keep if pinned else self.published.pin)(transfer.call.peer[0], transfer.call.release)
        took_ms = round((now - transfer.call.at) * 1000)
        counters.took(took_ms)
        self._journal.finished(
            transfer.call.peer,
            events.Ended(
                number=transfer.number,
                size=transfer.file.size,
                bytes=sent_bytes,
                blksize=transfer.agreed.block_size,
                windowsize=transfer.agreed.window,
                port=transfer.call.peer[1],
                ms=took_ms,
                retransmits=session.retransmits,
                acknowledged=how == _DONE,
                client=transfer.call.peer[0].encode(),
                verb=b"RRQ",
                file=transfer.call.request.name,
                path=transfer.served.path,
                layer=transfer.served.layer,
                release=transfer.served.release,
                outcome=how.outcome.encode(),
            ),
            now,
        )

    def _count(self) -> None:
        self._counters.set("active", len(self._transfers) + self._uploads.active)

    def _crashed(self, transfer: Transfer) -> None:
        """The wall: a bug met by one transfer ends that one."""
        self._counters.add("crashes")
        self._journal.crash(file=transfer.call.request.name)
        self._abort(transfer, *_BROKEN)

    def _abort(self, transfer: Transfer, text: str, outcome: str) -> None:
        if transfer.over is None:
            transfer.say(packet.error(ErrorCode.UNDEFINED, text))
        if self._transfers.get(transfer.sock.fileno()) is transfer:
            self._finish(transfer, Failed(outcome))

    # -- timers: lazily, a transfer's entry is moved only when it rings

    def _schedule(self, transfer: Transfer, due: float) -> None:
        transfer.due = due
        self._sequence += 1
        heapq.heappush(self._timers, (due, self._sequence, transfer))
        if len(self._timers) > 1024 + 4 * len(self._transfers):
            self._timers = [entry for entry in self._timers if entry[2].over is None and entry[0] == entry[2].due]
            heapq.heapify(self._timers)

    def _ring(self, now: float) -> None:
        while self._timers and self._timers[0][0] <= now:
            due, _sequence, transfer = heapq.heappop(self._timers)
            if transfer.over is not None or due != transfer.due:
                continue
            try:
                transfer.due = 0.0
                if transfer.wants_timer_at(0.0) <= now:
                    transfer.on_timer(now)
                self._after(transfer, now)
            except Exception:
                self._crashed(transfer)

    def _release(self, pacer: Pacer, now: float) -> None:
        """Let those go on whose turn it is."""
        for flow in pacer.release(now):
            try:
                flow.owner.go(now)
                self._after(flow.owner, now)
            except Exception:
                self._crashed(flow.owner)

    # -- listeners and strangers

    def _unhandle(self, descriptor: int) -> None:
        del self._handlers[descriptor]
        self._epoll.unregister(descriptor)

    def _on_requests(self, listener: socket.socket, now: float) -> None:
        for _ in range(BATCH):
            try:
                datagram = sockets.receive(listener)
            except OSError:
                return  # nothing more, or an ICMP error of an earlier reply
            transfer = self._reception.receive(listener, datagram, now)
            if transfer is not None:
                self._begin(transfer, now)

    def _on_gate(self, gate: Gate, listener: socket.socket, now: float) -> None:
        """Single-port mode: requests, and what belongs to a transfer."""
        for _ in range(BATCH):
            try:
                datagram = gate.receive(now)
            except OSError:
                return
            if datagram is None:
                return
            owner = gate.owner(datagram)
            if owner is not None:
                self._deliver(owner, datagram.payload, now)
            elif not gate.takes(datagram):
                self._counters.add("dropped")
            elif (transfer := self._reception.receive(listener, datagram, now)) is not None:
                self._begin(transfer, now)

    def _deliver(self, transfer: Transfer | Write, datagram: bytes, now: float) -> None:
        assert isinstance(transfer.sock, Shared)
        transfer.sock.put(datagram)
        if isinstance(transfer, Write):
            self._uploads.deliver(transfer, now)
            return
        try:
            if not transfer.readable(now):
                self._after(transfer, now)
        except Exception:
            self._crashed(transfer)

    def _poll(self, transfer: Transfer) -> None:
        """Wait for what its socket receives; one that belongs to a port is waited for until it is closed."""
        port, descriptor = transfer.port, transfer.sock.fileno()
        if transfer.call.via is not None:
            return  # its listener is waited for
        if port is None:
            self._epoll.register(descriptor, select.EPOLLIN)
        elif not port.polled:
            sock = transfer.sock
            self.handle(descriptor, lambda _now: _discard(sock))
            port.polled = True

    def _hold(self, call: Call, sock: socket.socket, port: Port | None, handler: Callable[[float], None]) -> None:
        """Call `handler(now)` for what comes to a write on this socket. Raises OSError."""
        if call.via is not None:
            self._through(call.via, 1)
        elif port is not None and port.polled:
            self._handlers[sock.fileno()] = handler
        else:
            self.handle(sock.fileno(), handler)
            if port is not None:
                port.polled = True

    def _release_socket(self, call: Call, sock: socket.socket, port: Port | None) -> None:
        """A write is through with what `_hold` held."""
        if port is not None:
            self._handlers[sock.fileno()] = lambda _now: _discard(sock)
            self._ports.give(port)
            return
        if call.via is None:
            self._unhandle(sock.fileno())
        sock.close()
        if call.via is not None:
            self._through(call.via, -1)

    def _dropped(self, port: Port) -> None:
        if port.sock is not None:
            self._unhandle(port.sock.fileno())

    def _watch(self, port: Port) -> None:
        self.handle(port.watch.fileno(), lambda now: self._on_stranger(port, now))

    def _unwatch(self, port: Port) -> None:
        self._unhandle(port.watch.fileno())

    def _on_stranger(self, port: Port, now: float) -> None:
        """Somebody who is not the client of the transfer on this port (RFC 1350 section 4). No answer to an ERROR."""
        try:
            datagram = sockets.receive(port.watch)
            told = port.busy and (not port.secret or datagram.peer[0] == port.host)
            wanted = told and datagram.payload[:2] in _ANSWERED and datagram.peer[1]
            if wanted and datagram.local is not None and self._strangers.take(now):
                sockets.reply(port.watch, _STRANGER, datagram.local, datagram.peer)
        except OSError:
            pass

    def _close(self) -> None:
        for transfer in list(self._transfers.values()):
            self._abort(transfer, *_STOPPING)
        self._uploads.close(*_STOPPING)
        self.drain(0)
        self._ports.close_idle()
        self._epoll.close()
        self._journal.flush()
        self._emitter.flush(time.monotonic())


def _discard(sock: socket.socket) -> None:
    """Throw away what a client sends after its transfer."""
    try:
        sock.recv(1)
    except OSError:
        pass
