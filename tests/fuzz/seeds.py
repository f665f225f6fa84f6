"""What the mutators begin with: every packet a client may send, and what ended other servers."""

from __future__ import annotations

import struct

from tests.tftp.client import ack, rrq
from tests.tftp.test_packet import KILLERS

ALL = {"blksize": 1400, "windowsize": 4, "tsize": 0, "timeout": 1, "rollover": 1}
REQUESTS = [
    rrq("boot"),
    rrq("boot", {"blksize": 8}),
    rrq("boot", {"blksize": 65464, "windowsize": 64}),
    rrq("big", ALL),
    rrq("big", {"BLKSIZE2": 2000, "utimeout": 20000}),
    rrq("big", {"windowsize": 16}, mode="netascii"),
    rrq("empty", {"tsize": 0}),
    rrq("dir"),
    rrq("fifo"),
    rrq("missing"),
    rrq("..\\up"),
    rrq("up", opcode=2),
    rrq("up", ALL, opcode=2),
    rrq("dir", opcode=2),
    rrq("boot", {"blksize": 512}, mode="netascii", opcode=2),
]


def data(block: int, content: bytes) -> bytes:
    """A block, as a client sends it when it uploads."""
    return struct.pack("!HH", 3, block) + content


INSIDE = [
    *(ack(block) for block in (0, 1, 2, 3, 4, 16, 65535)),
    *(data(block, b"x" * size) for block, size in ((0, 0), (1, 8), (1, 512), (2, 511), (65535, 1400))),
    b"\0\5\0\0stop\0",
    b"\0\5\0\x08no\0",
    b"\0\6blksize\x00512\0",
    b"\0\4\0",
]
SEEDS = [*REQUESTS, *INSIDE, *KILLERS]
