"""Which source a transfer reads from, and the memory that all transfers of one worker may use together."""

from __future__ import annotations

import time

from appliance.tftp.blocks import RUN_MAX, last_block, stride_of
from appliance.tftp.cache import Cache
from appliance.tftp.files import OpenFile
from appliance.tftp.options import Agreed
from appliance.tftp.sources import GapBuffer, Held, NetasciiSource, Source, SourceError

_AHEAD = 64 * 1024
_AHEAD_CROWDED = 16 * 1024
_CROWD = 64  # transfers, from which on each reads less ahead
_UNCONFIRMED = 8 * 1024  # while nobody knows whether the requester exists


class Supply:
    """Sources for the transfers of one worker; `capacity` bytes, one half for the cache, one for read-ahead."""

    def __init__(self, capacity: int) -> None:
        self._cache = Cache(capacity // 2)
        self._capacity = capacity - capacity // 2
        self._crowd = 0
        self.used = 0

    def source(self, file: OpenFile, agreed: Agreed, *, netascii: bool, confirmed: bool) -> Source:
        """Open the source of a transfer; it owns the file's descriptor from then on.

        Raises SourceError when there is no memory, leaving the descriptor with the caller.
        """
        source: Source | None
        if netascii:
            source = NetasciiSource(file, agreed)
        elif file.content is not None:
            source = Held(file.content, agreed)
        else:
            source = self._cache.lookup(file, agreed, time.time_ns())
            if source is None:
                source = GapBuffer(file, agreed, self._slots(file, agreed, confirmed))
        if self.used + source.footprint > self._capacity:
            raise SourceError("out of memory")
        self.used += source.footprint
        self._crowd += 1
        return source

    def confirmed(self, source: Source, file: OpenFile, agreed: Agreed) -> None:
        """The client of a transfer exists: read ahead for it as for everybody."""
        if isinstance(source, GapBuffer) and (slots := self._slots(file, agreed, True)) > source.slots:
            self.used -= source.footprint
            source.resize(slots)
            self.used += source.footprint

    def release(self, source: Source) -> None:
        """The transfer is over."""
        self._crowd -= 1
        self.used -= source.footprint
        source.close()

    @property
    def crowd(self) -> int:
        """Transfers that hold memory now."""
        return self._crowd

    def borrow(self, footprint: int) -> bool:
        """Memory for a write; False when there is none. What was borrowed is paid back once."""
        if self.used + footprint > self._capacity:
            return False
        self.used += footprint
        self._crowd += 1
        return True

    def repay(self, footprint: int) -> None:
        """The memory of a write is free again; of one that has borrowed nothing, nothing."""
        if footprint:
            self.used -= footprint
            self._crowd -= 1

    def _slots(self, file: OpenFile, agreed: Agreed, confirmed: bool) -> int:
        """Packets to hold: whole windows; one where memory is short, so that it becomes slow instead of failing."""
        stride = stride_of(agreed.block_size)
        ahead = (_AHEAD if self._crowd < _CROWD else _AHEAD_CROWDED) if confirmed else _UNCONFIRMED
        most = min(last_block(file.size, agreed.block_size), RUN_MAX)
        for windows in (max(1, ahead // (stride * agreed.window)), 1):
            slots = min(windows * agreed.window, most)
            if self.used + slots * stride <= self._capacity:
                return slots
        return 1
