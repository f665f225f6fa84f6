"""One running read: performs what its session says on its socket, and turns what that says into session events.

Hot path: `readable`, `send` and `_look_ahead`. Nothing there is formatted, looked up or logged; in order, a window
costs one recv, one comparison and one send, and only then, while the client is busy, the next one is made ready.

Invariant: `_expected` and `_prepared` belong together and to the session as it is: every event that is not the expected
ACK takes them back first.
"""

from __future__ import annotations

import errno
import socket
from typing import NamedTuple

from appliance.tftp import packet, sockets
from appliance.tftp.actions import TIMED_OUT, Actions, Done, Failed, Send, SendError, SendOack
from appliance.tftp.blocks import stride_of
from appliance.tftp.files import NOWHERE, OpenFile
from appliance.tftp.options import BLOCK_DEFAULT, Agreed
from appliance.tftp.packet import HEADER, ErrorCode, PacketError, Request
from appliance.tftp.ports import Port
from appliance.tftp.session import Session
from appliance.tftp.sockets import Local, Peer
from appliance.tftp.sources import NetasciiSource, Source, SourceError
from appliance.tftp.supply import Supply
from appliance.tftp.terms import Quota

_RECEIVE = 400  # an ACK has 4 bytes, an ERROR some text; up to 512 bytes Python's own allocator serves
_RETRY_S = 0.005
_BUSY = {errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM}
_READ_ERRORS_MAX = 16
_LAST_WORDS_MAX = 64
_ACK = packet.Opcode.ACK.value
GONE = "client gone"


class Call(NamedTuple):
    """A request and where it came from: `payload` is the datagram, `client` what caps are counted by.

    `via`: in single-port mode the listener, which everything goes through.
    `quota`: what the clients of its network get together.
    `release`: the number of the release that was looked into, 0 is none; `pinned`: the client was pinned to it.
    """

    request: Request
    payload: bytes
    local: Local
    peer: Peer
    client: str
    at: float
    via: socket.socket | None = None
    quota: Quota | None = None
    release: int = 0
    pinned: bool = False

    def repeats(self, earlier: Call) -> bool:
        """The same bytes to the same address of ours."""
        return self.payload == earlier.payload and self.local == earlier.local

    @property
    def netascii(self) -> bool:
        """Lines are to be turned (RFC 1350 section 1)."""
        return self.request.mode == b"netascii"


class Transfer:
    """Everything that belongs to one running read. When `over` is set, the engine ends it."""

    __slots__ = (
        "_errors",
        "_expected",
        "_fragments",
        "_pending",
        "_prepared",
        "_run",
        "_segmented",
        "_source",
        "_supply",
        "agreed",
        "call",
        "confirmed",
        "due",
        "file",
        "number",
        "over",
        "port",
        "refused",
        "served",
        "session",
        "sock",
    )

    def __init__(
        self,
        call: Call,
        *,
        sock: socket.socket,
        port: Port | None,
        file: OpenFile,
        agreed: Agreed,
        session: Session,
        supply: Supply,
    ) -> None:
        self.call, self.sock, self.port, self.file = call, sock, port, file
        self.agreed, self.session, self._supply = agreed, session, supply
        self._source: Source | None = None
        self._run = 1
        self._segmented = self._fragments = False
        self._pending: tuple[int, int] | None = None
        self._expected: bytes | None = None  # the ACK that lets `_prepared` go
        self._prepared: bytes | memoryview = b""
        self._errors = 0
        self.due = 0.0  # when the engine's timer rings next
        self.confirmed = False
        self.number = 0  # under which it is told of; 0 until it has lasted a while
        self.served = NOWHERE  # which file this is
        self.refused = False  # the kernel says that the client's port is closed: `last_words` is due
        self.over: Done | Failed | None = None

    def start(self, now: float) -> None:
        """Send the first reply."""
        self.perform(self.session.start(now))

    def readable(self, now: float) -> bool:
        """Take one datagram. True: the next window is on its way and nothing else is to be seen to."""
        try:
            datagram = self.sock.recv(_RECEIVE) if self.confirmed else self._take()
        except OSError as error:
            self._receive_failed(error)
            return False
        if datagram == self._expected:
            return self._go_on(now)
        if len(datagram) == HEADER.size:
            opcode, block = HEADER.unpack(datagram)
            if opcode == _ACK:
                count = self.session.advance(block, now)
                if count:
                    self.send(self.session.acked + 1, count)
                    self._look_ahead(*self.session.ahead())
                    return self._pending is None and self.over is None and not self.refused
                self._expected = None
                self.perform(self.session.on_ack(block, now))
                self._look_ahead(*self.session.ahead())
                return False
        self._event(datagram, now)
        return False

    def _take(self) -> bytes:
        """One datagram. Raises OSError.

        The kernel looks a socket up and puts a datagram into its queue without a lock over both: one of the port's
        earlier client may come in just after the socket was turned and emptied. So until the client is known to exist,
        whose word it is is looked at; what was on its way at that moment stands before the client's first.
        """
        if self.confirmed or self.port is None:
            return self.sock.recv(_RECEIVE)
        datagram, source = self.sock.recvfrom(_RECEIVE)
        return datagram if source[:2] == self.call.peer[:2] else b""

    def _go_on(self, now: float) -> bool:
        """The expected ACK came: first the packets leave, then everything else is done."""
        try:
            self.sock.send(self._prepared)
        except OSError as error:
            self._expected = None
            self.session.go_on(now)
            self._send_failed(error, self.session.acked + 1, self.session.sent - self.session.acked)
            return False
        awaited, count = self.session.go_on(now)
        self._look_ahead(awaited, count)
        return True

    def _look_ahead(self, awaited: int, count: int) -> None:
        """Make ready what the ACK `awaited` will ask for, if that is one send. Only for who answers, not on a timer."""
        self._expected = None
        if not count or count > self._run or self._source is None or self._pending is not None:
            return
        try:
            self._prepared = self._source.packets(self.session.sent + 1, count)
        except SourceError:
            return  # told when it is really asked for
        self._expected = HEADER.pack(_ACK, awaited)

    def last_words(self, now: float) -> None:
        """The client's port is closed. What it said before that may still be in the queue behind the error."""
        self.refused = False
        for _ in range(_LAST_WORDS_MAX):
            try:
                self._event(self._take(), now)
            except OSError:
                break
        self.over = self.over or Failed(GONE)

    def on_timer(self, now: float) -> None:
        """The time has come to `due`."""
        self._expected = None
        if self._pending and now < self.session.deadline:
            self.send(*self._pending)
            return
        session = self.session
        silent_long = now - session.silent_since >= session.patience_s / 2  # early repeats mend what was just lost
        if session.heard and session.acked == 0 and self.agreed.block_size > BLOCK_DEFAULT and silent_long:
            # It answers, but the first full-sized block never arrives: the path eats what it cannot carry (RFC 2923).
            self._send_singly()
            self._fragments = True
            sockets.allow_fragments(self.sock)
        self.perform(self.session.on_timeout(now))

    def wants_timer_at(self, now: float) -> float:
        """When `on_timer` should be called."""
        return min(now + _RETRY_S, self.session.deadline) if self._pending else self.session.deadline

    def confirm(self) -> None:
        """The client exists."""
        self.confirmed = True
        if self._source is not None:
            self._supply.confirmed(self._source, self.file, self.agreed)

    def perform(self, actions: Actions) -> None:
        """Do what the session says."""
        for action in actions:
            if isinstance(action, Send):
                self.send(action.first, action.count)
            elif isinstance(action, SendOack):
                self.say(packet.oack(self.agreed.oack))
            elif isinstance(action, SendError):
                self.say(packet.error(action.code, action.text))
            else:
                self.over = self.over or action

    def send(self, first: int, count: int) -> None:
        """Send DATA `first` .. `first + count - 1`, as many as one call takes at a time."""
        self._pending = self._expected = None
        try:
            source = self._source or self._open_source()
            if self.session.last is None and isinstance(source, NetasciiSource):
                count = self._up_to_the_end(source, first, count)
            while count > 0:
                run = count if count < self._run else self._run
                self.sock.send(source.packets(first, run))
                first += run
                count -= run
        except SourceError as error:
            self.perform(self.session.abort(ErrorCode.UNDEFINED, "File cannot be read any more", str(error)))
        except OSError as error:
            self._send_failed(error, first, count)

    def say(self, datagram: bytes) -> None:
        """Send one small packet; if it cannot be sent it counts as lost."""
        if self._segmented and len(datagram) > stride_of(self.agreed.block_size):
            self._send_singly()  # or the kernel would cut this one too
        try:
            self.sock.send(datagram)
        except OSError as error:
            self.refused = error.errno == errno.ECONNREFUSED

    def close(self) -> bool:
        """Let everything go but the socket; tells whether that is as it was, fit for another transfer."""
        if self._source is not None:
            self._supply.release(self._source)
        else:
            self.file.close()
        if not self._segmented:
            return not self._fragments
        try:
            sockets.segment_no_more(self.sock)
        except OSError:
            return False
        return not self._fragments

    @property
    def delivered(self) -> int:
        """Bytes of the file that have arrived for certain."""
        return min(self.session.acked * self.agreed.block_size, self.file.size)

    @property
    def path_ate_it(self) -> bool:
        """It ended because no full-sized block ever arrived, though the client was there."""
        return self.over == Failed(TIMED_OUT) and self.session.acked == 0 and self.agreed.block_size > BLOCK_DEFAULT

    def _event(self, datagram: bytes, now: float) -> None:
        self._expected = None
        try:
            parsed = packet.parse(datagram)
        except PacketError:
            return
        if isinstance(parsed, packet.Ack):
            self.perform(self.session.on_ack(parsed.block, now))
        elif isinstance(parsed, packet.Error):
            self.perform(self.session.on_error(parsed.code))

    def _open_source(self) -> Source:
        source = self._supply.source(self.file, self.agreed, netascii=self.call.netascii, confirmed=self.session.heard)
        self._source = source
        if self.agreed.window > 1:
            segments = sockets.segment(self.sock, stride_of(self.agreed.block_size))
            self._segmented = segments > 1
            self._run = min(segments, source.slots)
        return source

    def _up_to_the_end(self, source: NetasciiSource, first: int, count: int) -> int:
        last = source.known(first, count)
        if last is None:
            return count
        self.session.end_at(last)
        return min(count, last - first + 1)

    def _send_failed(self, error: OSError, first: int, count: int) -> None:
        if error.errno in _BUSY:
            self._pending = (first, count)
        elif error.errno == errno.ECONNREFUSED:
            self.refused = True
        elif self._segmented and error.errno in sockets.NO_SEGMENTS:
            self._send_singly()
            Transfer.send(self, first, count)  # these very blocks, now: whoever paces them has let them go already
        # anything else (no route, a firewall) is a lost packet: the session repeats it and gives up in time

    def _send_singly(self) -> None:
        """The path or the device cannot take windows in one piece (with the option set, not even a single datagram)."""
        self._run, self._expected = 1, None
        if self._segmented:
            self._segmented = False
            sockets.segment_no_more(self.sock)

    def _receive_failed(self, error: OSError) -> None:
        if error.errno in (errno.EAGAIN, errno.EINTR):
            return
        self._errors += 1
        if error.errno == errno.ECONNREFUSED:
            self.refused = True
        elif self._errors > _READ_ERRORS_MAX:
            self.over = self.over or Failed(GONE)
