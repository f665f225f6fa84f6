"""The messages between a worker and its custodian: one byte of kind, a fixed form. Pure: bytes to values and back.

The link is a SOCK_SEQPACKET socket pair, so one message is one datagram. Anything that does not fit raises WireError
and the receiver closes the link. Ids are the worker's, one per upload; replies come in any order.

Worker to custodian                             custodian to worker
  R  reserve: declared size, client, name         G  granted: bytes allowed, beside it a write-only descriptor
  E  extend: bytes received so far                M  more: bytes allowed in all from now on
  C  commit: all received, this many              D  done: the file is complete and under its name
  A  abort: forget it                             X  refused: why; the upload is over (extension: keep what you have)
  Q  ask: as reserve, and nothing is held         M  more: bytes that a reserve would be allowed now
  F  fetch: client, name                          O  opened: size, beside it a read-only descriptor of the file
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

from appliance.errors import WireError

MAX_MESSAGE = 8192
MAX_CLIENT = 64  # bytes of a client's key: an address or a /64
MAX_NAME = 4096  # more than any name that is accepted: the custodian says why


class Reason(IntEnum):
    """Why an upload is refused. What the client is told about each is `ftp.uploads.REPLIES`."""

    NAME_LENGTH = 1
    NAME_TEXT = 2
    NAME_CHARACTER = 3
    NAME_START = 4
    NAME_DENIED = 5
    EXISTS = 6
    SIZE = 7
    QUOTA = 8
    CLIENT_QUOTA = 9
    FILES = 10
    DISK = 11
    BUSY = 12
    INCOMPLETE = 13
    STORE = 14
    ABSENT = 15
    UNDER_WAY = 16
    UNREADABLE = 17
    NAME_SPACE = 18


@dataclass(frozen=True, slots=True)
class Reserve:
    """Begin an upload. `declared` is the size the client announced (ALLO), 0 when it did not."""

    id: int
    declared: int
    client: str
    name: bytes


@dataclass(frozen=True, slots=True)
class Ask:
    """Would this upload be refused? Nothing is held: whoever asks may be a forged address that never sends a byte."""

    id: int
    declared: int
    client: str
    name: bytes


@dataclass(frozen=True, slots=True)
class Fetch:
    """Read a finished upload back; the answer is Opened or Refused, and nothing of it stays behind."""

    id: int
    client: str
    name: bytes


@dataclass(frozen=True, slots=True)
class Extend:
    """Ask for a larger allowance; `received` is what has been written so far."""

    id: int
    received: int


@dataclass(frozen=True, slots=True)
class Commit:
    """The client has ended the data connection in order after `size` bytes."""

    id: int
    size: int


@dataclass(frozen=True, slots=True)
class Abort:
    """The upload failed; remove what there is."""

    id: int


@dataclass(frozen=True, slots=True)
class Granted:
    """The upload may begin; `allowed` bytes in all for now."""

    id: int
    allowed: int


@dataclass(frozen=True, slots=True)
class More:
    """`allowed` bytes in all from now on."""

    id: int
    allowed: int


@dataclass(frozen=True, slots=True)
class Opened:
    """A finished upload of `size` bytes, to be read."""

    id: int
    size: int


@dataclass(frozen=True, slots=True)
class Done:
    """The file is complete, on disk, and under its name."""

    id: int


@dataclass(frozen=True, slots=True)
class Refused:
    """No: see Reason."""

    id: int
    reason: Reason


FromWorker: TypeAlias = Reserve | Ask | Fetch | Extend | Commit | Abort
FromCustodian: TypeAlias = Granted | More | Opened | Done | Refused

_NUMBERS = struct.Struct("!IQ")
_ID = struct.Struct("!I")
_REFUSED = struct.Struct("!IB")
_RESERVE = struct.Struct("!IQB")
_KINDS: dict[type, bytes] = {
    Extend: b"E",
    Commit: b"C",
    Abort: b"A",
    Granted: b"G",
    More: b"M",
    Opened: b"O",
    Done: b"D",
}
_NAMED: dict[type, bytes] = {Reserve: b"R", Ask: b"Q", Fetch: b"F"}


def pack(message: FromWorker | FromCustodian) -> bytes:
    """Turn a message into its datagram. Raises WireError for a client or name that is too long."""
    if isinstance(message, Reserve | Ask | Fetch):
        client = message.client.encode("ascii")
        if not 0 < len(client) <= MAX_CLIENT or len(message.name) > MAX_NAME:
            raise WireError("client or name too long for a message")
        declared = 0 if isinstance(message, Fetch) else message.declared
        head = _NAMED[type(message)] + _RESERVE.pack(message.id, declared, len(client))
        return head + client + message.name
    if isinstance(message, Refused):
        return b"X" + _REFUSED.pack(message.id, message.reason)
    kind = _KINDS[type(message)]
    if isinstance(message, Abort | Done):
        return kind + _ID.pack(message.id)
    second = message.received if isinstance(message, Extend) else _second(message)
    return kind + _NUMBERS.pack(message.id, second)


def _second(message: Commit | Granted | More | Opened) -> int:
    return message.size if isinstance(message, Commit | Opened) else message.allowed


def parse_from_worker(datagram: bytes) -> FromWorker:
    """Read one datagram of a worker. Raises WireError for anything but a well-formed message of that direction."""
    kind, body = datagram[:1], datagram[1:]
    if kind in (b"R", b"Q"):
        return (Reserve if kind == b"R" else Ask)(*_named(body))
    if kind == b"F":
        number, _declared, client, name = _named(body)
        return Fetch(number, client, name)
    if kind == b"A" and len(body) == _ID.size:
        return Abort(*_ID.unpack(body))
    if kind in (b"E", b"C") and len(body) == _NUMBERS.size:
        numbers = _NUMBERS.unpack(body)
        return Extend(*numbers) if kind == b"E" else Commit(*numbers)
    raise WireError(f"message {kind!r} of {len(body)} bytes does not fit")


def _named(body: bytes) -> tuple[int, int, str, bytes]:
    """Id, declared size, client and name."""
    if len(body) < _RESERVE.size:
        raise WireError("message with a name too short")
    upload, declared, length = _RESERVE.unpack_from(body)
    client, name = body[_RESERVE.size :][:length], body[_RESERVE.size + length :]
    if not 0 < len(client) == length <= MAX_CLIENT or len(name) > MAX_NAME:
        raise WireError("message with a bad length")
    if not client.isascii() or not client.decode("ascii").isprintable():
        raise WireError("message with a bad client")
    return upload, declared, client.decode("ascii"), name


def parse_from_custodian(datagram: bytes) -> FromCustodian:
    """Read one datagram of the custodian. Raises WireError for anything but a well-formed message of that direction."""
    kind, body = datagram[:1], datagram[1:]
    if kind == b"D" and len(body) == _ID.size:
        return Done(*_ID.unpack(body))
    if kind in (b"G", b"M", b"O") and len(body) == _NUMBERS.size:
        numbers = _NUMBERS.unpack(body)
        if kind == b"G":
            return Granted(*numbers)
        return More(*numbers) if kind == b"M" else Opened(*numbers)
    if kind == b"X" and len(body) == _REFUSED.size:
        return _refused(*_REFUSED.unpack(body))
    raise WireError(f"message {kind!r} of {len(body)} bytes does not fit")


def _refused(upload: int, number: int) -> Refused:
    try:
        return Refused(upload, Reason(number))
    except ValueError as error:
        raise WireError(f"unknown reason {number}") from error
