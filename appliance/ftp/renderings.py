"""Listings being made, and those just made: worked on in turns, shared by all sessions of a worker, kept for a moment.

Invariants: one turn of the loop spends no more than `TURN_S` and one slice on listings when anything else has happened,
and looks after each such time, `TURNS` of them at most; what is shared was begun after the folder's last change, no
more than `KEEP_S` ago; what is held, also for readers that do not read, has a bound; who waits for a piece is called
when there is one, or the end.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Generator, Hashable
from dataclasses import dataclass
from typing import TypeAlias

TURN_S = 0.0015  # of one turn of the loop, for all listings together
TURNS = 2  # of these in one while nobody else wants anything; six were no faster, and others waited longer
KEEP_S = 1.0  # a file that grows inside is seen with its old size for no longer than this
HELD = (
    64 << 20
)  # bytes of listings, each in memory twice while it is made and read; more are refused until some have left
_BLOCK = 512 << 10  # bytes that a reader gets at once from a finished listing
_TOGETHER = 32  # pieces that a reader gets at once from a listing that is being made
_PATIENCE_S = 10.0  # after which a listing that is not read yet makes room for others, if room is needed
_AT_ONCE = 4  # listings worked on in turns; the next one begins when one of them is done
_FINE_S, _COARSE_S = 0.05, 2.1  # how fresh a time stamp may be that another change could repeat: see `settled`


class BusyError(Exception):
    """There are too many listings in memory. Try again later."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """What changes when a folder does: an entry more, less, or renamed."""

    device: int
    inode: int
    mtime_ns: int
    ctime_ns: int

    def settled(self, now: float) -> bool:
        """True when a change from now on (seconds of the wall clock) cannot leave the same stamp.

        Time stamps come in ticks: of a clock tick of the kernel (10 ms at most), or of one or two seconds where the
        part below a second is always zero (FAT, NFS to old servers).
        """
        latest = max(self.mtime_ns, self.ctime_ns)
        margin = _FINE_S if self.mtime_ns % 1_000_000_000 else _COARSE_S
        return now - latest / 1e9 > margin


Stamps: TypeAlias = tuple[Stamp | None, ...]  # of the folders that a listing is the union of; None: not there


Waiting: TypeAlias = tuple[Callable[[], None], Callable[[], None]]  # what is called, and its wall


class Rendering:
    """One listing, piece by piece as it is made; any number of readers."""

    def __init__(self, source: Generator[bytes, None, None], begun: float) -> None:
        self.begun = begun
        self.stamps: Stamps | None = None  # of one that is shared
        self._parts: list[bytes] = []
        self.pieces = self._parts
        self.size = 0
        self.together = _TOGETHER  # pieces given to a reader at once
        self.done = False
        self.error: Exception | None = None
        self.readers = 0
        self.waiting: list[Waiting] = []
        self._source = source
        self._blocks: list[bytes] = []  # the same once more in long pieces, which cost fewer turns
        self._first = self._joined = 0  # piece and byte that the next block begins with

    def step(self) -> int:
        """Make the next slice; returns how many bytes it has."""
        try:
            piece = next(self._source)
        except StopIteration:
            self._complete()
            return 0
        except Exception as error:  # of the disk, or a bug: each reader gets what there is, then this, in its own turn
            self.error, self.done = error, True
            return 0
        if piece:
            self.pieces.append(piece)
            self.size += len(piece)
            if self.size - self._joined >= _BLOCK:
                self._join()
        return len(piece)

    def _join(self) -> None:
        self._blocks.append(b"".join(self.pieces[self._first :]))
        self._first, self._joined = len(self.pieces), self.size

    def _complete(self) -> None:
        """Those who come from now on get blocks; who reads already goes on with the list of pieces."""
        self.done = True
        if self.size > self._joined:
            self._join()
        self.pieces, self.together = self._blocks, 1

    def close(self) -> None:
        """Close the folder where not all of it was read."""
        self._source.close()

    def give_up(self) -> None:
        """Take the bytes away from those who have not read them; they get an error instead."""
        self.close()
        self.error, self.done, self.size = OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS)), True, 0
        self._parts.clear()
        self._blocks.clear()


class Reader:
    """The pieces of one rendering, for one session; b"" where the next is not made yet. Whoever holds it closes it."""

    def __init__(self, rendering: Rendering, release: Callable[[Rendering], None]) -> None:
        self._rendering, self._release = rendering, release
        self._pieces, self._at = rendering.pieces, 0
        self._closed = False
        rendering.readers += 1

    def __iter__(self) -> Reader:
        return self

    def __next__(self) -> bytes:
        if self._at < len(self._pieces):
            pieces = self._pieces[self._at : self._at + self._rendering.together]
            self._at += len(pieces)
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if not self._rendering.done:
            return b""
        self.close()
        if self._rendering.error is not None:
            raise self._rendering.error
        raise StopIteration

    def wait(self, then: Callable[[], None], wall: Callable[[], None]) -> bool:
        """After b"": have `then` called once when there is more, or nothing more to come; `wall` for what it raises.

        False: it has come already, and nobody is called.
        """
        if self._rendering.done or self._at < len(self._pieces):
            return False
        self._rendering.waiting.append((then, wall))
        return True

    def close(self) -> None:
        """Let it go; may be called twice."""
        if not self._closed:
            self._closed = True
            self._release(self._rendering)


class Renderings:
    """All of one worker. `turn` is called once in each turn of the loop, `sweep` once a second."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: dict[Hashable, tuple[Rendering, Reader]] = {}
        self._waiting: list[Rendering] = []
        self._alive: dict[Rendering, None] = {}  # the oldest first
        self._left_s = TURN_S
        self._more: dict[Rendering, None] = {}  # what grew, or ended, and has not told those who wait
        self.held = 0  # bytes

    @property
    def busy(self) -> bool:
        """True while there is work for the next turn."""
        return bool(self._waiting or self._more)

    def shared(self, key: Hashable, stamps: Stamps) -> Reader | None:
        """A reader of the listing `key` that was begun a moment ago, when the folders carried the same stamps."""
        rendering, _keeper = self._kept.get(key, (None, None))
        if rendering is None or rendering.stamps != stamps or self._clock() - rendering.begun > KEEP_S:
            return None
        return Reader(rendering, self._release)

    def begin(self, source: Generator[bytes, None, None], key: Hashable = None, stamps: Stamps | None = None) -> Reader:
        """A reader of what `source` yields; with `stamps`, others may share it under `key`. Raises BusyError."""
        self._make_room()
        if self.held > HELD:
            source.close()
            raise BusyError
        rendering = Rendering(source, self._clock())
        self._alive[rendering] = None
        reader = Reader(rendering, self._release)
        self._waiting.append(rendering)
        if stamps is not None:
            rendering.stamps = stamps
            self._forget(key)
            self._kept[key] = rendering, Reader(rendering, self._release)
        self._work()  # a short one is made at once, and leaves without another turn
        return reader

    def turn(self, alone: Callable[[], bool] = lambda: False) -> None:
        """Go on with what is unfinished, a slice of each in turn; longer while `alone`: nothing else is due."""
        for _ in range(TURNS):
            self._left_s = TURN_S
            self._work()
            if not self._waiting or not alone():
                break
        self._wake()

    def _wake(self) -> None:
        more, self._more = self._more, {}
        for rendering in more:
            waiting, rendering.waiting = rendering.waiting, []
            for then, wall in waiting:
                try:
                    then()
                except Exception:
                    wall()

    def sweep(self) -> None:
        """Forget what is too old to be shared."""
        oldest = self._clock() - KEEP_S
        for key in [key for key, (kept, _keeper) in self._kept.items() if kept.begun < oldest]:
            self._forget(key)

    def _make_room(self) -> None:
        """Sessions that ask for listings and do not read them must not keep others from theirs."""
        latest = self._clock() - _PATIENCE_S
        while self.held > HELD and (oldest := next(iter(self._alive))).begun < latest:
            self.held -= oldest.size
            if not oldest.done:
                self._waiting.remove(oldest)
            oldest.give_up()
            if oldest.waiting:
                self._more[oldest] = None
            del self._alive[oldest]

    def _forget(self, key: Hashable) -> None:
        if key in self._kept:
            self._kept.pop(key)[1].close()

    def _work(self) -> None:
        while self._waiting and self._left_s > 0:
            for rendering in self._waiting[:_AT_ONCE]:
                started = self._clock()
                size = rendering.step()
                self.held += size
                if rendering.done:
                    self._waiting.remove(rendering)
                if rendering.waiting and (size or rendering.done):
                    self._more[rendering] = None
                self._left_s -= self._clock() - started
                if self._left_s <= 0:
                    return

    def _release(self, rendering: Rendering) -> None:
        rendering.readers -= 1
        if rendering.readers == 0:
            self.held -= rendering.size
            self._alive.pop(rendering, None)
            if not rendering.done:  # nobody wants it any more
                self._waiting.remove(rendering)
                rendering.close()
