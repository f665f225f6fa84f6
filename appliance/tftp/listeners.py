"""The listeners of one worker: what comes to them is a request or, in single-port mode, may belong to a transfer."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from appliance.observe.tables import Counters
from appliance.tftp import sockets
from appliance.tftp.poll import Poll
from appliance.tftp.receiving import Write
from appliance.tftp.reception import Reception
from appliance.tftp.singleport import Gate, Shared
from appliance.tftp.transfer import Transfer
from appliance.tftp.uploads import Uploads

BATCH = 16  # requests taken per wake-up of a listener


class Listeners:
    """Takes requests for one worker. `begin` starts a transfer, `readable` says that there is something for it."""

    def __init__(
        self,
        poll: Poll,
        reception: Reception,
        uploads: Uploads,
        counters: Counters,
        *,
        single_port: bool,
        begin: Callable[[Transfer, float], None],
        readable: Callable[[Transfer, float], None],
    ) -> None:
        self._poll, self._reception, self._uploads, self._counters = poll, reception, uploads, counters
        self._single_port, self._begin, self._readable = single_port, begin, readable
        self._listeners: list[socket.socket] = []
        self._gates: dict[socket.socket, Gate] = {}  # by listener, in single-port mode only

    def listen(self, listener: socket.socket) -> None:
        """Take requests from this socket too. Raises OSError."""
        sockets.tell_destination(listener)
        self._listeners.append(listener)
        if self._single_port:
            now = time.monotonic()
            gate = self._gates[listener] = Gate(listener, self._reception.live, self._uploads.live, now)
            self._poll.handle(listener.fileno(), lambda now: self._on_gate(gate, listener, now))
        else:
            self._poll.handle(listener.fileno(), lambda now: self._on_requests(listener, now))

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

    def close(self) -> None:
        """Take no more requests from any."""
        for listener in list(self._listeners):
            self.unlisten(listener)

    def through(self, listener: socket.socket, step: int) -> None:
        """One transfer more, or fewer, goes through a listener (single-port mode)."""
        gate = self._gates[listener]
        gate.running += step
        if gate.retired and not gate.running:
            self._shut(listener)

    def _shut(self, listener: socket.socket) -> None:
        self._gates.pop(listener, None)
        self._poll.unhandle(listener.fileno())
        listener.close()

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
        else:
            self._readable(transfer, now)
