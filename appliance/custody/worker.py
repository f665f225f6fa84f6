"""The custodian: owns the drop box, hands out write-only descriptors, keeps the ledger. It has no network at all.

Invariant: an upload belongs to one link. When the link closes, for whatever reason, its uploads are removed; a message
that does not fit closes the link it came from, and no other. Finishing a file waits for the disk, so one is finished
per turn of the loop and everything else is answered first.
"""

from __future__ import annotations

import array
import errno
import os
import select
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from appliance import wire as control
from appliance.child.context import Context
from appliance.custody import store, wire
from appliance.custody.ledger import Ledger, Limits, Upload
from appliance.custody.rules import NameRules
from appliance.errors import WireError
from appliance.observe.log import Log
from appliance.settings import plain
from appliance.settings.box import Box

MOST_UPLOADS = 1000  # under way at once; each holds a descriptor here
_MESSAGES = 64  # taken from one link in one turn
_BACKLOG = 4096  # answers waiting for a worker that does not read
_SWEEP_S = 60.0
_LOOK_AGAIN_S = 1.0  # least time between looks at the folder that a full box causes


@dataclass(slots=True)
class Work:
    """One upload of one link."""

    upload: Upload
    partial: store.Partial
    started: float


@dataclass(slots=True)
class Link:
    """The channel to one FTP worker, with the uploads it has under way."""

    sock: socket.socket
    slot: int
    works: dict[int, Work] = field(default_factory=dict)
    answers: deque[tuple[bytes, int | None]] = field(default_factory=deque)  # and whose descriptor goes along


class Custodian:
    """The loop over the supervisor's channel and the links."""

    def __init__(self, context: Context) -> None:
        settings = plain.decode(Box, context.settings["box"])
        self._channel, self._counters = context.channel, context.counters
        self._log = Log(context.service, context.settings["log"], lost=lambda: self._counters.add("log_dropped"))
        self._rules = NameRules(settings.deny_names)
        self._ledger = Ledger(Limits(settings.max_size, settings.quota, settings.per_client_quota, settings.max_files))
        self._retention = settings.retention
        self._links: dict[int, Link] = {}
        self._poll = select.epoll()
        self._commits: deque[tuple[Link, wire.Commit]] = deque()
        self._drained: float | None = None  # monotonic time at which we leave at the latest
        self._next_sweep = 0.0
        self._looked = 0.0
        self._first_links = list(context.links.values())

    def run(self) -> None:
        """Serve until drained."""
        cleared = store.clear_partials()
        self._sweep(time.monotonic())
        self._log.info("ready", files=len(self._ledger.files), bytes=self._ledger.total, unfinished_removed=cleared)
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
        self._poll.close()

    def _finished(self) -> bool:
        if self._drained is None:
            return False
        busy = any(link.works for link in self._links.values())
        return not busy or time.monotonic() >= self._drained

    def _turn(self) -> None:
        wait = 0.0 if self._commits else (0.1 if self._drained is not None else 1.0)
        for fd, event in self._poll.poll(wait):
            if fd == self._channel.fileno():
                self._hear_supervisor()
                continue
            link = self._links.get(fd)
            if link is not None:
                self._guard(link, self._serve, event)
        if self._commits:
            link, message = self._commits.popleft()
            if self._links.get(link.sock.fileno()) is link:
                self._guard(link, self._commit, message)
        now = time.monotonic()
        if now >= self._next_sweep:
            self._sweep(now)

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
        elif isinstance(message, control.Link) and len(fds) == 1:
            self._adopt(socket.socket(fileno=fds.pop()), message.slot)
        for fd in fds:
            os.close(fd)

    def _adopt(self, sock: socket.socket, slot: int) -> None:
        sock.setblocking(False)
        self._links[sock.fileno()] = Link(sock, slot)
        self._poll.register(sock.fileno(), select.EPOLLIN)

    def _close(self, link: Link, why: str) -> None:
        self._links.pop(link.sock.fileno(), None)
        self._poll.unregister(link.sock.fileno())
        link.sock.close()
        for number in list(link.works):
            self._drop(link, number)
        self._log.info("link closed", worker=link.slot, reason=why)

    def _serve(self, link: Link, event: int) -> None:
        if event & select.EPOLLOUT:
            self._answer(link)
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
            self._handle(link, wire.parse_from_worker(datagram))

    def _say(self, link: Link, message: wire.FromCustodian) -> None:
        if len(link.answers) >= _BACKLOG:
            raise WireError("the worker reads no answers")
        link.answers.append((wire.pack(message), message.id if isinstance(message, wire.Granted) else None))
        self._answer(link)

    def _answer(self, link: Link) -> None:
        while link.answers:
            datagram, number = link.answers[0]
            rights = []
            if number is not None:
                if number not in link.works:  # aborted before it could be handed over
                    link.answers.popleft()
                    continue
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [link.works[number].partial.fd]))]
            try:
                link.sock.sendmsg([datagram], rights)
            except OSError:
                break  # full, or gone: then the end of file says it
            link.answers.popleft()
        self._poll.modify(link.sock.fileno(), select.EPOLLIN | (select.EPOLLOUT if link.answers else 0))

    # --- uploads

    def _handle(self, link: Link, message: wire.FromWorker) -> None:
        if isinstance(message, wire.Reserve):
            self._reserve(link, message)
        elif message.id not in link.works:
            return  # refused or dropped while this was on its way
        elif isinstance(message, wire.Extend):
            self._extend(link, message)
        elif isinstance(message, wire.Commit):
            self._commits.append((link, message))
        else:
            self._drop(link, message.id)

    def _reserve(self, link: Link, message: wire.Reserve) -> None:
        if message.id in link.works:
            raise WireError("an id is used twice")
        outcome = self._rules.judge(message.name) or self._admit(message)
        if not isinstance(outcome, Upload):
            self._refuse(link, message.id, outcome, Upload(message.name, message.client))
            return
        try:
            partial = store.create()
        except OSError as error:
            self._ledger.cancel(outcome)
            reason = wire.Reason.DISK if error.errno in (errno.ENOSPC, errno.EDQUOT) else wire.Reason.STORE
            self._refuse(link, message.id, reason, outcome, os.strerror(error.errno or errno.EIO))
            return
        link.works[message.id] = Work(outcome, partial, time.monotonic())
        self._counters.set("active", len(self._ledger.uploads))
        self._say(link, wire.Granted(message.id, outcome.allowed))

    def _admit(self, message: wire.Reserve) -> Upload | wire.Reason:
        if len(self._ledger.uploads) >= MOST_UPLOADS or self._drained is not None:
            return wire.Reason.BUSY
        if store.exists(message.name):
            return wire.Reason.EXISTS
        outcome = self._ledger.reserve(message.name, message.client, message.declared, store.free())
        if isinstance(outcome, Upload) or not self._look_again():
            return outcome
        return self._ledger.reserve(message.name, message.client, message.declared, store.free())

    def _extend(self, link: Link, message: wire.Extend) -> None:
        upload = link.works[message.id].upload
        reason = self._ledger.extend(upload, message.received, store.free())
        if reason is None:
            self._say(link, wire.More(message.id, upload.allowed))
        else:
            self._say(link, wire.Refused(message.id, reason))

    def _commit(self, link: Link, message: wire.Commit) -> None:
        work = link.works.get(message.id)
        if work is None:
            return  # aborted while it waited for its turn
        upload = work.upload
        reason: wire.Reason | None = wire.Reason.INCOMPLETE
        trouble = ""
        try:
            if message.size <= upload.allowed:
                reason = work.partial.finish(upload.name, message.size)
        except OSError as error:
            trouble = os.strerror(error.errno or errno.EIO)
            reason = wire.Reason.DISK if error.errno in (errno.ENOSPC, errno.EDQUOT) else wire.Reason.STORE
        if reason is not None:
            self._drop(link, message.id)
            self._refuse(link, message.id, reason, upload, trouble)
            return
        del link.works[message.id]
        self._ledger.commit(upload, message.size)
        self._counters.set("active", len(self._ledger.uploads))
        self._counters.add("transfers")
        self._counters.add("bytes", message.size)
        seconds = round(time.monotonic() - work.started, 3)
        self._log.info("stored", client=upload.client, name=upload.name, bytes=message.size, seconds=seconds)
        self._say(link, wire.Done(message.id))

    def _drop(self, link: Link, number: int) -> None:
        work = link.works.pop(number)
        work.partial.discard()
        self._ledger.cancel(work.upload)
        self._counters.set("active", len(self._ledger.uploads))
        self._counters.add("failed")

    def _refuse(self, link: Link, number: int, reason: wire.Reason, upload: Upload, trouble: str = "") -> None:
        self._counters.add("refused")
        cause = {"cause": trouble} if trouble else {}
        self._log.info("refused", client=upload.client, name=upload.name, reason=reason.name.lower(), **cause)
        self._say(link, wire.Refused(number, reason))

    # --- the folder

    def _look_again(self) -> bool:
        """Look at the folder because the box seems full: the operator may have taken files away."""
        now = time.monotonic()
        if now - self._looked < _LOOK_AGAIN_S:
            return False
        self._sweep(now)
        return True

    def _sweep(self, now: float) -> None:
        self._next_sweep, self._looked = now + _SWEEP_S, now
        oldest = time.time() - self._retention if self._retention else float("-inf")
        found, removed = store.sweep(oldest)
        self._ledger.rebuild(found)
        if removed:
            self._log.info("swept", files=len(removed))


def prepare(context: Context) -> Custodian:
    """The `main` of the custody service: settings `box` (Box, plain) and `log`."""
    return Custodian(context)
