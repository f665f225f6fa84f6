"""Parse and build TFTP datagrams (RFC 1350 section 5, RFC 2347). parse() returns a packet or raises PacketError.

        2 bytes   string   1   string  1   [ string  1   string  1 ]*
RRQ/WRQ | 1/2 |    name  | 0 |  mode | 0 | [  option | 0 |  value | 0 ]   then NULs, as some ROMs pad
        2 bytes   2 bytes
DATA    |  3  |   block  |  0..65464 bytes
ACK     |  4  |   block  |
ERROR   |  5  |   code   |  text  | 0 |
OACK    |  6  | [ option | 0 |  value | 0 ]*                              only ever sent by us
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple, TypeAlias

# RFC 2347 section 2 allows 512 bytes; ROMs that pad to a fixed buffer stay below one Ethernet frame.
REQUEST_MAX = 2048
BLOCK_MAX = 65464  # RFC 2348
TEXT_MAX = 255  # of a peer's error text; it only ever goes to the log
HEADER = struct.Struct("!HH")


class PacketError(ValueError):
    """The datagram is no packet that a client may send; the text names the first thing that does not fit."""


class Opcode(IntEnum):
    """The first two bytes of every packet (RFC 1350 section 5, RFC 2347)."""

    RRQ = 1
    WRQ = 2
    DATA = 3
    ACK = 4
    ERROR = 5
    OACK = 6


_RRQ, _WRQ, _DATA, _ACK, _ERROR = (int(opcode) for opcode in list(Opcode)[:5])  # enums compare slowly


class ErrorCode(IntEnum):
    """RFC 1350 appendix, and 8 of RFC 2347."""

    UNDEFINED = 0
    NOT_FOUND = 1
    ACCESS = 2
    DISK_FULL = 3
    ILLEGAL = 4
    UNKNOWN_TID = 5
    EXISTS = 6
    NO_USER = 7
    OPTIONS = 8


class Request(NamedTuple):
    """RRQ or WRQ. `mode` is lower-case; `options` stand as they came, in order, names unfolded."""

    write: bool
    name: bytes
    mode: bytes
    options: tuple[tuple[bytes, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Data:
    """One block of an upload."""

    block: int
    payload: bytes


class Ack(NamedTuple):
    """Everything up to `block` (16 bits, so modulo 65536) has arrived."""

    block: int


@dataclass(frozen=True, slots=True)
class Error:
    """The peer gives up. `code` may be any number of 16 bits."""

    code: int
    text: bytes


Packet: TypeAlias = Request | Data | Ack | Error


def parse(datagram: bytes) -> Packet:
    """Read one datagram from a client. Raises PacketError for anything that is not one of the four."""
    if len(datagram) < HEADER.size:
        raise PacketError("shorter than any packet")
    opcode, number = HEADER.unpack_from(datagram)
    if opcode == _ACK:
        return Ack(number)
    if opcode in (_RRQ, _WRQ):
        return _request(opcode == _WRQ, datagram)
    if opcode == _DATA:
        if len(datagram) > HEADER.size + BLOCK_MAX:
            raise PacketError("block too long")
        return Data(number, datagram[HEADER.size :])
    if opcode == _ERROR:
        return Error(number, datagram[HEADER.size :].partition(b"\0")[0][:TEXT_MAX])
    raise PacketError("no opcode that a client sends")


def _request(write: bool, datagram: bytes) -> Request:
    if len(datagram) > REQUEST_MAX:
        raise PacketError("request too long")
    if datagram[-1]:
        raise PacketError("request does not end with NUL")
    fields = datagram[2:-1].split(b"\0")
    if len(fields) < 2:
        raise PacketError("request without a mode")
    if len(fields) == 2:
        return Request(write, fields[0], fields[1].lower())
    # An empty option name is padding, and a name without a value is no option: neither is worth refusing a boot.
    pairs = zip(fields[2::2], fields[3::2], strict=False)
    return Request(write, fields[0], fields[1].lower(), tuple(pair for pair in pairs if pair[0]))


def ack(block: int) -> bytes:
    """An ACK packet; `block` is taken modulo 65536."""
    return HEADER.pack(Opcode.ACK, block & 0xFFFF)


def oack(options: tuple[tuple[bytes, bytes], ...]) -> bytes:
    """An OACK packet (RFC 2347 section 2)."""
    return b"\0\6" + b"".join(name + b"\0" + value + b"\0" for name, value in options)


def error(code: ErrorCode, text: str) -> bytes:
    """An ERROR packet; `text` is one of our constants, ASCII."""
    return HEADER.pack(Opcode.ERROR, code) + text.encode("ascii") + b"\0"
