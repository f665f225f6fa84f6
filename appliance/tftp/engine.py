"""The loop of one worker: its reads, and one exception wall per session and turn.

Whatever goes wrong in one transfer ends that transfer; whatever a stranger sends ends nothing. The loop turns at least
once a second, and tells the watchdog.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

from appliance.observe.live import Live
from appliance.observe.tables import Counters
from appliance.observe.tally import Tally
from appliance.published.view import Published
from appliance.settings.forms import port_range_parts
from appliance.settings.tftp import TftpSettings
from appliance.tftp import packet
from appliance.tftp.actions import Done, Failed
from appliance.tftp.admission import Admission, Networks
from appliance.tftp.custodian import Custodian
from appliance.tftp.journal import Journal
from appliance.tftp.listeners import Listeners
from appliance.tftp.packet import ErrorCode
from appliance.tftp.poll import Handler, Poll
from appliance.tftp.portwatch import PortWatch
from appliance.tftp.present import Present
from appliance.tftp.rates import Pacer
from appliance.tftp.reception import Reception
from appliance.tftp.records import EVICTED, Records
from appliance.tftp.supply import Supply
from appliance.tftp.terms import rated
from appliance.tftp.timers import Timers
from appliance.tftp.transfer import Transfer
from appliance.tftp.uploads import Uploads

HALF_OPEN_MAX = 2048
_EVENTS_MAX = 256
_TURN_S = 0.9  # the watchdog wants a sign of life every second
_TICK_S = 0.25
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
        self._poll = Poll(counters, journal)
        self._ports = PortWatch(
            self._poll,
            port_range_parts(settings.port_range) if settings.port_range else None,
            self._through,
        )
        self._custodian = Custodian(journal, self._poll.handle, self._poll.unhandle)
        self._records = Records(counters, journal)
        shelf = memory // 8
        supply = Supply(memory - shelf)
        self._uploads = self._made_uploads(settings, supply)
        self._reception = self._made_reception(settings, supply, shelf)
        self._listeners = Listeners(
            self._poll,
            self._reception,
            self._uploads,
            counters,
            single_port=settings.single_port,
            begin=self._begin,
            readable=self._readable,
        )
        self._transfers: dict[int, Transfer] = {}
        self._half_open: dict[Transfer, None] = {}  # in the order they came
        self._timers: Timers[Transfer] = Timers()
        self._drained_by: float | None = None
        self._now = time.monotonic()
        self._tick_at = 0.0

    def _made_uploads(self, settings: TftpSettings, supply: Supply) -> Uploads:
        return Uploads(
            custodian=self._custodian,
            admission=self._admission,
            supply=supply,
            per_client=settings.limits.per_client,
            give_up_s=settings.give_up_after,
            journal=self._journal,
            counters=self._counters,
            records=self._records,
            ports=self._ports,
            gone=self._present.gone,
            changed=self._count,
        )

    def _made_reception(self, settings: TftpSettings, supply: Supply, shelf: int) -> Reception:
        return Reception(
            settings,
            shelf=shelf,
            admission=self._admission,
            supply=supply,
            ports=self._ports.ports,
            journal=self._journal,
            counters=self._counters,
            end=self._finish,
            begin=self._begin,
            custodian=self._custodian,
            uploads=self._uploads,
            pacer=self._pacer,
            published=self.published,
        )

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
        self._listeners.listen(listener)

    def unlisten(self, listener: socket.socket) -> None:
        """Take no more requests from a listener, and close it; closed already is right too."""
        self._listeners.unlisten(listener)

    def handle(self, descriptor: int, handler: Handler) -> None:
        """Call `handler(now)` whenever `descriptor` is readable."""
        self._poll.handle(descriptor, handler)

    def drain(self, seconds: float) -> None:
        """Take no more requests; `run` returns when the transfers are done, at the latest after `seconds`."""
        self._drained_by = time.monotonic() + seconds
        self._reception.desk.clear()
        self._listeners.close()

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
        ready = self._poll.wait(self._wait(), _EVENTS_MAX)
        self._now = now = time.monotonic()
        if now >= self._tick_at:
            self._tick_at = now + _TICK_S
            self._counters.tick()
            self._custodian.flush()
            self._present.look(self._transfers, self._uploads.running, now)
            self.published.renew(self._pinned(), now)
            self._ports.ports.trim(now)
        transfers = self._transfers
        for descriptor, _events in ready:
            transfer = transfers.get(descriptor)
            if transfer is None:
                self._poll.call(descriptor, now)
                continue
            try:  # as `_readable`, which would be one call more for each datagram
                if not transfer.readable(now):
                    self._after(transfer, now)
            except Exception:
                self._crashed(transfer)
        if self._timers.due <= now:
            self._ring(now)
        if self._uploads.timers.due <= now:
            self._uploads.ring(now)
        if self._pacer is not None:
            self._release(self._pacer, now)
        self._journal.flush()
        self._emitter.pulse(now)

    def _wait(self) -> float:
        """How long nothing happens by itself, in seconds; counted from the last turn."""
        until = self._now + _TURN_S
        for due in (self._timers.next(), self._uploads.timers.due, self._emitter.due):
            if due < until:  # noqa: PLR1730 (min() costs more, and every turn comes by)
                until = due
        if self._drained_by is not None and self._drained_by < until:
            until = self._drained_by
        if self._pacer is not None:
            until = min(until, self._pacer.due(self._now))
        return until - self._now if until > self._now else 0.0

    def _through(self, listener: socket.socket, step: int) -> None:
        self._listeners.through(listener, step)

    # -- transfers

    def _begin(self, transfer: Transfer, now: float) -> None:
        self._admission.begin(transfer.call.client)
        self._transfers[transfer.sock.fileno()] = transfer
        self._half_open[transfer] = None
        self._reception.live[transfer.call.peer] = transfer
        self._count()
        try:
            self._ports.begin(transfer)
            transfer.start(now)
            self._after(transfer, now)
        except Exception:
            self._crashed(transfer)
        if self._admission.half_open > self._half_open_max:
            self._finish(next(iter(self._half_open)), EVICTED)

    def _readable(self, transfer: Transfer, now: float) -> None:
        """Something came for a transfer."""
        try:
            if not transfer.readable(now):
                self._after(transfer, now)
        except Exception:
            self._crashed(transfer)

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
            self._timers.set(transfer, due)

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
        self._ports.end(transfer, fit=transfer.close())
        self._count()
        if self._records.read(transfer, how, now):
            self._learn(transfer, how, now)

    def _learn(self, transfer: Transfer, how: Done | Failed, now: float) -> None:
        """What the transfer says about its client's path, and about the release that the client is to be given."""
        session, call = transfer.session, transfer.call
        if isinstance(how, Failed) and transfer.path_ate_it:
            self._reception.lessons.path_ate(call.client, now)
        if session.heard:
            self._reception.lessons.passed(
                call.client,
                now,
                window=transfer.agreed.window,
                blocks=session.acked,
                losses=session.setbacks,
                sliced=session.sliced,
                interval_s=session.measured_s,
            )
        if isinstance(how, Done):
            pinned = call.pinned or transfer.confirmed  # a file of one block is over with its first ACK
            (self.published.keep if pinned else self.published.pin)(call.peer[0], call.release)

    def _pinned(self) -> Iterator[tuple[str, int]]:
        return ((one.call.peer[0], one.call.release) for one in self._transfers.values() if one.confirmed)

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

    def _ring(self, now: float) -> None:
        for transfer in self._timers.ring(now):
            try:
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

    def _close(self) -> None:
        for transfer in list(self._transfers.values()):
            self._abort(transfer, *_STOPPING)
        self._uploads.close(*_STOPPING)
        self.drain(0)
        self._ports.ports.close_idle()
        self._poll.close()
        self._journal.flush()
        self._emitter.flush(time.monotonic())
