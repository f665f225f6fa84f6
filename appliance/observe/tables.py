"""Counters of one worker in a sealed memory file: the worker alone writes, everybody else can only read.

Layout: 64-bit unsigned slots in the order of COUNTERS, after a magic slot. Invariant: once the writer has mapped the
file it is sealed (SHRINK, GROW, FUTURE_WRITE), so no second writer can ever exist; readers validate and clamp.
"""

from __future__ import annotations

import bisect
import fcntl
import mmap
import os
import time

from appliance.observe.exposition import BUCKETS, EDGES_MS

MAGIC = 0x41504C31_00000001
COUNTERS = (
    "tick",  # CLOCK_MONOTONIC in ns when the loop last turned
    "active",  # transfers (TFTP) or sessions (FTP) now
    "transfers",  # finished, both directions
    "bytes",  # payload moved, both directions
    "failed",  # transfers that ended without success
    "refused",  # requests answered with a refusal
    "dropped",  # datagrams or connections not answered at all
    "crashes",  # exceptions caught by the wall of the loop
    "retransmits",
    "log_dropped",  # log lines that nobody was ready to read, lines of the xferlog that could not be written
    "under_way",  # transfers of FTP sessions now
    "events_lost",  # events that were not told, or not kept
    "fault",  # gauge: errno of what does not work now (the disk of the history); 0 is none
    "refused_missing",  # of `refused`: there is no such file
    "refused_denied",  # of `refused`: not allowed
    "refused_limit",  # of `refused`: a cap is reached, or a ban in force
    "kept_bytes",  # gauge: of uploads
    "kept_files",  # gauge
    "quota",  # gauge: bytes that may be kept; 0 is any
    "took_ms",  # all durations of transfers together
    *BUCKETS,  # how many transfers took so long
)
_GAUGES = {"tick", "active", "under_way", "fault", "kept_bytes", "kept_files", "quota"}
MONOTONIC = tuple(name for name in COUNTERS if name not in _GAUGES)
SLOT = {name: i + 1 for i, name in enumerate(COUNTERS)}
_FIRST_BUCKET, _TOOK, _REFUSED = SLOT[BUCKETS[0]], SLOT["took_ms"], SLOT["refused"]
SIZE = 4096
LARGEST = (1 << 63) - 1
_FUTURE_WRITE = getattr(fcntl, "F_SEAL_FUTURE_WRITE", 0x10)  # Linux 5.1; Python names it from 3.13
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | _FUTURE_WRITE


def create(name: str) -> int:
    """Make the memory file of one worker; returns its descriptor. Raises OSError."""
    descriptor = os.memfd_create(f"appliance-{name}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, SIZE)
    return descriptor


class Counters:
    """The writer's side. `add` and `set` cost one indexed store; no lock, because there is one writer."""

    def __init__(self, descriptor: int) -> None:
        self._map = mmap.mmap(descriptor, SIZE)
        self.slots = memoryview(self._map).cast("Q")
        self.slots[0] = MAGIC
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, SEALS)

    def add(self, name: str, amount: int = 1) -> None:
        """Raise a counter."""
        self.slots[SLOT[name]] += amount

    def took(self, milliseconds: int) -> None:
        """A transfer has ended, well or not, after so long. Costs two stores and a search in nine numbers."""
        self.slots[_FIRST_BUCKET + bisect.bisect_left(EDGES_MS, milliseconds)] += 1
        self.slots[_TOOK] += milliseconds

    def refuse(self, reason: str = "other") -> None:
        """A request was refused: missing, denied, limit or other."""
        self.slots[_REFUSED] += 1
        if reason != "other":
            self.slots[SLOT[f"refused_{reason}"]] += 1

    def set(self, name: str, value: int) -> None:
        """Set a gauge."""
        self.slots[SLOT[name]] = value

    def tick(self) -> None:
        """Tell the watchdog that the loop turns."""
        self.slots[1] = time.monotonic_ns()


class Reader:
    """The supervisor's side: a read-only view that trusts nothing it finds."""

    def __init__(self, descriptor: int) -> None:
        self._map = mmap.mmap(descriptor, SIZE, prot=mmap.PROT_READ)
        self._slots = memoryview(self._map).cast("Q")

    def snapshot(self) -> dict[str, int]:
        """Every counter, clamped to a sane range; all zero when the magic is wrong."""
        if self._slots[0] != MAGIC:
            return dict.fromkeys(COUNTERS, 0)
        return {name: min(self._slots[i], LARGEST) for name, i in SLOT.items()}

    def close(self) -> None:
        """Let the mapping go."""
        self._slots.release()
        self._map.close()
