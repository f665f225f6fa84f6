"""The listeners' side: a datagram becomes a running transfer, a refusal, or nothing.

Order of the checks, cheapest and most sceptical first: form, network, budget, repeats, caps; only then the file system.
What a peer is told is a constant; what the operator reads is the cause.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace

from appliance.observe.tables import Counters
from appliance.settings.tftp import TftpSettings
from appliance.tftp import packet, sockets
from appliance.tftp.admission import Admission, Networks, client_of
from appliance.tftp.blocks import last_block
from appliance.tftp.files import OpenFile, Refusal, is_chrooted, open_file
from appliance.tftp.journal import Journal
from appliance.tftp.lessons import Lessons
from appliance.tftp.options import Policy, negotiate
from appliance.tftp.packet import ErrorCode, PacketError, Request
from appliance.tftp.ports import Port, Ports
from appliance.tftp.session import Done, Failed, Session
from appliance.tftp.sockets import Datagram, Peer
from appliance.tftp.supply import Supply
from appliance.tftp.transfer import Call, Transfer

_NO_UPLOADS = Refusal(ErrorCode.ACCESS, "uploads are not accepted here", "upload")
_NO_MODE = Refusal(ErrorCode.ILLEGAL, "mode is neither octet nor netascii", "mode")
REPLACED = Failed("replaced by a new request")
_Ender = Callable[[Transfer, Done | Failed], None]


@dataclass(frozen=True, slots=True)
class Drop:
    """No answer at all; `cause` is for the operator."""

    cause: str


@dataclass(frozen=True, slots=True)
class _Refused:
    name: bytes
    refusal: Refusal


class Reception:
    """Takes requests for one worker. `live` finds the newest transfer of a client's address and port."""

    def __init__(
        self,
        settings: TftpSettings,
        *,
        admission: Admission,
        supply: Supply,
        ports: Ports,
        journal: Journal,
        counters: Counters,
        end: _Ender,
    ) -> None:
        self._admission, self._supply, self._ports = admission, supply, ports
        self._journal, self._counters, self._end = journal, counters, end
        self._allow, self._deny = Networks(settings.allow), Networks(settings.deny)
        blksize_max = None if settings.blksize_max == "mtu" else settings.blksize_max
        self._policy = Policy(blksize_max, settings.windowsize_max, settings.timeout)
        self._give_up_s = settings.give_up_after
        self._world_readable_only = settings.world_readable_only
        self._chrooted = False
        self.lessons = Lessons()
        self.live: dict[Peer, Transfer] = {}

    def settle_in(self) -> None:
        """Called once in the jail: learn whether the kernel keeps look-ups inside it."""
        self._chrooted = is_chrooted()

    def receive(self, listener: socket.socket, datagram: Datagram, now: float) -> Transfer | None:
        """Judge one datagram; returns the transfer that it starts."""
        verdict = self._judge(datagram, now)
        if isinstance(verdict, Transfer):
            return verdict
        if isinstance(verdict, Drop):
            self._counters.add("dropped")
            self._journal.dropped(datagram.peer, verdict.cause, now)
        elif isinstance(verdict, _Refused):
            self._counters.add("refused")
            self._journal.refused(datagram.peer, verdict.name, verdict.refusal.cause, now)
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

    def _judge(self, datagram: Datagram, now: float) -> Transfer | _Refused | Drop | None:
        """None: nothing to do, the request is being answered already."""
        if datagram.local is None:  # RFC 1123 4.2.3.5: requests to broadcast addresses are ignored
            return Drop("sent to everybody")
        if not datagram.peer[1]:
            return Drop("no port to answer to")
        try:
            request = packet.parse(datagram.payload)
        except PacketError as error:
            return Drop(str(error))
        if not isinstance(request, Request):
            return Drop("not a request")
        local, peer = sockets.unmapped(datagram.local, datagram.peer)
        host = peer[0]
        if host in self._deny or (self._allow and host not in self._allow):
            return Drop("network is not served")
        call = Call(request, datagram.payload, local, peer, client_of(host), now)
        if self._is_repeat(call):
            return None
        if not self._admission.answer(host, call.client, now):
            return Drop("too many unknown clients")
        verdict = self._take(call)
        return _Refused(request.name, verdict) if isinstance(verdict, Refusal) else verdict

    def _is_repeat(self, call: Call) -> bool:
        """Whether the request belongs to a transfer that runs already.

        The same bytes again are the same request while nobody answered, or while the client makes progress (a late
        duplicate). Other bytes are a new transfer, at once: lpxelinux asks for everything from one port. The old one is
        not ended for it unless only its last ACK was missing: anybody can forge a request.
        """
        transfer = self.live.get(call.peer)
        if transfer is None:
            return False
        session = transfer.session
        if transfer.call.payload == call.payload:
            silence = call.at - session.silent_since
            if silence < session.patience_s if session.heard else not session.budget_spent:
                return True
            self._end(transfer, REPLACED)
        elif session.awaiting_last or not session.heard:
            self._end(transfer, REPLACED)
        return False

    def _take(self, call: Call) -> Transfer | Refusal | Drop:
        request = call.request
        if request.write:
            return _NO_UPLOADS
        if request.mode not in (b"octet", b"netascii"):
            return _NO_MODE
        cause = self._admission.refusal(call.client)
        if cause:
            return Drop(cause)
        try:
            file = open_file(request.name, world_readable_only=self._world_readable_only, chrooted=self._chrooted)
            return file if isinstance(file, Refusal) else self._begin(file, call)
        except OSError as error:  # out of descriptors, address gone, no route: the client asks again
            return Drop(os.strerror(error.errno or 0))

    def _begin(self, file: OpenFile, call: Call) -> Transfer:
        """Build the transfer. Raises OSError; then nothing is left behind."""
        with ExitStack() as undo:
            undo.callback(file.close)
            sock, port = self._connect(call)
            if port is not None:
                undo.callback(self._ports.give, port)
            undo.callback(sock.close)
            size = None if call.netascii else file.size
            agreed = negotiate(call.request, self._policy_for(call), sockets.room(sock), size)
            last = None if call.netascii else last_block(file.size, agreed.block_size)
            session = Session(agreed, last=last, empty=not file.size, give_up_s=self._give_up_s)
            transfer = Transfer(
                call, sock=sock, port=port, file=file, agreed=agreed, session=session, supply=self._supply
            )
            undo.pop_all()
        return transfer

    def _policy_for(self, call: Call) -> Policy:
        learnt = self.lessons.block_size_max(call.client, call.at)
        if learnt is None:
            return self._policy
        return replace(self._policy, blksize_max=min(learnt, self._policy.blksize_max or learnt))

    def _connect(self, call: Call) -> tuple[socket.socket, Port | None]:
        port = self._ports.take(socket.AF_INET6 if ":" in call.local.address else socket.AF_INET)
        try:
            return sockets.connect(call.local, call.peer, port.number if port else 0), port
        except OSError as error:
            if port is not None and error.errno == errno.EADDRINUSE:
                self._ports.close(port)
            elif port is not None:
                self._ports.give(port)
            raise
