"""The headers of many DATA packets at once, written in place by strided slices: 0.4 µs instead of 9 µs for 64 blocks.

A buffer holds packets one after the other, each `HEADER.size + block_size` bytes: a stride.
"""

from __future__ import annotations

from appliance.tftp.packet import HEADER

RUN_MAX = 1024  # packets per write_headers(): also what one preadv takes (IOV_MAX)
_LOW = bytes(range(256)) * (256 + RUN_MAX // 256)
_HIGH = b"".join(bytes((high,)) * 256 for high in range(256)) + b"".join(
    bytes((h,)) * 256 for h in range(RUN_MAX // 256)
)
# Where 1 follows 65535 the numbers repeat after 65535 blocks, and 0 never comes.
_LOW_FROM_1, _HIGH_FROM_1 = _LOW[1:65536] + _LOW[1:RUN_MAX], _HIGH[1:65536] + _HIGH[1:RUN_MAX]


def write_headers(
    buffer: bytearray | memoryview, at: int, stride: int, *, first: int, count: int, rollover: int
) -> None:
    """Write the headers of DATA `first` .. `first + count - 1` (count up to RUN_MAX) from byte `at` of `buffer` on."""
    low, high, index = (_LOW_FROM_1, _HIGH_FROM_1, (first - 1) % 65535) if rollover else (_LOW, _HIGH, first & 0xFFFF)
    end = at + (count - 1) * stride
    buffer[at + 1 : end + 2 : stride] = b"\3" * count
    buffer[at + 2 : end + 3 : stride] = high[index : index + count]
    buffer[at + 3 : end + 4 : stride] = low[index : index + count]


def wire_number(block: int, rollover: int) -> int:
    """The 16-bit number of a block: 0 or 1 follows 65535, as agreed."""
    if not rollover or block == 0:
        return block & 0xFFFF
    return (block - 1) % 65535 + 1


def last_block(size: int, block_size: int) -> int:
    """The number of the last block of a file: the short one, which may be empty (RFC 1350 section 6)."""
    return size // block_size + 1


def stride_of(block_size: int) -> int:
    """Bytes of one full packet."""
    return HEADER.size + block_size
