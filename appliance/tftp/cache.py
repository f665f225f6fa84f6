"""Files asked for more than once, kept cut into packets: any window is one slice and one send.

Guards: bytes are served only for the very file that was opened just now (device, inode, size, mtime and ctime in ns),
and never for one that changed less than SETTLE_NS before: two changes within one tick of the clock look the same.
Memory: at most `capacity` bytes, least recently used out first; an entry in use is never dropped. What is dropped goes
back to the kernel: from malloc's heap, which keeps the holes that pieces of all sizes leave, a worker took 1 MiB more
than it used, after twenty minutes.
"""

from __future__ import annotations

import mmap
import os
from collections import OrderedDict

from appliance.tftp.blocks import RUN_MAX, last_block, stride_of, write_headers
from appliance.tftp.files import OpenFile
from appliance.tftp.options import Agreed
from appliance.tftp.packet import HEADER
from appliance.tftp.sources import SourceError, fill

SETTLE_NS = 2_000_000_000
_SEEN_MAX = 1024
_AHEAD = 64 * 1024  # bytes read at a time: no session waits for a whole file
_OWN_PAGES = 16 * 1024  # bytes, from which on memory is had from the kernel itself
Key = tuple[int, ...]


class CachedFile:
    """One file in packets of one size, shared by all sessions; filled as far as the fastest has come."""

    def __init__(self, file: OpenFile, agreed: Agreed) -> None:
        """Takes over the file's descriptor. Raises MemoryError."""
        self._descriptor, self._payload = file.descriptor, file.size
        self._block, self._rollover = agreed.block_size, agreed.rollover
        self._stride = stride_of(agreed.block_size)
        self._last = last_block(file.size, agreed.block_size)
        self.slots = RUN_MAX
        self.footprint = 0  # shared: the cache counts `size`
        self.length = file.size + self._last * HEADER.size
        self.size = self.length + self._block  # room for a full last block
        self._view = memoryview(_room(self.size))
        self._filled = 0
        self.users = 0
        self.broken = False

    def packets(self, first: int, count: int) -> memoryview:
        end = first + count - 1
        while self._filled < end:
            self._extend(end)
        return self._view[(first - 1) * self._stride : min(end * self._stride, self.length)]

    def _extend(self, end: int) -> None:
        if self.broken:
            raise SourceError("unreadable")
        first = self._filled + 1
        count = min(max(end - self._filled, _AHEAD // self._stride), self._last - self._filled, RUN_MAX)
        at, offset = self._filled * self._stride, self._filled * self._block
        starts = range(at + HEADER.size, at + count * self._stride, self._stride)
        try:
            views = [self._view[start : start + self._block] for start in starts]
            fill(self._descriptor, views, offset, min(count * self._block, self._payload - offset))
        except SourceError:
            self.broken = True
            raise
        write_headers(self._view, at, self._stride, first=first, count=count, rollover=self._rollover)
        self._filled += count
        if self._filled == self._last:
            self._let_go()

    def _let_go(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def close(self) -> None:
        """One session is through with it; the cache keeps it."""
        self.users -= 1
        if self.users == 0 and self.broken:
            self._let_go()

    def discard(self) -> None:
        """Out of the cache."""
        self._let_go()


def _room(size: int) -> bytearray | mmap.mmap:
    """Zeroes, and pages of their own where there are some. Raises MemoryError."""
    if size < _OWN_PAGES:
        return bytearray(size)
    try:
        return mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError:
        return bytearray(size)  # more mappings than a process may have (vm.max_map_count)


class Cache:
    """All cached files of one worker."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._entries: OrderedDict[Key, CachedFile] = OrderedDict()
        self._seen: OrderedDict[Key, None] = OrderedDict()
        self.used = 0

    def lookup(self, file: OpenFile, agreed: Agreed, now_ns: int) -> CachedFile | None:
        """The shared packets of `file`, from its second request on; takes over its descriptor then. None: not cached.

        `now_ns` is the time of day, the same clock that the file system stamps files with.
        """
        key = (*file.identity, agreed.block_size, agreed.rollover)
        entry = self._entries.get(key)
        if entry is None:
            entry = self._admit(key, file, agreed, now_ns)
        elif entry.broken:
            return None
        else:
            self._entries.move_to_end(key)
            file.close()
        if entry is not None:
            entry.users += 1
        return entry

    def _admit(self, key: Key, file: OpenFile, agreed: Agreed, now_ns: int) -> CachedFile | None:
        if key not in self._seen:
            self._seen[key] = None
            if len(self._seen) > _SEEN_MAX:
                self._seen.popitem(last=False)
            return None
        footprint = file.size + last_block(file.size, agreed.block_size) * HEADER.size + agreed.block_size
        if now_ns - file.changed_ns < SETTLE_NS or footprint > self._capacity // 2 or not self._make_room(footprint):
            return None
        try:
            entry = CachedFile(file, agreed)
        except MemoryError:
            return None
        self._entries[key] = entry
        self.used += footprint
        return entry

    def _make_room(self, footprint: int) -> bool:
        for key, entry in list(self._entries.items()):
            if not entry.users and (entry.broken or self.used + footprint > self._capacity):
                self._drop(key)
        return self.used + footprint <= self._capacity

    def _drop(self, key: Key) -> None:
        entry = self._entries.pop(key)
        self.used -= entry.size
        entry.discard()
