"""What the worker and the runner say to each other. Pure: values to bytes and back; WireError for anything else.

An order names a hook by its number and never a program: which programs there are, the runner was told at its birth.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import Enum

from appliance.errors import WireError

DOCUMENT_MAX = 96 << 10  # bytes of one event as JSON
OUTPUT_MAX = 2000  # bytes of what a program says that are kept
MESSAGE_MAX = DOCUMENT_MAX + 64
READY = b"ready"
_ORDER = struct.Struct("!IH")
_RESULT = struct.Struct("!IBiI")


class End(Enum):
    """How a run ended; `value` of a result is the exit code, the signal, or the errno of a program that never began."""

    EXITED = 0
    SIGNALLED = 1
    TIME_LIMIT = 2
    NOT_STARTED = 3
    LOST = 4  # whoever watched it has died


@dataclass(frozen=True, slots=True)
class Order:
    """Run program `hook` with this document on its standard input."""

    run: int
    hook: int
    document: bytes


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a run; `output` is the beginning of what the program wrote."""

    run: int
    end: End
    value: int
    ms: int
    output: bytes

    @property
    def well(self) -> bool:
        """It did what it was to do."""
        return self.end is End.EXITED and self.value == 0


def pack_order(order: Order) -> bytes:
    """As one message."""
    return _ORDER.pack(order.run, order.hook) + order.document


def order_of(message: bytes) -> Order:
    """The order that `pack_order` made."""
    if not _ORDER.size <= len(message) <= _ORDER.size + DOCUMENT_MAX:
        raise WireError(f"an order of {len(message)} bytes")
    run, hook = _ORDER.unpack_from(message)
    return Order(run, hook, message[_ORDER.size :])


def pack_result(result: Result) -> bytes:
    """As one message."""
    head = _RESULT.pack(result.run, result.end.value, result.value, min(result.ms, 0xFFFFFFFF))
    return head + result.output[:OUTPUT_MAX]


def result_of(message: bytes) -> Result:
    """The result that `pack_result` made."""
    if not _RESULT.size <= len(message) <= _RESULT.size + OUTPUT_MAX:
        raise WireError(f"a result of {len(message)} bytes")
    run, end, value, ms = _RESULT.unpack_from(message)
    if end > End.LOST.value:
        raise WireError(f"a run that ended as {end}")
    return Result(run, End(end), value, ms, message[_RESULT.size :])
