"""The resolver: looks names up for the supervisor, because nobody else here may ask the network for anything.

Invariant: it tells an address of a name it was told to look up, or that it failed; nothing it hears can make it say
more. One question is one socket with a port of the kernel's choice, connected to its server, so that nobody else is
heard.
"""

from __future__ import annotations

import os
import select
import socket
import time
from dataclasses import dataclass

from appliance import wire
from appliance.child.context import Context
from appliance.observe.log import Log
from appliance.resolve import conf, query, schedule

_ANSWER_S = 2.0
_ROUNDS = 2  # of all name servers, until a name counts as failed
_TURN_S = 0.5


@dataclass(slots=True)
class _Asking:
    """One name being looked up: which try this is, and until when its answer may come."""

    name: str
    question: query.Query
    number: int = -1
    until: float = 0.0
    sock: socket.socket | None = None
    why: str = "no name server answers"

    def close(self) -> None:
        if self.sock is not None:
            self.sock.close()
            self.sock = None


class Resolver:
    """One loop over the questions under way and the supervisor's channel."""

    def __init__(self, context: Context) -> None:
        values = context.settings
        self._channel, self._counters = context.channel, context.counters
        self._log = Log(context.service, values["log"], lost=lambda: self._counters.add("log_dropped"))
        self._servers = [(address, int(values["port"])) for address in conf.servers(_read(values["resolv_conf"]))]
        self._hosts = conf.hosts(_read(values["hosts"]))
        self._names = schedule.Schedule(values["names"], time.monotonic())
        self._asking: list[_Asking] = []
        self._gone = False

    def run(self) -> None:
        """Look up until told to leave."""
        while not self._gone:
            self._counters.tick()
            now = time.monotonic()
            for name in self._names.due(now):
                self._begin(name, now)
            for asking in [asking for asking in self._asking if asking.until <= now]:
                self._next_server(asking, now)
            self._wait()
        for asking in self._asking:
            asking.close()

    def _wait(self) -> None:
        poll = select.poll()
        poll.register(self._channel.fileno(), select.POLLIN)
        waiting = {asking.sock.fileno(): asking for asking in self._asking if asking.sock is not None}
        for descriptor in waiting:
            poll.register(descriptor, select.POLLIN)
        for descriptor, _event in poll.poll(_TURN_S * 1000):
            if descriptor == self._channel.fileno():
                self._hear()
            else:
                try:
                    self._read(waiting[descriptor])
                except Exception:  # the wall: what a name server sends costs its answer, never the resolver
                    self._counters.add("crashes")
                    self._log.crash("crash", name=waiting[descriptor].name)

    def _hear(self) -> None:
        try:
            received = self._channel.receive()
        except EOFError:
            self._gone = True
            return
        if received is not None:
            self._gone = isinstance(received[0], wire.Drain)
            for descriptor in received[1]:
                os.close(descriptor)

    # --- one name

    def _begin(self, name: str, now: float) -> None:
        if name in self._hosts:
            self._tell(name, self._names.answered(name, self._hosts[name], now))
            return
        try:
            asking = _Asking(name, query.Query(name))
        except ValueError as error:
            self._failed(name, str(error), now)
            return
        self._asking.append(asking)
        self._next_server(asking, now)

    def _next_server(self, asking: _Asking, now: float) -> None:
        asking.close()
        asking.number += 1
        if asking.number >= _ROUNDS * len(self._servers):
            self._asking.remove(asking)
            self._failed(asking.name, asking.why, now)
            return
        asking.until = now + _ANSWER_S
        server = self._servers[asking.number % len(self._servers)]
        try:
            asking.sock = socket.socket(socket.AF_INET6 if ":" in server[0] else socket.AF_INET, socket.SOCK_DGRAM)
            asking.sock.setblocking(False)
            asking.sock.connect(server)
            asking.sock.send(asking.question.wire)
        except OSError as error:
            asking.why, asking.until = os.strerror(error.errno or 0), now  # the next server in the next turn

    def _read(self, asking: _Asking) -> None:
        assert asking.sock is not None
        now = time.monotonic()
        try:
            found = asking.question.addresses(asking.sock.recv(query.LARGEST))
        except (query.NotOurs, BlockingIOError):
            return  # the answer may still come
        except (query.Unanswered, OSError) as error:
            asking.why = os.strerror(error.errno or 0) if isinstance(error, OSError) else str(error)
            self._next_server(asking, now)
            return
        asking.close()
        self._asking.remove(asking)
        told = self._names.answered(asking.name, found, now)
        if told == schedule.FAILING:
            self._log.warning("lookup failed", name=asking.name, reason="no address of it can be used")
        self._counters.add("failed" if told == schedule.FAILING else "transfers")
        self._tell(asking.name, told)

    def _failed(self, name: str, why: str, now: float) -> None:
        self._counters.add("failed")
        told = self._names.failed(name, now)
        if told:
            self._log.warning("lookup failed", name=name, reason=why)
        self._tell(name, told)

    def _tell(self, name: str, address: str) -> None:
        if address:
            self._channel.send(wire.Resolved(address, name))


def _read(path: str) -> bytes:
    """A file of the system, b"" where there is none."""
    try:
        with open(path, "rb") as file:
            return file.read(1 << 20)
    except OSError:
        return b""


def prepare(context: Context) -> Resolver:
    """The `main` of the resolver: settings `names`, `log`, files `resolv_conf` and `hosts`, `port` of the servers."""
    query.warm()
    return Resolver(context)
