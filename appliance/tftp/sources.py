"""Where the packets of one transfer come from: views of ready DATA packets, read as the session needs them.

Hot path: one slice per send, one preadv per read-ahead. A session goes back by one window at most: a
source that cannot read again has to keep that much.
"""

from __future__ import annotations

import os
from typing import Protocol

from appliance.tftp import netascii, packet
from appliance.tftp.blocks import RUN_MAX, last_block, stride_of, write_headers
from appliance.tftp.files import OpenFile
from appliance.tftp.options import Agreed
from appliance.tftp.packet import HEADER

_PIECE = 64 * 1024
_DATA = int(packet.Opcode.DATA)


class SourceError(Exception):
    """The bytes cannot be had any more: a read failed, or the file is shorter now than when it was opened."""


class Source(Protocol):
    """What a transfer sends from. `slots`: the most packets that one `packets()` may be asked for."""

    slots: int
    footprint: int  # bytes of memory that are this transfer's alone

    def packets(self, first: int, count: int) -> bytes | memoryview:
        """DATA packets `first` .. `first + count - 1`, one after the other. Raises SourceError."""

    def close(self) -> None:
        """Let the file and the memory go."""


def fill(descriptor: int, views: list[memoryview], offset: int, wanted: int) -> None:
    """Read `wanted` bytes at `offset` into `views` of equal length, in order. Raises SourceError."""
    try:
        got = os.preadv(descriptor, views, offset)
        while got < wanted:  # network and FUSE file systems may give less than asked
            index, inner = divmod(got, len(views[0]))
            more = os.preadv(descriptor, [views[index][inner:], *views[index + 1 :]], offset + got)
            if not more:
                raise SourceError("file truncated")
            got += more
    except OSError as error:
        raise SourceError(error.strerror or "read error") from error


class GapBuffer:
    """Blocks read from the file straight between the headers, some windows ahead."""

    def __init__(self, file: OpenFile, agreed: Agreed, slots: int) -> None:
        """`slots`: packets to hold; fewer are held for a small file."""
        self._file, self._block, self._rollover = file, agreed.block_size, agreed.rollover
        self._last = last_block(file.size, agreed.block_size)
        self._stride = stride_of(agreed.block_size)
        self.resize(slots)

    def resize(self, slots: int) -> None:
        """Hold up to `slots` packets from now on; what was held is read again when it is asked for."""
        self.slots = max(1, min(slots, self._last, RUN_MAX))
        self.footprint = self.slots * self._stride
        self._buffer = bytearray(self.footprint)
        self._view = memoryview(self._buffer)
        starts = range(HEADER.size, self.footprint, self._stride)
        self._blocks = [self._view[start : start + self._block] for start in starts]
        self._first = self._end = 1

    def packets(self, first: int, count: int) -> memoryview:
        if first < self._first or first + count > self._end:
            self._load(first)
        start = (first - self._first) * self._stride
        end = start + count * self._stride
        if first + count > self._last:
            end -= self._block - self._file.size % self._block
        return self._view[start:end]

    def _load(self, first: int) -> None:
        count = min(self.slots, self._last - first + 1)
        offset = (first - 1) * self._block
        self._end = self._first  # nothing is in the buffer if the read fails
        fill(self._file.descriptor, self._blocks[:count], offset, min(count * self._block, self._file.size - offset))
        write_headers(self._buffer, 0, self._stride, first=first, count=count, rollover=self._rollover)
        self._first, self._end = first, first + count

    def close(self) -> None:
        self._file.close()


class Held:
    """A small file that is in memory: packets are cut when they are asked for. It never has a block 65536."""

    def __init__(self, content: bytes, agreed: Agreed) -> None:
        self._content, self._block = content, agreed.block_size
        self.slots, self.footprint = RUN_MAX, 0  # the content is not this transfer's alone

    def packets(self, first: int, count: int) -> bytes:
        block, content = self._block, self._content
        at = (first - 1) * block
        if count == 1:
            return HEADER.pack(_DATA, first) + content[at : at + block]
        starts = range(at, at + count * block, block)
        return b"".join([HEADER.pack(_DATA, first + i) + content[a : a + block] for i, a in enumerate(starts)])

    def close(self) -> None:
        pass  # nothing is held


class NetasciiSource:
    """Encoded as it is read; where the last block is shows only at the end of the file."""

    def __init__(self, file: OpenFile, agreed: Agreed) -> None:
        self._file, self._block, self._rollover = file, agreed.block_size, agreed.rollover
        self._window = agreed.window
        self._stride = stride_of(agreed.block_size)
        self._last: int | None = None
        self.slots = min(RUN_MAX, max(1, _PIECE // self._stride))
        # One window back and one ahead, what is read beyond them (encoded it is twice as long), and what it is made of.
        most = min(2 * file.size, 2 * (agreed.window + 1) * self._stride + 2 * _PIECE)
        self.footprint = most + min(most, 2 * _PIECE) + self._stride
        self._encoded = bytearray()  # from block `_first` on
        self._first = 1
        self._offset = 0

    def known(self, first: int, count: int) -> int | None:
        """The number of the last block, as far as reading up to block `first + count - 1` tells it."""
        self._drop_before(first - self._window)
        while self._last is None and len(self._encoded) < (first - self._first + count + 1) * self._block:
            self._read()
        return self._last

    def packets(self, first: int, count: int) -> memoryview:
        self.known(first, count)
        packets = bytearray(count * self._stride)
        write_headers(packets, 0, self._stride, first=first, count=count, rollover=self._rollover)
        for index in range(count):
            at = (first - self._first + index) * self._block
            piece = self._encoded[at : at + self._block]
            start = index * self._stride + HEADER.size
            packets[start : start + self._block] = piece  # the last one is short, and so is what is returned
        return memoryview(packets)

    def _drop_before(self, first: int) -> None:
        if first > self._first:
            del self._encoded[: (first - self._first) * self._block]
            self._first = first

    def _read(self) -> None:
        content, length = self._file.content, min(_PIECE, self._file.size - self._offset)
        if content is None:
            piece = bytearray(length)
            fill(self._file.descriptor, [memoryview(piece)], self._offset, length)
        else:
            piece = bytearray(content[self._offset : self._offset + length])
        self._offset += length
        self._encoded += netascii.encode(piece)
        if self._offset == self._file.size:
            self._last = self._first - 1 + last_block(len(self._encoded), self._block)

    def close(self) -> None:
        self._file.close()
