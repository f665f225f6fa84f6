"""Sources that have an address: their downloads run side by side, and each is verified and stored as it arrives.

A source that is verified by a signed list of digests has up to three downloads: list, signature, and the file.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.request import getproxies_environment

from appliance.boot import disk
from appliance.boot.children import Child
from appliance.boot.house import House
from appliance.boot.model import Source
from appliance.boot.records import BootError
from appliance.settings.fetch import FetchSettings

if TYPE_CHECKING:
    from appliance.boot.fetching import Fetching, Outcome, Report

_LARGEST_LIST = 16 << 20
_OLD_S = 7 * 86400  # a download that nobody continued for so long is removed


@dataclass(slots=True)
class _Work:
    """One source on its way."""

    source: Source
    lists: dict[str, str] = field(default_factory=dict)  # list, signature -> name in the spool
    waiting: int = 0
    digest: str | None = None
    verified: str = ""
    signed: int = 0


class Downloading:
    """The downloads of one `boot fetch`."""

    def __init__(self, fetching: Fetching, house: House, settings: FetchSettings, report: Report) -> None:
        self._fetching, self._house, self._settings, self._report = fetching, house, settings, report
        self._then: dict[int, tuple[_Work, Callable[[_Work, dict[str, Any]], Outcome | None]]] = {}
        self._done: list[Outcome] = []
        self._asked = 0

    def run(self, sources: Sequence[Source], now: int) -> list[Outcome]:
        """Fetch them all."""
        plain = {
            "parallel": self._settings.parallel,
            "tries": self._settings.tries,
            "stall": self._settings.stall,
            "min_rate": self._settings.min_rate,
            "authorities": self._settings.authorities,
            "proxies": getproxies_environment(),
        }
        with self._house.fetcher(plain) as (child, spool):
            self._child, self._spool, self._now = child, spool, now
            _sweep(spool, now)
            for source in sources:
                self._begin(_Work(source))
            while self._then:
                self._hear(child)
        return self._done

    def _begin(self, work: _Work) -> None:
        source = work.source
        self._report.begun(source.name, source.at)
        if source.sums is None:
            work.digest, work.verified = source.sha256 or None, "sha256" if source.sha256 else ""
            settled = self._fetching.settled(source, work.digest)
            self._end(settled) if settled else self._file(work)
            return
        urls = {"list": source.sums.url}
        if source.sums.signature:
            urls["signature"] = source.sums.signature
        work.waiting = len(urls)
        for kind, url in urls.items():
            work.lists[kind] = self._ask(work, url, _LARGEST_LIST, {}, _Listed(self, kind))

    def _ask(
        self,
        work: _Work,
        url: str,
        most: int,
        known: dict[str, str],
        then: Callable[[_Work, dict[str, Any]], Outcome | None],
    ) -> str:
        self._asked += 1
        number = self._asked
        name = hashlib.sha256(f"{work.source.name} {url}".encode()).hexdigest()[:32]
        disk.discard(f"{name}.got", self._spool)
        order = {"id": number, "url": url, "name": name, "most": most, "hosts": work.source.redirects, "known": known}
        self._then[number] = work, then
        self._child.say(order)
        return name

    def _hear(self, child: Child) -> None:
        event = child.hear()
        number = event.get("got", event.get("failed", event.get("moved", event.get("again"))))
        if number not in self._then:
            return
        work, then = self._then[number]
        if "moved" in event:
            self._report.moved(work.source.name, int(event["count"]), event["size"])
        elif "again" in event:
            self._report.again(work.source.name, str(event["why"]))
        else:
            del self._then[number]
            self._follow(work, then, event)

    def _follow(
        self, work: _Work, then: Callable[[_Work, dict[str, Any]], Outcome | None], event: dict[str, Any]
    ) -> None:
        """A download ended: what comes next, or how the source ended."""
        try:
            if "failed" in event:
                raise BootError(str(event["why"]))
            outcome = then(work, event)
        except (BootError, OSError) as error:
            why = str(error) if isinstance(error, BootError) else f"{error.strerror}"
            for number in [number for number, (other, _then) in self._then.items() if other is work]:
                del self._then[number]
            outcome = self._fetching.failed(work.source, why)
        if outcome is not None:
            self._end(outcome)

    def _end(self, outcome: Outcome) -> None:
        self._report.ended(outcome)
        self._done.append(outcome)

    # --- a list of digests first

    def listed(self, work: _Work) -> Outcome | None:
        """List and signature are there: which digest the file has to have."""
        work.waiting -= 1
        if work.waiting:
            return None
        with ExitStack() as opened:
            fds = {kind: opened.enter_context(self._got(name)) for kind, name in work.lists.items()}
            found = self._fetching.digest_of(work.source, fds["list"], fds.get("signature"))
        for name in work.lists.values():
            disk.discard(f"{name}.got", self._spool)
        work.digest, work.verified, work.signed = found
        if (settled := self._fetching.settled(work.source, work.digest)) is not None:
            return settled
        self._file(work)
        return None

    # --- then the file

    def _file(self, work: _Work) -> None:
        before = self._fetching.known(work.source)
        same = before is not None and before.spec == self._fetching.spec(work.source)
        known = dict(before.validators) if before is not None and same and work.source.unverified else {}
        self._ask(work, work.source.at, work.source.max_size, known, self._arrived)

    def _arrived(self, work: _Work, event: dict[str, Any]) -> Outcome | None:
        from appliance.boot.fetching import Outcome, Proven

        source = work.source
        known = self._fetching.known(source)
        if event["unchanged"] and known is not None:
            return Outcome(source.name, "unchanged", known)
        name = hashlib.sha256(f"{source.name} {source.at}".encode()).hexdigest()[:32]
        with self._got(name) as fd:
            try:
                validators = {str(name): str(value)[:500] for name, value in event["known"].items()}
                proven = Proven(fd, source.at, work.digest, work.verified, work.signed, validators)
                outcome = self._fetching.take(source, proven, self._now)
            finally:
                disk.discard(f"{name}.got", self._spool)
        return outcome

    def _got(self, name: str) -> AbstractContextManager[int]:
        return _opened(f"{name}.got", self._spool)


@dataclass(frozen=True, slots=True)
class _Listed:
    """One of the two files of a list arrived."""

    downloading: Downloading
    kind: str

    def __call__(self, work: _Work, _event: dict[str, Any]) -> Outcome | None:
        return self.downloading.listed(work)


@contextmanager
def _opened(name: str, spool: int) -> Iterator[int]:
    """A file of the spool, looked at by descriptor: the spool belongs to an account that talks to strangers."""
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=spool)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise BootError("the fetcher made something that is no regular file")
        yield fd
    finally:
        os.close(fd)


def _sweep(spool: int, now: int) -> None:
    """Remove downloads that nobody continued."""
    for name in disk.names(spool):
        if name == "etc":
            continue
        found = os.stat(name, dir_fd=spool, follow_symlinks=False)
        if found.st_mtime < now - _OLD_S:
            disk.remove_tree(name, spool)
