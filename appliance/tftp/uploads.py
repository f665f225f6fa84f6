"""The running writes of one worker: their timers, caps and ends, and one exception wall per write and turn.

A write is half-open until its first DATA, then it runs and counts against the caps, and once its file is stored it only
lingers, without buffer, file or place under a cap, for a client whose last ACK was lost. All three are bounded.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable
from functools import partial

from appliance.custody import wire
from appliance.custody.client import Hearer
from appliance.observe.tables import Counters
from appliance.tftp import packet
from appliance.tftp.actions import Done, Failed
from appliance.tftp.admission import Admission
from appliance.tftp.custodian import Custodian
from appliance.tftp.journal import Journal
from appliance.tftp.options import Agreed
from appliance.tftp.packet import ErrorCode
from appliance.tftp.ports import Port
from appliance.tftp.portwatch import PortWatch
from appliance.tftp.receiver import Receiver
from appliance.tftp.receiving import Write
from appliance.tftp.records import EVICTED, REPLACED, Records
from appliance.tftp.sockets import Peer
from appliance.tftp.supply import Supply
from appliance.tftp.timers import Timers
from appliance.tftp.transfer import Call

_HALF_OPEN_MAX = 512
_LINGERING_MAX = 64
_BROKEN = Failed("crash")


class Uploads:
    """Keeps the writes. `timers`: theirs, for the loop to look at; `ring` sees to them."""

    def __init__(
        self,
        *,
        custodian: Custodian,
        admission: Admission,
        supply: Supply,
        per_client: int,
        give_up_s: float,
        journal: Journal,
        counters: Counters,
        records: Records,
        ports: PortWatch,
        changed: Callable[[], None],
        gone: Callable[[Write], None],
    ) -> None:
        """`per_client`: half-open writes of one client. `changed`: `active` is another.

        `ports` waits for what comes to a write's socket; `gone` hears of the end of one that was shown.
        """
        self._custodian, self._admission, self._supply = custodian, admission, supply
        self._per_client, self._give_up_s = per_client, give_up_s
        self._journal, self._counters = journal, counters
        self._records, self._ports, self._changed, self._gone = records, ports, changed, gone
        self._half_open: dict[Write, None] = {}  # in the order they came
        self._running: dict[Write, None] = {}
        self._lingering: dict[Write, None] = {}
        self._unheard: dict[str, int] = {}  # half-open writes by client
        self.live: dict[Peer, Write] = {}  # the newest of a client's address and port
        self.timers: Timers[Write] = Timers()

    @property
    def running(self) -> Iterable[Write]:
        """Writes whose client has sent data."""
        return self._running

    def kick(self, number: int, text: str, outcome: str) -> None:
        """The administrator ends the write of this number."""
        for write in [one for one in self._running if one.number == number]:
            self._guarded(write, partial(_abort, write, text, outcome), time.monotonic())

    @property
    def active(self) -> int:
        """Writes under way."""
        return len(self._half_open) + len(self._running)

    def over_cap(self, client: str) -> str:
        """Why one more half-open write of a client is over a cap; "" when it is not."""
        return "too many unanswered requests of this client" if self._unheard.get(client, 0) >= self._per_client else ""

    def is_repeat(self, call: Call) -> bool:
        """Whether a request belongs to a write that is there already: the rules for reads, in `reception`.

        Through a single port a new write would get the DATA of the one that runs, and anybody can forge a request.
        """
        write = self.live.get(call.peer)
        if write is None:
            return False
        receiver = write.receiver
        waits = receiver.held or (receiver.complete and not receiver.stored)  # it is us who are silent
        alive = receiver.heard and (waits or call.at - receiver.silent_since < receiver.patience_s)
        if call.repeats(write.call):
            if alive or not (receiver.heard or receiver.budget_spent):
                return True
            self._finish(write, REPLACED)
        elif not receiver.heard:
            self._finish(write, REPLACED)
        elif call.via is not None and call.request.write and not receiver.stored:
            if alive:
                return True
            self._finish(write, REPLACED)
        return False

    def begin(
        self,
        call: Call,
        sock: socket.socket,
        port: Port | None,
        agreed: Agreed,
        *,
        name: bytes,
        declared: int,
        now: float,
    ) -> None:
        """A write may begin, says the custodian; `name` is that in the box, `declared` bytes or 0. Raises OSError."""
        write = Write(
            call,
            sock=sock,
            port=port,
            agreed=agreed,
            receiver=Receiver(agreed, give_up_s=self._give_up_s),
            name=name,
            declared=declared,
            custodian=self._custodian,
            supply=self._supply,
            keeper=self,
        )
        self._ports.hold(call, sock, port, partial(self._guarded, write, write.readable))
        self._half_open[write] = None
        self._unheard[call.client] = self._unheard.get(call.client, 0) + 1
        self.live[call.peer] = write
        self._changed()
        self._guarded(write, write.start, now)
        if len(self._half_open) > _HALF_OPEN_MAX:
            self._finish(next(iter(self._half_open)), EVICTED)

    def deliver(self, write: Write, now: float) -> None:
        """There is something to take for a write that the loop does not watch."""
        self._guarded(write, write.readable, now)

    def ring(self, now: float) -> None:
        """See to what is due."""
        for write in self.timers.ring(now):
            self._guarded(write, write.on_timer, now)

    def close(self, text: str, outcome: str) -> None:
        """End every write; clients are told the constant `text`."""
        for write in [*self._half_open, *self._running, *self._lingering]:
            self._guarded(write, partial(_abort, write, text, outcome), time.monotonic())

    # -- what a running write asks for

    def admit(self, write: Write, now: float) -> str:
        """Its first DATA came; returns the cap that it is over, or ""."""
        client = write.call.client
        why = self._admission.refusal(client, write.call.quota)
        if not why:
            self._less_unheard(write)
            self._running[write] = None
            self._admission.begin(client)
            self._admission.confirm(client, now, write.call.quota)
        return why

    def hearer(self, write: Write) -> Hearer:
        """Who hears the custodian's answers about a write."""
        return partial(self._hear, write)

    def _hear(self, write: Write, message: wire.FromCustodian | None, descriptors: list[int]) -> None:
        def heard(now: float) -> None:
            if message is None:
                write.lost()
            else:
                write.hear(message, descriptors, now)

        self._guarded(write, heard, time.monotonic())

    # -- the turns of one write

    def _guarded(self, write: Write, action: Callable[[float], None], now: float) -> None:
        """The wall: a bug met by one write ends that one."""
        try:
            action(now)
            self._after(write, now)
        except Exception:
            self._counters.add("crashes")
            self._journal.crash(file=write.call.request.name)
            if write.over is None:
                write.say(packet.error(ErrorCode.UNDEFINED, "Internal error"))
            self._finish(write, _BROKEN)

    def _after(self, write: Write, now: float) -> None:
        """See to whatever an event may have changed."""
        if write.refused:
            write.last_words(now)
        if write.receiver.stored and write in self._running:
            self._stored(write, now)
        if write.over is not None:
            self._finish(write, write.over)
            return
        due = write.receiver.deadline
        if due < write.due or not write.due:
            self.timers.set(write, due)

    def _stored(self, write: Write, now: float) -> None:
        """The file is safe, and all that the write held goes but its port."""
        self._let_go(write)
        self._records.write(write, Done(), now)
        self._lingering[write] = None
        if len(self._lingering) > _LINGERING_MAX:
            self._finish(next(iter(self._lingering)), Done())

    def _finish(self, write: Write, how: Done | Failed) -> None:
        """End a write, for whatever reason: the one place where its socket and port go. Twice is once."""
        if not (write in self._half_open or write in self._running or write in self._lingering):
            return
        now = time.monotonic()
        write.over = how
        self._ports.release(write.call, write.sock, write.port)
        if self.live.get(write.call.peer) is write:
            del self.live[write.call.peer]
        if write in self._lingering:
            del self._lingering[write]
        else:
            self._let_go(write)
            self._records.write(write, how, now)

    def _let_go(self, write: Write) -> None:
        if write.number:
            self._gone(write)
        if write in self._running:
            del self._running[write]
            self._admission.end(write.call.client, confirmed=True, quota=write.call.quota)
        else:
            self._less_unheard(write)
        write.settle()
        self._changed()

    def _less_unheard(self, write: Write) -> None:
        del self._half_open[write]
        client = write.call.client
        self._unheard[client] -= 1
        if not self._unheard[client]:
            del self._unheard[client]


def _abort(write: Write, text: str, outcome: str, _now: float) -> None:
    write.perform(write.receiver.abort(ErrorCode.UNDEFINED, text, outcome))
