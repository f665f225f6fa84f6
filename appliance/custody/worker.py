"""The custodian: owns a box, hands out descriptors, keeps the ledger. It has no network at all.

Invariant: an upload belongs to one link. When the link closes, for whatever reason, its uploads are removed; a message
that does not fit closes the link it came from, and no other. Finishing a file waits for the disk, so one is finished
per turn of the loop and everything else is answered first.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from collections import deque
from collections.abc import Callable

from appliance import wire as control
from appliance.child.context import Context
from appliance.custody import store, versions, wire
from appliance.custody.ledger import Ledger, Limits, Upload
from appliance.custody.link import Link, Work
from appliance.custody.readers import Readers
from appliance.custody.rules import LONGEST, NameRules
from appliance.errors import WireError
from appliance.observe import events
from appliance.observe.log import Log
from appliance.settings import plain
from appliance.settings.box import Box

MOST_UPLOADS = 1000  # under way at once; each holds a descriptor here
_MESSAGES = 64  # taken from one link in one turn
_SWEEP_S = 60.0
_CLOCK_S = 2.0  # times of files are coarser than the clock
_LOOK_AGAIN_S = 1.0  # least time between looks at the folder that a full box causes
_EVENTS = "events"
_REASONS = dict.fromkeys(
    (wire.Reason.QUOTA, wire.Reason.CLIENT_QUOTA, wire.Reason.FILES, wire.Reason.SIZE, wire.Reason.BUSY), "limit"
) | {wire.Reason.EXISTS: "denied", wire.Reason.NAME_DENIED: "denied", wire.Reason.ABSENT: "missing"}
_FULL = (wire.Reason.QUOTA, wire.Reason.CLIENT_QUOTA, wire.Reason.FILES)


class Custodian:
    """The loop over the supervisor's channel and the links."""

    def __init__(self, context: Context) -> None:
        settings = plain.decode(Box, context.settings["box"])
        self._channel, self._counters = context.channel, context.counters
        self._log = Log(context.service, context.settings["log"], lost=lambda: self._counters.add("log_dropped"))
        self._rules = NameRules(settings.deny_names, versioned=settings.keep_versions > 0)
        self._readers = Readers(settings.readable, settings.readers)
        self._ledger = Ledger(
            Limits(
                settings.max_size,
                settings.quota,
                settings.per_client_quota,
                settings.max_files,
                settings.mode,
                settings.keep_versions,
            )
        )
        self._counters.set("quota", settings.quota)
        self._retention = settings.retention
        self._unmarked = False  # this file system does not keep who uploaded a file; told once
        self._links: dict[int, Link] = {}
        self._poll = select.epoll()
        self._commits: deque[tuple[Link, wire.Commit]] = deque()
        self._drained: float | None = None  # monotonic time at which we leave at the latest
        self._next_sweep = 0.0
        self._looked = 0.0
        self._swept = 0.0  # seconds since the epoch
        self._emitter = context.emitter()
        self._first_links = [sock for name, sock in context.links.items() if name != _EVENTS]

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
        self._emitter.flush(time.monotonic())
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
        self._counters.set("kept_bytes", self._ledger.total)
        self._counters.set("kept_files", len(self._ledger.files))
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
            self._drop(link, number)
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
            self._handle(link, wire.parse_from_worker(datagram))

    def _say(self, link: Link, message: wire.FromCustodian, descriptor: int = -1) -> None:
        link.say(message, descriptor)
        self._watch(link)

    def _watch(self, link: Link) -> None:
        self._poll.modify(link.sock.fileno(), select.EPOLLIN | (select.EPOLLOUT if link.behind else 0))

    # --- what a worker wants

    def _handle(self, link: Link, message: wire.FromWorker) -> None:
        if isinstance(message, wire.Reserve):
            self._reserve(link, message)
        elif isinstance(message, wire.Ask):
            self._ask(link, message)
        elif isinstance(message, wire.Fetch):
            self._fetch(link, message)
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
        partial, trouble = None, ""
        try:
            allowed, over = self._weigh(message)
            if not isinstance(allowed, wire.Reason):
                partial = store.create()
        except OSError as error:
            allowed, trouble = _because(error)
        else:
            trouble = self._explain(over)
        if partial is None:
            self._refuse(link, message.id, wire.Reason(allowed), message, trouble)
            return
        upload = self._ledger.begin(message.name, message.client, allowed)
        link.works[message.id] = Work(upload, partial, time.monotonic(), over)
        self._counters.set("active", len(self._ledger.uploads))
        self._say(link, wire.Granted(message.id, allowed))

    def _ask(self, link: Link, message: wire.Ask) -> None:
        trouble = ""
        try:
            allowed, over = self._weigh(message)
        except OSError as error:
            allowed, trouble = _because(error)
        else:
            trouble = self._explain(over)
        if isinstance(allowed, wire.Reason):
            self._refuse(link, message.id, allowed, message, trouble)
        else:
            self._say(link, wire.More(message.id, allowed))

    def _weigh(self, message: wire.Reserve | wire.Ask) -> tuple[int | wire.Reason, store.Standing | None]:
        """What the ledger would allow, or why it is refused; and what has the name. Raises OSError."""
        reason = self._rules.judge(message.name)
        if reason is not None:
            return reason, None
        if len(self._ledger.uploads) >= MOST_UPLOADS or self._drained is not None:
            return wire.Reason.BUSY, None
        over = self._see(message.name)
        if over is not None and not over.ours:
            return wire.Reason.EXISTS, over
        allowed = self._ledger.assess(message.name, message.client, message.declared, store.free())
        if isinstance(allowed, wire.Reason) and allowed in _FULL and self._look_again():
            allowed = self._ledger.assess(message.name, message.client, message.declared, store.free())
        return allowed, over

    def _explain(self, over: store.Standing | None) -> str:
        """What an operator has to know where the mode alone would let the name be replaced."""
        odd = over is not None and not over.ours and self._ledger.limits.mode != "create"
        return "what has this name is no regular file of the account that keeps the uploads" if odd else ""

    def _see(self, name: bytes) -> store.Standing | None:
        """Look at a name, and have the ledger know what is there: an operator or the custodian before us may have been
        at it. Raises OSError."""
        there = store.look(name)
        if there is None:
            self._ledger.see(name, None)
        elif there.ours:
            self._ledger.see(name, there.size, there.client)
        return there

    def _fetch(self, link: Link, message: wire.Fetch) -> None:
        found, trouble = None, ""
        reason = self._readers.refuse(message.client)
        if reason is None and self._rules.judge_known(message.name) is not None:
            reason = wire.Reason.ABSENT
        if reason is None and link.behind:
            reason = wire.Reason.BUSY
        try:
            found = store.fetch(message.name) if reason is None else None
        except OSError as error:
            reason, trouble = _because(error)
        if found is None:
            self._refuse(link, message.id, reason or wire.Reason.ABSENT, message, trouble)
            return
        descriptor, size, owner = found
        if not self._readers.permits(message.client, owner):
            os.close(descriptor)
            self._refuse(link, message.id, wire.Reason.UNREADABLE, message)
            return
        self._say(link, wire.Opened(message.id, size), descriptor)

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
        version, trouble = b"", ""
        try:
            if message.size <= upload.allowed:
                reason, version = self._finish(work, message.size)
        except OSError as error:
            reason, trouble = _because(error)
        if reason is not None:
            self._drop(link, message.id)
            self._refuse(link, message.id, reason, upload, trouble)
            return
        del link.works[message.id]
        self._ledger.commit(upload, message.size, version)
        self._prune(upload.name)
        self._counters.set("active", len(self._ledger.uploads))
        self._counters.add("transfers")
        self._counters.add("bytes", message.size)
        seconds = round(time.monotonic() - work.started, 3)
        was = {"was": version} if version else {}
        self._log.info("stored", client=upload.client, name=upload.name, bytes=message.size, seconds=seconds, **was)
        self._emitter.emit(
            events.Stored(message.size, round(seconds * 1000), upload.client.encode(), upload.name), time.monotonic()
        )
        self._say(link, wire.Done(message.id))

    def _finish(self, work: Work, size: int) -> tuple[wire.Reason | None, bytes]:
        """Give an upload its name. Why not, or None; and what the file is called whose place it took. Raises OSError.

        What has the name must be what had it when the upload began: of two that did not know of each other (the
        custodian before us has one, or an operator edits the file) the first one wins.
        """
        upload, version = work.upload, b""
        there = self._see(upload.name)
        if there is not None and there != work.over:
            created = self._ledger.limits.mode == "create"
            return (wire.Reason.EXISTS if created else wire.Reason.UNDER_WAY), b""
        if (reason := self._ledger.settle(upload)) is not None:
            return reason, b""
        if there is not None and self._ledger.limits.keep_versions:
            version = versions.name(upload.name, there.stored_ns, self._ledger.latest(upload.name))
        reason = work.partial.finish(upload.name, size, upload.client, there, version)
        if reason is None and not work.partial.marked and not self._unmarked:
            self._unmarked = True
            self._log.warning("this file system does not keep who uploaded a file")
        return reason, version

    def _prune(self, name: bytes) -> None:
        for version in self._ledger.surplus(name):
            try:
                store.remove(version)
            except OSError as error:
                self._log.warning("cannot remove a version", name=version, cause=_text(error))
            else:
                self._ledger.see(version, None)

    def _drop(self, link: Link, number: int) -> None:
        work = link.works.pop(number)
        work.partial.discard()
        self._ledger.cancel(work.upload)
        self._counters.set("active", len(self._ledger.uploads))
        self._counters.add("failed")

    def _refuse(
        self,
        link: Link,
        number: int,
        reason: wire.Reason,
        who: Upload | wire.Reserve | wire.Ask | wire.Fetch,
        trouble: str = "",
    ) -> None:
        """Say no. Asking and reading are the worker's to log, who knows the address: theirs may be forged by the
        thousand."""
        self._counters.refuse(_REASONS.get(reason, "other"))
        if trouble or isinstance(who, Upload | wire.Reserve):
            name = who.name if len(who.name) <= LONGEST else who.name[:LONGEST] + b"..."
            cause = {"cause": trouble} if trouble else {}
            self._log.info("refused", client=who.client, name=name, reason=reason.name.lower(), **cause)
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
        own = {work.partial.hidden for link in self._links.values() for work in link.works.values()}
        since, self._swept = self._swept, time.time() - _CLOCK_S
        found = store.sweep(oldest, own, self._ledger.files, since)
        self._ledger.rebuild(found.files, found.strangers)
        if found.removed:
            self._log.info("swept", files=len(found.removed))


def _text(error: OSError) -> str:
    return os.strerror(error.errno or errno.EIO)


def _because(error: OSError) -> tuple[wire.Reason, str]:
    """What the worker is told of an error, and what the log is."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return wire.Reason.DISK, _text(error)
    return (wire.Reason.UNREADABLE if error.errno == errno.EACCES else wire.Reason.STORE), _text(error)


def prepare(context: Context) -> Custodian:
    """The `main` of the custody service: settings `box` (Box, plain) and `log`."""
    return Custodian(context)
