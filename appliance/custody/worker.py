"""The custodian: owns a box, hands out descriptors, keeps the ledger. It has no network at all.

Invariant: an upload belongs to one link. When the link closes, for whatever reason, its uploads are removed; a message
that does not fit closes the link it came from, and no other.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from collections.abc import Callable

from appliance import wire as control
from appliance.child.context import Context
from appliance.custody import wire
from appliance.custody.keeping import Keeping
from appliance.custody.link import Link
from appliance.errors import WireError
from appliance.observe.log import Log
from appliance.settings import plain
from appliance.settings.box import Box

_MESSAGES = 64  # taken from one link in one turn
_EVENTS = "events"


class Custodian:
    """The loop over the supervisor's channel and the links."""

    def __init__(self, context: Context) -> None:
        self._channel, self._counters = context.channel, context.counters
        self._log = Log(context.service, context.settings["log"], lost=lambda: self._counters.add("log_dropped"))
        self._links: dict[int, Link] = {}
        self._poll = select.epoll()
        self._drained: float | None = None  # monotonic time at which we leave at the latest
        self._emitter = context.emitter()
        self._keeping = Keeping(
            plain.decode(Box, context.settings["box"]),
            links=self._links.values,
            say=self._say,
            counters=self._counters,
            log=self._log,
            emitter=self._emitter,
        )
        self._first_links = [sock for name, sock in context.links.items() if name != _EVENTS]

    def run(self) -> None:
        """Serve until drained."""
        self._keeping.begin(time.monotonic())
        self._poll.register(self._channel.fileno(), select.EPOLLIN)
        for slot, sock in enumerate(self._first_links):
            self._adopt(sock, slot)
        while not self._finished():
            self._counters.tick()
            try:
                self._turn()
            except EOFError:
                break
            except Exception:  # the wall: a bug costs what it was working on, never the custodian
                self._counters.add("crashes")
                self._log.crash("crash")
        for link in list(self._links.values()):
            self._close(link, "stopping")
        self._emitter.flush(time.monotonic())
        self._poll.close()

    def _finished(self) -> bool:
        if self._drained is None:
            return False
        busy = any(link.works for link in self._links.values())
        return not busy or time.monotonic() >= self._drained

    def _turn(self) -> None:
        wait = 0.0 if self._keeping.waits else (0.1 if self._drained is not None else 1.0)
        for fd, event in self._poll.poll(wait):
            if fd == self._channel.fileno():
                self._hear_supervisor()
                continue
            link = self._links.get(fd)
            if link is not None:
                self._guard(link, self._serve, event)
        if (commit := self._keeping.next_commit()) is not None:
            link, message = commit
            if self._links.get(link.sock.fileno()) is link:
                self._guard(link, self._keeping.commit, message)
        now = time.monotonic()
        self._keeping.turn(now)
        self._emitter.flush(now)

    def _guard(self, link: Link, serve: Callable[..., None], argument: object) -> None:
        try:
            serve(link, argument)
        except WireError as error:
            self._close(link, str(error))
        except Exception:
            self._counters.add("crashes")
            self._log.crash("crash", worker=link.slot)
            self._close(link, "crash")

    # --- links

    def _hear_supervisor(self) -> None:
        received = self._channel.receive()
        if received is None:
            return
        message, fds = received
        if isinstance(message, control.Drain):
            self._drained = time.monotonic() + message.milliseconds / 1000
            self._keeping.closing = True
        elif isinstance(message, control.Link) and len(fds) == 1:
            sock = socket.socket(fileno=fds.pop())
            if message.name == _EVENTS:
                self._emitter.attach(sock)
            else:
                self._adopt(sock, message.slot)
        for fd in fds:
            os.close(fd)

    def _adopt(self, sock: socket.socket, slot: int) -> None:
        sock.setblocking(False)
        self._links[sock.fileno()] = Link(sock, slot)
        self._poll.register(sock.fileno(), select.EPOLLIN)

    def _close(self, link: Link, why: str) -> None:
        self._links.pop(link.sock.fileno(), None)
        self._poll.unregister(link.sock.fileno())
        link.close()
        for number in list(link.works):
            self._keeping.drop(link, number)
        self._log.info("link closed", worker=link.slot, reason=why)

    def _serve(self, link: Link, event: int) -> None:
        if event & select.EPOLLOUT:
            link.flush()
            self._watch(link)
        for _ in range(_MESSAGES):
            try:
                datagram = link.sock.recv(wire.MAX_MESSAGE)
            except BlockingIOError:
                return
            except OSError as error:
                self._close(link, os.strerror(error.errno or errno.EIO))
                return
            if not datagram:
                self._close(link, "the worker is gone")
                return
            self._keeping.handle(link, wire.parse_from_worker(datagram))

    def _say(self, link: Link, message: wire.FromCustodian, descriptor: int) -> None:
        link.say(message, descriptor)
        self._watch(link)

    def _watch(self, link: Link) -> None:
        self._poll.modify(link.sock.fileno(), select.EPOLLIN | (select.EPOLLOUT if link.behind else 0))


def prepare(context: Context) -> Custodian:
    """The `main` of the custody service: settings `box` (Box, plain) and `log`."""
    return Custodian(context)
