"""The listeners' side: a datagram becomes a running transfer, a refusal, or nothing.

Order of the checks, cheapest and most sceptical first: an exhausted budget, form, network, repeats, budget, caps; only
then the file system.
What a peer is told is a constant; what the operator reads is the cause.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from appliance.observe.tables import Counters
from appliance.published.view import Published
from appliance.settings.tftp import TftpSettings
from appliance.tftp import packet, singleport, sockets
from appliance.tftp.actions import Done, Failed
from appliance.tftp.admission import Admission, client_of
from appliance.tftp.blocks import last_block
from appliance.tftp.custodian import AWAY, Custodian
from appliance.tftp.desk import Desk, Waiting
from appliance.tftp.files import OpenFile, Refusal, Served
from appliance.tftp.journal import Journal
from appliance.tftp.lessons import Lessons
from appliance.tftp.lookup import NO_UPLOADS, Lookup
from appliance.tftp.options import Agreed, Policy, declared, negotiate
from appliance.tftp.paced import PacedTransfer
from appliance.tftp.packet import ErrorCode, PacketError, Request
from appliance.tftp.ports import Port, Ports, PortsFull
from appliance.tftp.rates import Pacer
from appliance.tftp.records import REPLACED
from appliance.tftp.session import Session
from appliance.tftp.sockets import Datagram, Peer
from appliance.tftp.supply import Supply
from appliance.tftp.terms import Terms
from appliance.tftp.transfer import Call, Transfer
from appliance.tftp.uploads import Uploads

_FORGEABLE = Refusal(ErrorCode.ACCESS, "uploads are not accepted here", "upload over single_port without allow")
_NO_PORT = Refusal(ErrorCode.UNDEFINED, "Server is busy, try again", "every port of port_range is taken")
_NO_MODE = Refusal(ErrorCode.ILLEGAL, "mode is neither octet nor netascii", "mode")
_Ender = Callable[[Transfer, Done | Failed], None]
_Beginner = Callable[[Transfer, float], None]


@dataclass(frozen=True, slots=True)
class Drop:
    """No answer at all; `cause` is for the operator."""

    cause: str


@dataclass(frozen=True, slots=True)
class _Refused:
    name: bytes
    refusal: Refusal


_VERBS = {b"\0\1": b"RRQ", b"\0\2": b"WRQ"}  # RFC 1350 section 5
_REASONS = {ErrorCode.NOT_FOUND: "missing", ErrorCode.ACCESS: "denied", ErrorCode.EXISTS: "denied"}


class Reception:
    """Takes requests for one worker. `live` finds the newest transfer of a client's address and port."""

    def __init__(
        self,
        settings: TftpSettings,
        *,
        shelf: int,
        admission: Admission,
        supply: Supply,
        ports: Ports,
        journal: Journal,
        counters: Counters,
        end: _Ender,
        begin: _Beginner,
        custodian: Custodian,
        uploads: Uploads,
        pacer: Pacer | None = None,
        published: Published | None = None,
    ) -> None:
        """`begin` and `end` start and end a transfer; writes are started at `uploads`.

        `shelf`: bytes for the content of small files. `pacer`: the rates that reads keep, None where there are none.
        `published`: what is published, if anything is.
        """
        self._admission, self._supply, self._ports = admission, supply, ports
        self._journal, self._counters, self._end, self._start = journal, counters, end, begin
        self._uploads, self.desk, self._pacer = uploads, Desk(custodian, self._conclude), pacer
        self._answers_broadcast = settings.broadcast == "answer"
        self._give_up_s = settings.give_up_after
        self._published = published or Published()
        self._lookup = Lookup(settings, journal.ambiguous, memory=shelf, published=self._published)
        self._single_port = settings.single_port
        self._plain = Agreed()  # what holds without options
        self.lessons = Lessons()
        self.live: dict[Peer, Transfer] = {}

    def settle_in(self) -> None:
        """Called once in the jail: learn whether the kernel keeps look-ups inside it."""
        self._lookup.settle_in()

    def receive(self, listener: socket.socket, datagram: Datagram, now: float) -> Transfer | None:
        """Judge one datagram; returns the transfer that it starts."""
        if datagram.local is None and self._answers_broadcast:
            datagram = datagram._replace(local=datagram.nearest)
        return self._carry_out(listener, datagram, self._judge(listener, datagram, now), now)

    def _carry_out(
        self, listener: socket.socket, datagram: Datagram, verdict: Transfer | _Refused | Drop | None, now: float
    ) -> Transfer | None:
        if isinstance(verdict, Transfer):
            return verdict
        if isinstance(verdict, Drop):
            self._counters.add("dropped")
            self._journal.dropped(datagram.peer, verdict.cause, now)
        elif isinstance(verdict, _Refused):
            self._counters.refuse(_REASONS.get(verdict.refusal.code, "other"))
            verb = _VERBS.get(datagram.payload[:2], b"")
            self._journal.refused(datagram.peer, verdict.name, verdict.refusal.cause, now, verb)
            self._tell(listener, datagram, verdict.refusal)
        return None

    def _tell(self, listener: socket.socket, datagram: Datagram, refusal: Refusal) -> None:
        """From the listener itself: nothing follows that would need a port of its own."""
        if datagram.local is None:
            return
        try:
            sockets.reply(listener, packet.error(refusal.code, refusal.text), datagram.local, datagram.peer)
        except OSError:
            self._counters.add("dropped")

    def _judge(self, listener: socket.socket, datagram: Datagram, now: float) -> Transfer | _Refused | Drop | None:
        """None: nothing to do, the request is being answered already."""
        if datagram.local is None:  # RFC 1123 4.2.3.5: requests to broadcast addresses are ignored, unless we are told
            return Drop("sent to everybody")
        if not datagram.peer[1]:
            return Drop("no port to answer to")
        local, peer = sockets.unmapped(datagram.local, datagram.peer)
        host = peer[0]
        client = client_of(host)
        if self._admission.exhausted(host, client, now) and peer not in self.live:
            return Drop("too many unknown clients")  # in a flood nothing is spent on them, not even reading
        try:
            request = packet.parse(datagram.payload)
        except PacketError as error:
            return Drop(str(error))
        if not isinstance(request, Request):
            return Drop("not a request")
        if not self._lookup.serves(host):
            return Drop("network is not served")
        via = listener if self._single_port else None
        call = Call(request, datagram.payload, local, peer, client, now, via)
        if self._is_repeat(call):
            return None
        if not self._admission.answer(host, call.client, now):
            return Drop("too many unknown clients")
        verdict = self._take(call, self._lookup.terms(listener, host, now), listener, datagram)
        return _Refused(request.name, verdict) if isinstance(verdict, Refusal) else verdict

    def _is_repeat(self, call: Call) -> bool:
        """Whether the request belongs to a transfer that runs already.

        The same bytes again are the same request while nobody answered, or while the client makes progress (a late
        duplicate). Other bytes are a new transfer, at once: lpxelinux asks for everything from one port. The old one is
        not ended for it unless only its last ACK was missing: anybody can forge a request. Through a single port the
        two could not be told apart, so the old one goes on while it makes progress, and is ended when it is silent.
        """
        if self.desk.is_repeat(call) or self._uploads.is_repeat(call):
            return True
        transfer = self.live.get(call.peer)
        if transfer is None:
            return False
        session = transfer.session
        silence = call.at - session.silent_since
        if call.repeats(transfer.call):
            if silence < session.patience_s if session.heard else not session.budget_spent:
                return True
            self._end(transfer, REPLACED)
        elif session.awaiting_last or not session.heard:
            self._end(transfer, REPLACED)
        elif call.via is not None:
            if silence < session.patience_s:
                return True
            self._end(transfer, REPLACED)
        return False

    def _take(
        self, call: Call, terms: Terms, listener: socket.socket, datagram: Datagram
    ) -> Transfer | Refusal | Drop | None:
        request = call.request
        if terms.quota is not None:
            call = call._replace(quota=terms.quota)
        if request.write:
            return _FORGEABLE if terms.forgeable else self._take_write(call, terms.policy, listener, datagram)
        if request.mode not in (b"octet", b"netascii"):
            return _NO_MODE
        cause = self._admission.refusal(call.client, call.quota)
        if cause:
            return Drop(cause)
        try:
            found = self._lookup.find(request.name, call.peer[0], terms, call.at)
            if found.upload is not None and not self.desk.overrun:
                self.desk.fetch(Waiting(listener, datagram, call, terms.policy, found.upload))
                return None
            file = found.file
            if found.layers.number and not isinstance(file, Refusal):
                call = self._pin(call, found.layers.number)
            return file if isinstance(file, Refusal) else self._begin(file, call, terms.policy, found.served)
        except PortsFull:
            return _NO_PORT
        except OSError as error:  # out of descriptors, address gone, no route: the client asks again
            return Drop(os.strerror(error.errno or 0))

    def _pin(self, call: Call, release: int) -> Call:
        """Now, not when the client answers: it may ask for its next file in the very moment of its last ACK.

        Where the address may be forged the first ACK is waited for, so that nobody fills the tables.
        """
        exists = self._admission.exists(call.peer[0], call.client, call.at) or self._published.knows(call.peer[0])
        if exists:
            self._published.pin(call.peer[0], release)
        return call._replace(release=release, pinned=exists)

    def _take_write(
        self, call: Call, policy: Policy, listener: socket.socket, datagram: Datagram
    ) -> Refusal | Drop | None:
        """A write request that may be granted is asked about; nothing is held for it until then."""
        request = call.request
        name = self._lookup.destination(request.name, call.peer[0])
        if name is NO_UPLOADS:
            return NO_UPLOADS
        if request.mode not in (b"octet", b"netascii"):
            return _NO_MODE
        if isinstance(name, Refusal):
            return name
        cause = self._admission.refusal(call.client, call.quota) or self._uploads.over_cap(call.client)
        if cause:
            return Drop(cause)
        if self.desk.overrun:
            return AWAY
        self.desk.ask(Waiting(listener, datagram, call, policy, name, declared(request, policy.refused)))
        return None

    def _conclude(self, waiting: Waiting, answer: OpenFile | Refusal | None, now: float) -> None:
        """The custodian has answered."""
        verdict = self._proceed(waiting, answer, now)
        if isinstance(verdict, Refusal):
            verdict = _Refused(waiting.call.request.name, verdict)
        transfer = self._carry_out(waiting.listener, waiting.datagram, verdict, now)
        if transfer is not None:
            self._start(transfer, now)

    def _proceed(
        self, waiting: Waiting, answer: OpenFile | Refusal | None, now: float
    ) -> Transfer | Refusal | _Refused | Drop | None:
        if isinstance(answer, Refusal):
            return answer
        client = waiting.call.client
        cause = self._admission.refusal(client) or (answer is None and self._uploads.over_cap(client))
        if cause:  # others of the same client were quicker
            if answer is not None:
                answer.close()
            return Drop(cause)
        try:
            if answer is None:
                self._begin_write(waiting, now)
                return None
            return self._begin(answer, waiting.call, waiting.policy, Served(waiting.name, b"uploads"))
        except PortsFull:
            return _NO_PORT
        except OSError as error:
            return Drop(os.strerror(error.errno or 0))

    def _begin_write(self, waiting: Waiting, now: float) -> None:
        """Raises OSError or PortsFull; then nothing is left behind."""
        call = waiting.call
        sock, port = self._connect(call)
        try:
            agreed = self._agree(call, waiting.policy, sock, waiting.declared)
            self._uploads.begin(call, sock, port, agreed, name=waiting.name, declared=waiting.declared, now=now)
        except BaseException:
            self._unconnect(sock, port)
            raise

    def _begin(self, file: OpenFile, call: Call, policy: Policy, served: Served) -> Transfer:
        """Build the transfer. Raises OSError or PortsFull; then nothing is left behind."""
        try:
            sock, port = self._connect(call)
        except BaseException:
            file.close()
            raise
        try:
            size = None if call.netascii else file.size
            agreed = self._agree(call, policy, sock, size)
            last = None if size is None else last_block(size, agreed.block_size)
            interval_s = self.lessons.interval_s(call.client, call.at)
            session = Session(agreed, last=last, empty=not file.size, give_up_s=self._give_up_s, interval_s=interval_s)
            make: Callable[..., Transfer] = Transfer
            if self._pacer is not None and self._pacer.concerns(call.quota):
                make = partial(PacedTransfer, pacer=self._pacer)
            made = make(call, sock=sock, port=port, file=file, agreed=agreed, session=session, supply=self._supply)
            made.served = served
            return made
        except BaseException:
            self._unconnect(sock, port)
            file.close()
            raise

    def _agree(self, call: Call, policy: Policy, sock: socket.socket, size: int | None) -> Agreed:
        """What holds for the transfer. Raises OSError."""
        if not call.request.options:  # nothing to decide, and the path does not matter
            if self._plain.timeout_s != policy.timeout_s:
                self._plain = Agreed(timeout_s=policy.timeout_s)
            return self._plain
        room = sockets.room(sock) if call.via is None else singleport.room(call)
        return negotiate(call.request, self._policy_for(call, policy), room, size)

    def _policy_for(self, call: Call, policy: Policy) -> Policy:
        block = self.lessons.block_size_max(call.client, call.at)
        if block is not None:
            policy = replace(policy, blksize_max=min(block, policy.blksize_max or block))
        window = self.lessons.window_max(call.client, call.at)
        if window is not None:
            policy = replace(policy, windowsize_max=min(window, policy.windowsize_max))
        return policy

    def _unconnect(self, sock: socket.socket, port: Port | None) -> None:
        """Nothing came of `_connect`."""
        if port is None:
            sock.close()
        else:
            self._ports.drop(port)
            self._ports.give(port)

    def _connect(self, call: Call) -> tuple[socket.socket, Port | None]:
        if call.via is not None:
            return singleport.Shared(call.via, call.local, call.peer), None
        family = socket.AF_INET6 if ":" in call.local.address else socket.AF_INET
        port = self._ports.take(family, secret=not self._admission.near(call.peer[0]))
        if port is None:
            return sockets.connect(call.local, call.peer, 0), None
        try:
            return self._ports.connect(port, call.local, call.peer), port
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                self._ports.close(port)
            else:
                self._ports.give(port)
            raise
