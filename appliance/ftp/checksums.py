"""Checksums of served files, computed in a thread: one at a time, once for all who ask, and kept while the file stays
as it is.

Invariants: at most one computation runs and `queue` wait, so asking for checksums cannot wear out the disk; what is
kept or told is the checksum of one state of the file, seen before and after it was read.
"""

from __future__ import annotations

import hashlib
import os
import time
import zlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from appliance.ftp.filesystem import OpenFile
from appliance.ftp.pool import Job, Pool

_PIECE = 512 << 10  # bytes read at once; a cancelled computation ends after one more
_KEPT = 4096  # checksums kept, some 500 bytes each
_SETTLED_NS = 3_000_000_000  # a file changed later than this before it was read could change again within one tick


class Sum(Protocol):
    """What hashlib makes."""

    def update(self, data: memoryview, /) -> None: ...
    def hexdigest(self) -> str: ...


class _Crc32:
    def __init__(self) -> None:
        self._value = 0

    def update(self, data: memoryview, /) -> None:
        self._value = zlib.crc32(data, self._value)

    def hexdigest(self) -> str:
        return f"{self._value:08x}"


def _of_hashlib(name: str) -> Callable[[], Sum]:
    def make() -> Sum:
        return hashlib.new(name, usedforsecurity=False)

    make().update(memoryview(b"x"))  # now, not in the jail: OpenSSL loads what it needs at the first use
    return make


ALGORITHMS: dict[str, Callable[[], Sum]] = {  # the names of draft-bryan-ftpext-hash-02, the first is the default
    "SHA-256": _of_hashlib("sha256"),
    "SHA-512": _of_hashlib("sha512"),
    "SHA-1": _of_hashlib("sha1"),
    "MD5": _of_hashlib("md5"),
    "CRC32": _Crc32,
}


class BusyError(Exception):
    """Too many wait already."""


@dataclass(frozen=True, slots=True)
class Key:
    """One checksum of one state of one file; `start` and `end` are bytes, `end` is the first that is left out."""

    device: int
    inode: int
    mtime_ns: int
    ctime_ns: int
    size: int
    algorithm: str
    start: int
    end: int

    def fits(self, found: os.stat_result) -> bool:
        """True while the file is in the state that was asked about."""
        now = (found.st_mtime_ns, found.st_ctime_ns, found.st_size)
        return now == (self.mtime_ns, self.ctime_ns, self.size)


Then = Callable[[str | OSError], None]


class Claim:
    """One session that waits for a checksum."""

    def __init__(self, then: Then, wall: Callable[[], None]) -> None:
        self.then, self.wall = then, wall
        self.gone = False
        self._work: _Work | None = None

    def wait_for(self, work: _Work) -> None:
        """Stand in line."""
        self._work = work
        work.claims.append(self)

    def cancel(self) -> None:
        """Nobody waits here any more; a computation that nobody waits for ends. May be called twice."""
        self.gone = True
        if self._work is not None and self in self._work.claims:
            self._work.claims.remove(self)
            self._work.left()


class _Work:
    """One computation, waiting or running, and who waits for it."""

    def __init__(self, key: Key, file: OpenFile, forget: Callable[[_Work], None]) -> None:
        self.key, self.file, self._forget = key, file, forget
        self.claims: list[Claim] = []
        self.job: Job | None = None

    def left(self) -> None:
        """One has gone."""
        if not self.claims:
            self._forget(self)

    def compute(self, job: Job) -> tuple[int, str]:
        """In a thread: when it was begun, in ns of the wall clock, and the checksum. Raises OSError, BlockingIOError
        when the file was changed meanwhile."""
        try:
            return time.time_ns(), _computed(self.key, self.file.fd, job)
        finally:
            self.file.close()


class Checksums:
    """Those of one worker."""

    def __init__(self, pool: Pool, queue: int) -> None:
        self._pool, self._limit = pool, queue
        self._kept: OrderedDict[Key, str] = OrderedDict()
        self._waiting: OrderedDict[Key, _Work] = OrderedDict()
        self._running: _Work | None = None

    def ask(self, file: OpenFile, algorithm: str, start: int, end: int, claim: Claim) -> str | None:
        """The checksum if it is known, or None: `claim.then` will be called. The file is ours from here on. Raises
        BusyError and OSError."""
        try:
            found = os.fstat(file.fd)
            state = (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size)
            key = Key(*state, algorithm, start, end)
            work = self._known(key)
            if work is None and key not in self._kept:
                if len(self._waiting) >= self._limit:
                    raise BusyError
                work = self._waiting[key] = _Work(key, OpenFile(os.dup(file.fd), file.size), self._abandon)
        finally:
            file.close()
        if work is None:
            self._kept.move_to_end(key)
            return self._kept[key]
        claim.wait_for(work)
        self._next()
        return None

    def _known(self, key: Key) -> _Work | None:
        if self._running is not None and self._running.key == key and self._running.claims:
            return self._running
        return self._waiting.get(key)

    def _next(self) -> None:
        if self._running is None and self._waiting:
            _key, work = self._waiting.popitem(last=False)
            self._running = work
            work.job = self._pool.submit(work.compute, self._finished, self._crashed)

    def _abandon(self, work: _Work) -> None:
        if work is self._running:
            assert work.job is not None
            work.job.stop()
        else:
            del self._waiting[work.key]
            work.file.close()

    def _finished(self, job: Job) -> None:
        key, claims = self._over()
        if job.error is None and job.value[0] - max(key.mtime_ns, key.ctime_ns) > _SETTLED_NS:
            self._keep(key, job.value[1])
        for claim in claims:
            try:
                if not claim.gone:
                    claim.then(job.value[1] if job.error is None else job.error)
            except Exception:
                claim.wall()

    def _crashed(self) -> None:
        for claim in self._over()[1]:
            claim.wall()

    def _over(self) -> tuple[Key, list[Claim]]:
        """The computation has ended: its claims stand nowhere any more, and the next one begins."""
        assert self._running is not None
        work, self._running = self._running, None
        claims, work.claims = work.claims, []
        self._next()
        return work.key, claims

    def _keep(self, key: Key, value: str) -> None:
        self._kept[key] = value
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)


def _computed(key: Key, fd: int, job: Job) -> str:
    total = ALGORITHMS[key.algorithm]()
    buffer = memoryview(bytearray(min(_PIECE, key.end - key.start)))
    offset = key.start
    while offset < key.end and not job.stopped:
        count = os.preadv(fd, [buffer[: key.end - offset]], offset)
        if not count:
            break
        total.update(buffer[:count])
        offset += count
    if offset < key.end or not key.fits(os.fstat(fd)):
        raise BlockingIOError("the file was changed, or nobody waits")
    return total.hexdigest()


def line_of(value: str, name: bytes) -> bytes:
    """What `sha256sum -c` reads: a name with a backslash is written with two, and a third before the line."""
    if b"\\" in name:
        return b"\\%b  %b\n" % (value.encode(), name.replace(b"\\", b"\\\\"))
    return b"%b  %b\n" % (value.encode(), name)
