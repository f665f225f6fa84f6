"""What workers want of a box, done: uploads reserved, extended, committed or dropped, questions, files read back.

Invariant: what the ledger counts is what lies in the folder or is under way. Finishing a file waits for the disk, so
one is finished per turn of the loop, and everything else is answered first.
"""

from __future__ import annotations

import errno
import os
import time
from collections import deque
from collections.abc import Callable, Iterable

from appliance.custody import store, versions, wire
from appliance.custody.health import Health
from appliance.custody.ledger import Ledger, Limits, Upload
from appliance.custody.link import Link, Work
from appliance.custody.readers import Readers
from appliance.custody.rules import LONGEST, NameRules
from appliance.errors import WireError
from appliance.observe import events
from appliance.observe.emitter import Emitter
from appliance.observe.log import Log
from appliance.observe.tables import Counters
from appliance.settings.box import Box

MOST_UPLOADS = 1000  # under way at once; each holds a descriptor here
_SWEEP_S = 60.0
_CLOCK_S = 2.0  # times of files are coarser than the clock
_LOOK_AGAIN_S = 1.0  # least time between looks at the folder that a full box causes
_REASONS = dict.fromkeys(
    (wire.Reason.QUOTA, wire.Reason.CLIENT_QUOTA, wire.Reason.FILES, wire.Reason.SIZE, wire.Reason.BUSY), "limit"
) | {wire.Reason.EXISTS: "denied", wire.Reason.NAME_DENIED: "denied", wire.Reason.ABSENT: "missing"}
_UNSTORED = (wire.Reason.STORE, wire.Reason.DISK, wire.Reason.UNREADABLE)
_FULL = (wire.Reason.QUOTA, wire.Reason.CLIENT_QUOTA, wire.Reason.FILES)


class Keeping:
    """The ledger and the folder. `closing`: nothing new is begun."""

    def __init__(
        self,
        settings: Box,
        *,
        links: Callable[[], Iterable[Link]],
        say: Callable[[Link, wire.FromCustodian, int], None],
        counters: Counters,
        log: Log,
        emitter: Emitter,
    ) -> None:
        """`links`: all that are open. `say(link, message, descriptor)`: an answer, with a descriptor or -1."""
        self._links, self._say, self._counters, self._log, self._emitter = links, say, counters, log, emitter
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
        self._health = Health(counters, log)
        self._retention = settings.retention
        self._unmarked = False  # this file system does not keep who uploaded a file; told once
        self._commits: deque[tuple[Link, wire.Commit]] = deque()
        self._next_sweep = 0.0
        self._looked = 0.0
        self._swept = 0.0  # seconds since the epoch
        self.closing = False

    def begin(self, now: float) -> None:
        """Look at what is there; what was unfinished when the custodian before us ended is removed."""
        cleared = store.clear_partials()
        self._sweep(now)
        self._health.turn(now)
        self._log.info("ready", files=len(self._ledger.files), bytes=self._ledger.total, unfinished_removed=cleared)

    @property
    def waits(self) -> bool:
        """An upload waits to be finished."""
        return bool(self._commits)

    def next_commit(self) -> tuple[Link, wire.Commit] | None:
        """The upload that is to be finished next, of a link that may be closed by now."""
        return self._commits.popleft() if self._commits else None

    def turn(self, now: float) -> None:
        """Once per turn of the loop: look at the folder from time to time, and show what is kept."""
        if now >= self._next_sweep:
            try:
                self._sweep(now)
            except OSError as error:
                self._log.warning("cannot look at what is kept", cause=_text(error))
                self._health.doubt()
        self._health.turn(now)
        self._counters.set("kept_bytes", self._ledger.total)
        self._counters.set("kept_files", len(self._ledger.files))

    def handle(self, link: Link, message: wire.FromWorker) -> None:
        """One message of a worker. Raises WireError for one that does not fit."""
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
        else:  # it may have been the disk, of which only the worker knows
            self.drop(link, message.id)
            self._health.doubt()

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
        self._say(link, wire.Granted(message.id, allowed), -1)

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
            self._say(link, wire.More(message.id, allowed), -1)

    def _weigh(self, message: wire.Reserve | wire.Ask) -> tuple[int | wire.Reason, store.Standing | None]:
        """What the ledger would allow, or why it is refused; and what has the name. Raises OSError."""
        reason = self._rules.judge(message.name)
        if reason is not None:
            return reason, None
        if len(self._ledger.uploads) >= MOST_UPLOADS or self.closing:
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
            self._say(link, wire.More(message.id, upload.allowed), -1)
        else:
            if reason is wire.Reason.DISK:
                self._health.doubt()
            self._say(link, wire.Refused(message.id, reason), -1)

    def commit(self, link: Link, message: wire.Commit) -> None:
        """Finish an upload: only now it has its name."""
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
            self.drop(link, message.id)
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
        self._say(link, wire.Done(message.id), -1)

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

    def drop(self, link: Link, number: int) -> None:
        """An upload ends without a file."""
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
        if reason in _UNSTORED and not isinstance(who, wire.Fetch):
            self._health.doubt()
        if trouble or isinstance(who, Upload | wire.Reserve):
            name = who.name if len(who.name) <= LONGEST else who.name[:LONGEST] + b"..."
            cause = {"cause": trouble} if trouble else {}
            self._log.info("refused", client=who.client, name=name, reason=reason.name.lower(), **cause)
        self._say(link, wire.Refused(number, reason), -1)

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
        own = {work.partial.hidden for link in self._links() for work in link.works.values()}
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
