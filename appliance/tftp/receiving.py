"""One running write: takes blocks from its socket into a buffer, and the buffer to its deposit.

Invariant: the last ACK is only ever sent after the custodian's Done; everything else ends with Abort, or with the end
of the link, and the custodian removes what there is. Nothing is acknowledged before its Granted.

A client that announced its size (tsize, RFC 2349) and ends earlier, in octet mode, has lost the rest: it is told, and
nothing is stored. One that sends more is believed: a file may grow while it is read, and the caps hold all the same.

Hot path: `_take`, and for windows of all but the smallest files `_take_many`. In `_take` a datagram is received four
bytes before the place of its block, so that its header lies on the last bytes of the block before, which are put back:
the data is contiguous, and goes to the file in one write per buffer. Nothing is allocated but numbers, nothing is
formatted or logged per packet.
"""

from __future__ import annotations

import errno
import socket
import struct
from typing import Protocol

from appliance.custody import wire
from appliance.custody.client import Hearer
from appliance.custody.wire import Reason
from appliance.tftp import netascii, packet
from appliance.tftp.actions import Done, Failed, SendError, SendOack
from appliance.tftp.batch import Batch
from appliance.tftp.custodian import AWAY, Custodian, refusal_of
from appliance.tftp.deposit import Deposit
from appliance.tftp.options import Agreed
from appliance.tftp.packet import BLOCK_MAX, HEADER, ErrorCode, Opcode
from appliance.tftp.ports import Port
from appliance.tftp.receiver import DATA_WORD, LOST, NOTHING, Actions, Receiver, SendAck
from appliance.tftp.supply import Supply
from appliance.tftp.transfer import GONE, Call

_BUFFER = 64 * 1024
_BUFFER_CROWDED = 16 * 1024
_CROWD = 64  # transfers, from which on each buffers less
_SLOTS_MAX = 256
_VIEW = 320  # bytes of memory that one slot takes besides its data
_WORD = struct.Struct("!I")
_SWALLOWED = 32  # datagrams thrown away in one turn
_READ_ERRORS_MAX = 16
_SCRATCH = bytearray(HEADER.size + BLOCK_MAX + 1)  # one for the whole worker: filled and judged in the same breath
_NO_MEMORY = (ErrorCode.UNDEFINED, "Server is busy, try again", "out of memory")
_TOO_LONG = (ErrorCode.ILLEGAL, "Block is longer than agreed", "block longer than agreed")


class Keeper(Protocol):
    """Who keeps the running writes."""

    def admit(self, write: Write, now: float) -> str:
        """The client exists; returns why it may not go on, or ""."""

    def hearer(self, write: Write) -> Hearer:
        """Who hears the custodian's answers about this write, and hands them to `hear` and `lost`."""


class Write:
    """Everything that belongs to one running write. When `over` is set, whoever keeps it ends it."""

    __slots__ = (
        "_batch", "_buffer", "_errors", "_filled", "_footprint", "_held_cr", "_keeper", "_slots", "_stalled",
        "_supply", "_tail", "_view", "_views", "agreed", "call", "deposit", "due", "number", "over", "port",
        "receiver", "refused", "sock",
    )  # fmt: skip

    def __init__(
        self,
        call: Call,
        *,
        sock: socket.socket,
        port: Port | None,
        agreed: Agreed,
        receiver: Receiver,
        name: bytes,
        declared: int,
        custodian: Custodian,
        supply: Supply,
        keeper: Keeper,
    ) -> None:
        """`name`: in the box; `declared`: bytes, 0 for unknown."""
        self.call, self.sock, self.port, self.agreed, self.receiver = call, sock, port, agreed, receiver
        self.deposit = Deposit(custodian, name, declared)
        self._supply, self._keeper = supply, keeper
        self._buffer: bytearray | None = None  # from the first DATA on
        self._view = memoryview(b"")
        self._views: list[memoryview] = []
        self._batch: Batch | None = None  # for windows, from the second buffer on: making it costs a small upload more
        self._slots = self._filled = self._tail = self._footprint = 0
        self._held_cr = False
        self._stalled = False  # we wait for the custodian
        self._errors = 0
        self.number = 0  # under which it is told of; 0 until it has lasted a while
        self.due = 0.0  # when the timer rings next
        self.refused = False  # the kernel says that the client's port is closed: `last_words` is due
        self.over: Done | Failed | None = None

    def start(self, now: float) -> None:
        """Send the first reply."""
        self.perform(self.receiver.start(now))

    def readable(self, now: float) -> None:
        """Take what came, at most one window."""
        if self._buffer is not None and self._filled < self._slots and self.receiver.room > 0:
            if self._batch is not None:
                self._take_many(self._batch, self._buffer, now)
            else:
                self._take(self._buffer, now)
        else:
            self._swallow(_SWALLOWED, now)

    def last_words(self, now: float) -> None:
        """The client's port is closed. What it said before that may still be in the queue behind the error."""
        self.refused = False
        self._swallow(2 * _SWALLOWED, now)
        self.refused = False
        self.over = self.over or (Done() if self.receiver.stored else Failed(GONE))

    def on_timer(self, now: float) -> None:
        """The time has come to the receiver's deadline."""
        self.perform(self.receiver.on_timeout(now))

    def perform(self, actions: Actions) -> None:
        """Do what the receiver says."""
        for action in actions:
            if isinstance(action, SendAck):
                self.say(packet.ack(action.block))
            elif isinstance(action, SendOack):
                self.say(packet.oack(self.agreed.oack))
            elif isinstance(action, SendError):
                self.say(packet.error(action.code, action.text))
            else:
                self.over = self.over or action

    def say(self, datagram: bytes) -> None:
        """Send one small packet; if it cannot be sent it counts as lost."""
        try:
            self.sock.send(datagram)
        except OSError as error:
            self.refused = self.refused or error.errno == errno.ECONNREFUSED

    def settle(self) -> None:
        """Let go of everything but the socket; an upload that is not stored is aborted."""
        self.deposit.close()
        self._supply.repay(self._footprint)
        self._footprint = self._slots = 0
        self._buffer, self._views, self._view, self._batch = None, [], memoryview(b""), None

    # -- what the custodian says

    def hear(self, message: wire.FromCustodian, descriptors: list[int], now: float) -> None:
        """One message about this upload. Raises WireError for one that does not fit."""
        if isinstance(message, wire.Done) and self.receiver.complete:
            self.deposit.over()
            self._acknowledge(self.receiver.store(now))
            return
        reason = self.deposit.hear(message, descriptors)
        if reason is not None:
            self._deny(reason)
        elif self._stalled:
            self._stalled = False
            self._go_on(now)

    def lost(self) -> None:
        """The custodian is gone, and with it the upload."""
        self.deposit.over()
        self._refuse(ErrorCode.UNDEFINED, LOST, "the custodian is gone")

    def _go_on(self, now: float) -> None:
        """The custodian has given what was waited for."""
        receiver = self.receiver
        if (receiver.complete or self._filled == self._slots) and not self._flush(now):
            return
        if receiver.complete:
            self._commit()
        else:
            self._acknowledge(receiver.release(now))

    def _commit(self) -> None:
        if self.deposit.written < self.deposit.declared and self.call.request.mode == b"octet":
            self._deny(Reason.INCOMPLETE)
        else:
            self.deposit.commit()

    def _deny(self, reason: Reason) -> None:
        refusal = refusal_of(reason)
        self._refuse(refusal.code, refusal.text, refusal.cause)

    def _refuse(self, code: ErrorCode, text: str, outcome: str) -> None:
        self.perform(self.receiver.abort(code, text, outcome))

    # -- blocks

    def _take(self, buffer: bytearray, now: float) -> None:
        receiver, views, receive = self.receiver, self._views, self.sock.recv_into
        peek, poke = _WORD.unpack_from, _WORD.pack_into
        block, full = self.agreed.block_size, HEADER.size + self.agreed.block_size
        at = start = self._filled
        end = min(self._slots, at + receiver.room)
        expected = receiver.expected
        word = got = 0
        failure: OSError | None = None
        try:
            while at < end:
                place = at * block
                (saved,) = peek(buffer, place)
                got = receive(views[at])
                (word,) = peek(buffer, place)
                poke(buffer, place, saved)
                if word != expected or got != full:
                    break
                at += 1
                expected = expected + 1 if expected & 0xFFFF != 0xFFFF else DATA_WORD + self.agreed.rollover
        except OSError as error:
            got, failure = 0, error
        else:
            got = got if at < end else 0
        if at > start:
            self._filled = at
            number = receiver.took(at - start, now)
            if number >= 0:
                self._acknowledge(number)
        if got:
            self._out_of_line(word, got, now)
        if self._filled == self._slots and not receiver.held and self.over is None:
            self._flush(now)
        if failure is not None:
            self._receive_failed(failure)

    def _take_many(self, batch: Batch, buffer: bytearray, now: float) -> None:
        """As `_take`, with one call for what has come of a window."""
        receiver = self.receiver
        first = self._filled
        try:
            count = batch.receive(self.sock.fileno(), first, min(self._slots - first, receiver.room))
        except OSError as error:
            self._receive_failed(error)
            return
        if batch.in_order(first, count, block=receiver.received + 1, rollover=self.agreed.rollover):
            self._filled = first + count
            self._acknowledge(receiver.took(count, now))
        else:
            self._sort(batch, buffer, first, count, now)
        if self._filled == self._slots and not receiver.held and self.over is None:
            self._flush(now)

    def _sort(self, batch: Batch, buffer: bytearray, first: int, count: int, now: float) -> None:
        """One by one: a block in order moves up to its place where something else lies before it."""
        block, receiver = self.agreed.block_size, self.receiver
        for slot in range(first, first + count):
            word, got = batch.header(slot)
            if word == receiver.expected and HEADER.size <= got <= HEADER.size + block and receiver.room > 0:
                start, place = HEADER.size + slot * block, HEADER.size + self._filled * block
                if place < start:
                    buffer[place : place + block] = buffer[start : start + block]
                if got == HEADER.size + block:
                    self._filled += 1
                    self._acknowledge(receiver.took(1, now))
                    continue
            self._out_of_line(word, got, now)
            if self.over is not None or receiver.complete:
                return

    def _out_of_line(self, word: int, got: int, now: float) -> None:
        """A datagram that is not the next full block; its data, if any, lies at the place of the next block."""
        if got >= HEADER.size and word == self.receiver.expected and got <= HEADER.size + self.agreed.block_size:
            self._tail = got - HEADER.size
            self._end(now)
        else:
            self._judge(word, got, now)

    def _end(self, now: float) -> None:
        """The last block is in the buffer."""
        held = self.receiver.held
        self.receiver.end(now)
        if not held and self._flush(now):
            self._commit()

    def _judge(self, word: int, got: int, now: float) -> None:
        """Anything that brings no data."""
        if got < HEADER.size:
            return
        opcode = word >> 16
        if opcode == Opcode.DATA:
            if got > HEADER.size + self.agreed.block_size:
                self._refuse(*_TOO_LONG)
            else:
                self._acknowledge(self.receiver.stray(word & 0xFFFF, now))
        elif opcode == Opcode.ERROR:
            self.perform(self.receiver.on_error())

    def _swallow(self, count: int, now: float) -> None:
        """Datagrams while there is no buffer, or no room in it."""
        for _ in range(count):
            try:
                got = self._receive()
            except OSError as error:
                self._receive_failed(error)
                return
            (word,) = _WORD.unpack_from(_SCRATCH)
            first = word == DATA_WORD | 1 and HEADER.size <= got <= HEADER.size + self.agreed.block_size
            if first and not self.receiver.heard and self.over is None:
                self._begin(got, now)
                return
            self._judge(word, got, now)
            if self.over is not None:
                return

    def _receive(self) -> int:
        """Take a datagram into the scratch buffer; 0 for a late one of the port's earlier client. Raises OSError."""
        if self.port is None or self.receiver.heard:
            return self.sock.recv_into(_SCRATCH)
        got, source = self.sock.recvfrom_into(_SCRATCH)  # as in Transfer
        return got if source[:2] == self.call.peer[:2] else 0

    def _begin(self, got: int, now: float) -> None:
        """DATA 1 came: the client exists. Ask for a file, and hold what comes until there is one."""
        why = self._keeper.admit(self, now)
        if why:
            self._refuse(ErrorCode.UNDEFINED, _NO_MEMORY[1], why)
        elif not self._make_buffer():
            self._refuse(*_NO_MEMORY)
        elif not self.deposit.reserve(self._keeper.hearer(self), self.call.client):
            self._refuse(AWAY.code, AWAY.text, AWAY.cause)
        else:
            self._stalled = True
            self._view[HEADER.size : got] = memoryview(_SCRATCH)[HEADER.size : got]
            self.receiver.begin(now)
            if got < HEADER.size + self.agreed.block_size:
                self._tail = got - HEADER.size
                self._end(now)
            else:
                self._filled = 1
                self.receiver.took(1, now)

    def _make_buffer(self) -> bool:
        block, window = self.agreed.block_size, self.agreed.window
        wanted = _BUFFER if self._supply.crowd < _CROWD else _BUFFER_CROWDED
        for slots in (max(window, min(wanted // block, _SLOTS_MAX)), window):
            size = HEADER.size + slots * block + 1
            if self._supply.borrow(size + slots * _VIEW):
                self._footprint = size + slots * _VIEW
                self._slots = slots
                self._buffer = bytearray(size)
                self._view = memoryview(self._buffer)
                # One byte more than a packet may have: a longer one shows.
                self._views = [self._view[at * block : (at + 1) * block + HEADER.size + 1] for at in range(slots)]
                return True
        return False

    def _acknowledge(self, number: int) -> None:
        if number != NOTHING:
            self.say(packet.ack(number))

    def _flush(self, now: float) -> bool:
        """Write the buffer. False: it waits for a larger allowance, or the write is over."""
        data: bytes | memoryview = self._view[HEADER.size :][: self._filled * self.agreed.block_size + self._tail]
        held_cr = False
        if self.call.netascii:
            data, held_cr = netascii.decode(bytes(data), self._held_cr)
            if held_cr and self.receiver.complete:
                data, held_cr = data + b"\r", False
        deposit = self.deposit
        if not deposit.has_room(len(data)):
            if reason := deposit.ask_now():
                self._deny(reason)
                return False
            self._stalled = True
            self.receiver.hold(now)
            return False
        self._held_cr = held_cr
        self._filled = self._tail = 0
        alone = self.call.via is None  # or it would take what others sent to the listener
        wanted = self.agreed.window > 1 and alone and not self.receiver.complete
        if self._batch is None and wanted and self._buffer is not None:
            self._batch = Batch(self._buffer, HEADER.size, self.agreed.block_size, self._slots)
        reason = deposit.write(data, last=self.receiver.complete)
        if reason is not None:
            self._deny(reason)
        return reason is None

    def _receive_failed(self, error: OSError) -> None:
        if error.errno in (errno.EAGAIN, errno.EINTR):
            return
        self._errors += 1
        if error.errno == errno.ECONNREFUSED:
            self.refused = True
        elif self._errors > _READ_ERRORS_MAX:
            self.over = self.over or Failed(GONE)
