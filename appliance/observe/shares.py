"""The sealed memory files behind tallies and pins: one for each worker, written by it alone, read by its siblings.

All have the size of a tally, and a salt where a tally has it.

Invariant: a file is shown to others only when it is sealed as `tables` seals: whoever maps it then can only read.
"""

from __future__ import annotations

import fcntl
import mmap
import os

from appliance.observe import live
from appliance.observe.tables import SEALS
from appliance.observe.tally import SALT_AT, SALT_SIZE, SIZE, Tally


def salt() -> bytes:
    """A salt for one start of the service; workers whose counts are added have the same one."""
    return os.urandom(SALT_SIZE)


def create(name: str, salted: bytes) -> int:
    """Make the file of one worker; returns its descriptor. Raises OSError."""
    descriptor = os.memfd_create(f"appliance-share-{name}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(descriptor, SIZE)
        os.pwrite(descriptor, salted, SALT_AT)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def own(descriptor: int) -> Tally:
    """The tally that its worker publishes in `descriptor`, which is sealed then. Raises OSError."""
    return Tally(seal(descriptor))


def seal(descriptor: int) -> memoryview:
    """Map a file for writing, for the last time. Raises OSError."""
    table = memoryview(mmap.mmap(descriptor, SIZE)).cast("Q")
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, SEALS)
    return table


def blank(name: str) -> int:
    """Make the file for who is on at one worker; returns its descriptor. Raises OSError."""
    descriptor = os.memfd_create(f"appliance-live-{name}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, live.SIZE)
    return descriptor


def own_live(descriptor: int) -> live.Live:
    """The table of who is on that its worker publishes in `descriptor`, which is sealed then. Raises OSError."""
    table = memoryview(mmap.mmap(descriptor, live.SIZE))
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, SEALS)
    return live.Live(table, int.from_bytes(os.urandom(3)) + 1)


def look_live(descriptor: int) -> memoryview:
    """That of a worker, for reading. Raises OSError or ValueError for anything that is none."""
    return memoryview(mmap.mmap(descriptor, live.SIZE, prot=mmap.PROT_READ))


def sealed(descriptor: int) -> bool:
    """Whether nobody can map it for writing any more, or change its size."""
    return fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & SEALS == SEALS


def look(descriptor: int) -> memoryview:
    """The table of a sibling, for reading. Raises OSError or ValueError for anything that is none."""
    return memoryview(mmap.mmap(descriptor, SIZE, prot=mmap.PROT_READ)).cast("Q")
