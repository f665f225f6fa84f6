"""Bytes of a file are sent only when they are in memory; where they are not, a thread of the pool fetches them first.

The kernel tells by preadv2(RWF_NOWAIT) whether a byte can be read without waiting for the disk. File systems that do
not know that flag are either memory themselves (tmpfs) or asked by way of the pool for every piece.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from appliance.ftp.filesystem import OpenFile
from appliance.ftp.pool import Job, Pool

PIECE = 1 << 20  # bytes looked at, and fetched, at once
REACH = 8 << 20  # bytes sent in one go at most; far fewer go before the socket is full, but each turn saved counts
_LOW = REACH // 2  # with less than this before it, a transfer looks further: as much may fit into its socket
_READ = 128 << 10
_ONE = [bytearray(1)]
_IN_MEMORY = ("tmpfs", "ramfs")


def memory_devices() -> frozenset[int]:
    """Devices (st_dev) whose files never wait for a disk. Asked before confinement: a jail has no /proc."""
    found = set()
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
            for line in mounts:
                where, _dash, kind = line.partition(" - ")
                if kind.split(" ")[0] in _IN_MEMORY:
                    major, minor = where.split(" ")[2].split(":")
                    found.add(os.makedev(int(major), int(minor)))
    except OSError:
        pass  # then they are read by way of the pool: slower, and never wrong
    return frozenset(found)


class Ahead:
    """How far into a file one transfer may go now."""

    def __init__(
        self, pool: Pool, memory: frozenset[int], file: OpenFile, resume: Callable[[], None], wall: Callable[[], None]
    ) -> None:
        """`resume()` is called when `ready` said no and can say yes now; `wall()` when fetching met a bug."""
        self._pool, self._file, self._resume, self._wall = pool, file, resume, wall
        self._until = file.size if file.device in memory else 0
        self._job: Job | None = None
        self._waiting = False
        self._begun = False

    def ready(self, offset: int) -> int:
        """How many bytes from `offset` on can be read without waiting, to the end of a piece; 0: wait for `resume`."""
        if offset < self._until:
            if self._job is None and self._until - offset < _LOW:
                self._reach(offset)
            return self._until - offset
        if self._job is None:
            if self._there(offset):
                self._until = min(offset + PIECE, self._file.size)
                self._reach(offset)
                return self._until - offset
            if not self._fetch(offset):
                return self._until - offset
        self._waiting = True
        return 0

    def _reach(self, offset: int) -> None:
        """The piece at `offset` is in memory: add those behind it. Asking for one costs 1 us, a turn 50."""
        while self._until < self._file.size and self._until - offset < REACH and self._there(self._until):
            self._until = min(self._until + PIECE, self._file.size)

    def close(self) -> None:
        """Nobody waits any more."""
        self._waiting = False
        if self._job is not None:
            self._job.stop()

    def _there(self, offset: int) -> bool:
        """Ask for the last byte of the piece; for the first one only in the first piece, since pieces follow each
        other, and the kernel reads ahead in one go."""
        last = min(offset + PIECE, self._file.size) - 1
        try:
            os.preadv(self._file.fd, _ONE, last, os.RWF_NOWAIT)
            if not self._begun and last - offset >= 4096:
                os.preadv(self._file.fd, _ONE, offset, os.RWF_NOWAIT)
            self._begun = True
        except BlockingIOError:
            return False
        except OSError as error:
            return error.errno != errno.EOPNOTSUPP  # of a broken disk the transfer will learn
        return True

    def _fetch(self, offset: int) -> bool:
        """Have the piece read, through a descriptor of its own, which outlives the transfer. Where there is none left
        the loop has to wait for the disk itself: false."""
        try:
            fd = os.dup(self._file.fd)
        except OSError:
            self._until = min(offset + PIECE, self._file.size)
            return False
        self._job = self._pool.submit(
            lambda job: _read(job, fd, offset), lambda _job: self._fetched(offset), self._wall
        )
        return True

    def _fetched(self, offset: int) -> None:
        stopped, self._job = self._job is not None and self._job.stopped, None
        if stopped:
            return
        self._until = min(offset + PIECE, self._file.size)
        if self._until < self._file.size and not self._there(self._until):
            self._fetch(self._until)  # the disk works while the piece before is sent
        if self._waiting:
            self._waiting = False
            self._resume()


def _read(job: Job, fd: int, offset: int) -> None:
    """In a thread: read one piece into the page cache. Raises OSError."""
    buffer = [bytearray(_READ)]
    try:
        end = offset + PIECE
        while offset < end and not job.stopped and (count := os.preadv(fd, buffer, offset)):
            offset += count
    finally:
        os.close(fd)
