"""The status child: answers `status.sock` with the facts, `who.sock` with who is on. Parses nothing, may not act.

A client connects and reads one JSON document until end of file; whatever it sends is never read. On `metrics.sock`, and
in the metrics service on an address of the network, it sends the head of one HTTP request first. Connections that do
not ask, or do not take their answer, are dropped, oldest first.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import time
from collections import OrderedDict

from appliance import wire
from appliance.child.context import Context
from appliance.observe import arp, exposition, live, macs, scrape, shares
from appliance.observe.log import Log

STATUS, WHO, METRICS = "status.sock", "who.sock", "metrics.sock"
_MOST = 128
_PATIENCE_S = 10.0


class _Client:
    """One connection: waiting for the facts, then being sent them."""

    def __init__(self, sock: socket.socket, now: float, kind: str) -> None:
        self.sock, self.kind = sock, kind
        self.head = b""  # of the HTTP request
        self.asked = kind == STATUS  # for the facts
        self.deadline = now + _PATIENCE_S
        self.left: memoryview | None = None


class StatusChild:
    """See the module."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._log = Log(context.service, str(context.settings["log"]))
        self._selector = selectors.EpollSelector()
        self._clients: OrderedDict[int, _Client] = OrderedDict()
        self._asked = False
        self._running = True
        self._tables: dict[int, tuple[str, memoryview]] = {}
        self._macs = macs.Macs(arp.reader() if context.service == "status" else bytes)
        self._kinds = {listener: _kind(listener) for listener in context.listeners}

    def run(self) -> None:
        """Serve until drained or the supervisor is gone."""
        self._selector.register(self._context.channel.fileno(), selectors.EVENT_READ, None)
        for listener in self._context.listeners:
            self._selector.register(listener, selectors.EVENT_READ, listener)
        while self._running:
            events = self._selector.select(1.0)
            self._context.counters.tick()
            for key, _mask in events:
                try:
                    self._handle(key.data)
                except EOFError:
                    return
                except Exception:
                    self._context.counters.add("crashes")
                    self._log.crash("status client")
                    if isinstance(key.data, _Client):
                        self._drop(key.data)
            self._expire(time.monotonic())

    def _handle(self, what: object) -> None:
        if what is None:
            self._from_supervisor()
        elif isinstance(what, _Client):
            if what.left is None:
                self._ask(what)
            else:
                self._send(what)
        elif isinstance(what, socket.socket):
            self._accept(what)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_MOST):  # all who wait, but no more than we keep
            try:
                sock, _peer = listener.accept()
            except BlockingIOError:
                break
            sock.setblocking(False)
            if len(self._clients) >= _MOST:
                self._drop(next(iter(self._clients.values())))
            client = self._clients[sock.fileno()] = _Client(sock, time.monotonic(), self._kinds[listener])
            if client.kind == WHO:
                self._answer(client, self._who())
            elif client.kind == METRICS:
                self._selector.register(sock, selectors.EVENT_READ, client)
        self._query()

    def _query(self) -> None:
        waiting = any(client.asked and client.left is None for client in self._clients.values())
        if waiting and not self._asked:
            self._context.channel.send(wire.Query())
            self._asked = True

    def _ask(self, client: _Client) -> None:
        """More of the head of an HTTP request."""
        try:
            data = client.sock.recv(scrape.HEAD_MAX)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(client)
            return
        client.head += data
        if scrape.complete(client.head) and not client.asked:
            self._selector.unregister(client.sock)
            refusal = scrape.refusal(client.head)
            client.asked = refusal is None
            if refusal is None:
                self._query()
            else:
                self._answer(client, refusal)

    def _answer(self, client: _Client, text: bytes) -> None:
        client.left = memoryview(text)
        self._selector.register(client.sock, selectors.EVENT_WRITE, client)

    def _tell(self, facts: bytes) -> None:
        """The facts are there, for all who wait."""
        page = b""
        for client in list(self._clients.values()):
            if not client.asked or client.left is not None:
                continue
            if client.kind == METRICS:
                page = page or exposition.render(json.loads(facts)).encode()
                self._answer(client, scrape.answer(client.head, page, exposition.CONTENT_TYPE))
            else:
                self._answer(client, facts)

    def _who(self) -> bytes:
        """Who is on, as JSON, the longest first."""
        now_ms = time.time_ns() // 1_000_000
        found = [live.plain(row, source, now_ms) for source, table in self._tables.values() for row in live.rows(table)]
        now = time.monotonic()
        for one in found:
            one["mac"] = one["mac"] or self._macs.of(one["client"], one["file"], now)
        found.sort(key=lambda one: -one["seconds"])
        return json.dumps({"time": now_ms / 1000, "live": found}).encode()

    def _from_supervisor(self) -> None:
        received = self._context.channel.receive()
        if received is None:
            return
        message, fds = received
        try:
            if isinstance(message, wire.View) and fds:
                self._tables[message.number] = (message.name, shares.look_live(fds[0]))
        finally:
            for descriptor in fds:
                os.close(descriptor)
        if isinstance(message, wire.Drain):
            self._running = False
        elif isinstance(message, wire.Unview):
            self._tables.pop(message.number, None)
        elif isinstance(message, wire.Facts):
            self._asked = False
            self._tell(message.text)

    def _send(self, client: _Client) -> None:
        assert client.left is not None
        try:
            sent = client.sock.send(client.left)
        except BlockingIOError:
            return
        except OSError:
            self._drop(client)
            return
        client.left = client.left[sent:]
        if not client.left:
            self._context.counters.add("transfers")
            self._drop(client)

    def _drop(self, client: _Client) -> None:
        if self._clients.pop(client.sock.fileno(), None) is None:
            return
        if client.left is not None or (client.kind == METRICS and not client.asked):
            self._selector.unregister(client.sock)
        client.sock.close()

    def _expire(self, now: float) -> None:
        while self._clients:
            oldest = next(iter(self._clients.values()))
            if oldest.deadline > now:
                return
            self._drop(oldest)


def _kind(listener: socket.socket) -> str:
    """By the name of its socket; an address of the network is for the metrics."""
    name = listener.getsockname()
    return name.rpartition("/")[2] if isinstance(name, str) else METRICS


def prepare(context: Context) -> StatusChild:
    """Build the child; nothing is imported later."""
    return StatusChild(context)
