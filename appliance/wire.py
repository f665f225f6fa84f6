"""The messages between the supervisor and its children: one byte of kind, a fixed form, descriptors beside it.

Pure: bytes to values and back. Anything that does not fit raises WireError, and the receiver ends the sender. The
channel is a SOCK_SEQPACKET socket pair, so one message is one datagram and the channel itself is the identity.

Supervisor to child                          child to supervisor
  S  start: JSON, first message, once           r  ready: what is in force (fixed form)
  A  adopt: listeners of a sibling in back-off  q  request: a privileged request (fixed form, one descriptor)
  U  give the adopted listeners back            f  the status child asks for the facts
  L  link: a new peer channel (slot number, name of the peer)
  T  share: the table of a sibling, to be read (its number, what it tells)
  X  unshare: that table tells nothing any more
  D  drain: finish within so many ms
  R  reply to a request (errno, descriptor)
  F  facts for the status child: JSON
  O  open: the record file, opened anew
  B  ban: a client, and for how long            b  offence: a worker asks for a ban
  E  tell: an event, for the events service
  P  published: the release in force
  V  view: the table of who is on at a worker, to be read (its number, name of the worker)
  W  unview: that worker is gone
  K  kick: end a transfer or session
  N  address: of a name                         n  resolved: the address of a name, 0.0.0.0 for none
  Y  one-shot: how much of it may be served     y  the keeper says how much of a one-shot may be served
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from appliance.errors import WireError
from appliance.published.layers import is_id

MAX_MESSAGE = 128 * 1024
MAX_FDS = 200
TALLY, PINS = 0, 1  # what a table tells


@dataclass(frozen=True, slots=True)
class Start:
    """Everything a child is born with; `fds` names the descriptors that came beside it, in order."""

    service: str
    index: int
    main: str
    settings: dict[str, Any]
    confinement: dict[str, Any]
    fds: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Adopt:
    """Serve these listeners too: worker `slot` of the same service is in back-off."""

    slot: int


@dataclass(frozen=True, slots=True)
class Unadopt:
    """Close the listeners adopted for `slot`; its worker is back."""

    slot: int


@dataclass(frozen=True, slots=True)
class Link:
    """A channel to a peer: to the service `name` (slot 0); or in that service, from worker `name`, which has `slot`."""

    slot: int
    name: str = ""


@dataclass(frozen=True, slots=True)
class Share:
    """The table of a sibling, a descriptor that can only be read: what stands there counts too. `number` names it.

    `what` it tells: TALLY, what clients were given, or PINS, which releases they are pinned to.
    """

    number: int
    what: int


@dataclass(frozen=True, slots=True)
class Unshare:
    """The sibling of table `number` is gone, and what it had given out or pinned with it."""

    number: int
    what: int


@dataclass(frozen=True, slots=True)
class Reopened:
    """The record file was opened anew, a descriptor that only appends: write there from now on."""


@dataclass(frozen=True, slots=True)
class Drain:
    """Take no new client; leave when the running transfers are done, at the latest after `milliseconds`."""

    milliseconds: int


@dataclass(frozen=True, slots=True)
class Reply:
    """Answer to privileged request `id`: `errno` 0 and one descriptor, or the reason of the refusal."""

    id: int
    errno: int


@dataclass(frozen=True, slots=True)
class Facts:
    """The state of everything, as JSON, for the status child."""

    text: bytes


@dataclass(frozen=True, slots=True)
class Ready:
    """The child is confined, has proven it, and serves from now on. `layers` is a set of confine.report bits."""

    layers: int
    landlock_abi: int
    syscalls: int


@dataclass(frozen=True, slots=True)
class Request:
    """A privileged request: number `kind` of the supervisor's table, one 16-bit argument, one descriptor beside it."""

    id: int
    kind: int
    argument: int


@dataclass(frozen=True, slots=True)
class Query:
    """The status child asks for the facts."""


@dataclass(frozen=True, slots=True)
class Offence:
    """A client has misbehaved too often: it should not be served for so many seconds."""

    seconds: int
    client: str


@dataclass(frozen=True, slots=True)
class Ban:
    """Do not serve this client for so many seconds from now on; 0 lifts an earlier ban."""

    seconds: int
    client: str


@dataclass(frozen=True, slots=True)
class Tell:
    """Something happened in the supervisor: an event of observe.events, as its bytes."""

    event: bytes


@dataclass(frozen=True, slots=True)
class Release:
    """This release is in force from now on, and overlay `overlay` with it.

    `number` names the release among those of this run of the supervisor, which clients may be pinned to.
    """

    number: int
    overlay: int
    id: str


@dataclass(frozen=True, slots=True)
class View:
    """Who is on at worker `name`, a descriptor that can only be read. `number` names the table."""

    number: int
    name: str = ""


@dataclass(frozen=True, slots=True)
class Unview:
    """The worker of table `number` is gone."""

    number: int


@dataclass(frozen=True, slots=True)
class Kick:
    """End the transfer or session that has this number in the table of who is on."""

    number: int


@dataclass(frozen=True, slots=True)
class Resolved:
    """The resolver has looked a name up: an IPv4 address, or 0.0.0.0 when that failed."""

    address: str
    name: str


@dataclass(frozen=True, slots=True)
class Address:
    """The IPv4 address that a name of the configuration has from now on."""

    address: str
    name: str


@dataclass(frozen=True, slots=True)
class Used:
    """The keeper says how much of what belongs to one-shot boot `key` may be served: boot.oneshot.NOTHING to ALL."""

    key: int
    serves: int


@dataclass(frozen=True, slots=True)
class OneShot:
    """How much of what belongs to one-shot boot `key` may be served. Of one that nobody spoke of, nothing."""

    key: int
    serves: int


FromSupervisor: TypeAlias = (
    Start
    | Adopt
    | Unadopt
    | Link
    | Share
    | Unshare
    | Reopened
    | Drain
    | Reply
    | Facts
    | Ban
    | Tell
    | View
    | Unview
    | Kick
    | Release
    | Address
    | OneShot
)
FromChild: TypeAlias = Ready | Request | Query | Offence | Resolved | Used
Message: TypeAlias = FromSupervisor | FromChild

_FIXED: dict[type, tuple[bytes, struct.Struct]] = {
    Adopt: (b"A", struct.Struct("!H")),
    Unadopt: (b"U", struct.Struct("!H")),
    Share: (b"T", struct.Struct("!IB")),
    Unshare: (b"X", struct.Struct("!IB")),
    Reopened: (b"O", struct.Struct("")),
    Unview: (b"W", struct.Struct("!I")),
    Kick: (b"K", struct.Struct("!Q")),
    Drain: (b"D", struct.Struct("!I")),
    Reply: (b"R", struct.Struct("!Ii")),
    Ready: (b"r", struct.Struct("!IBH")),
    Request: (b"q", struct.Struct("!IBH")),
    Query: (b"f", struct.Struct("")),
    Used: (b"y", struct.Struct("!QB")),
    OneShot: (b"Y", struct.Struct("!QB")),
}
_BY_KIND = {kind: (cls, form) for cls, (kind, form) in _FIXED.items()}
FROM_CHILD = (Ready, Request, Query, Used)
CLIENT_MAX = 64  # bytes of a client's key: an address or a /64
NAME_MAX = 64  # bytes of the name of a worker
_NUMBER = struct.Struct("!I")  # seconds, or a slot
_NUMBERS = struct.Struct("!II")
HOST_NAME_MAX = 253  # of a DNS name, RFC 1035 section 2.3.4
_IPV4 = struct.Struct("!4B")


def pack(message: Message) -> bytes:
    """Turn a message into its datagram."""
    if isinstance(message, Start):
        fields = {name: getattr(message, name) for name in Start.__slots__}
        return b"S" + json.dumps(fields).encode()
    if isinstance(message, Facts):
        return b"F" + message.text
    if isinstance(message, Tell):
        return b"E" + message.event
    if isinstance(message, Link):
        return b"L" + _NUMBER.pack(message.slot) + message.name.encode("ascii")
    if isinstance(message, View):
        return b"V" + _NUMBER.pack(message.number) + message.name.encode("ascii")
    if isinstance(message, Offence | Ban):
        kind = b"b" if isinstance(message, Offence) else b"B"
        return kind + _NUMBER.pack(message.seconds) + message.client.encode("ascii")
    if isinstance(message, Release):
        return b"P" + _NUMBERS.pack(message.number, message.overlay) + message.id.encode("ascii")
    if isinstance(message, Resolved | Address):
        kind = b"n" if isinstance(message, Resolved) else b"N"
        return kind + _IPV4.pack(*map(int, message.address.split("."))) + message.name.encode("ascii")
    kind, form = _FIXED[type(message)]
    return kind + form.pack(*(getattr(message, name) for name in type(message).__slots__))


def parse(datagram: bytes, *, from_child: bool) -> Message:
    """Read one datagram. Raises WireError for anything but a well-formed message of that direction."""
    kind, body = datagram[:1], datagram[1:]
    if kind in _BY_KIND:
        cls, form = _BY_KIND[kind]
        if (cls in FROM_CHILD) != from_child or len(body) != form.size:
            raise WireError(f"message {kind!r} of {len(body)} bytes does not fit")
        message: Message = cls(*form.unpack(body))
        return message
    if kind in (b"b", b"B") and (kind == b"b") == from_child:
        return Offence(*_client(body)) if from_child else Ban(*_client(body))
    if kind == b"P" and not from_child:
        return _release(body)
    if kind in (b"n", b"N") and (kind == b"n") == from_child:
        return Resolved(*_name(body)) if from_child else Address(*_name(body))
    if from_child or kind not in _BY_NAME:
        raise WireError(f"unknown message {kind!r}")
    return _BY_NAME[kind](body)


def client_key(text: str) -> bool:
    """Whether this may be a client's key: nothing that a file name, a terminal or a log would take for more."""
    return 0 < len(text) <= CLIENT_MAX and not set(text) - set("0123456789abcdef.:/")


def _client(body: bytes) -> tuple[int, str]:
    text = body[_NUMBER.size :].decode("latin-1")
    if not client_key(text):
        raise WireError("a ban of nobody")
    return _NUMBER.unpack_from(body)[0], text


def _named(body: bytes) -> tuple[int, str]:
    name = body[_NUMBER.size :].decode("latin-1")
    if len(body) < _NUMBER.size or len(name) > NAME_MAX or not name.isascii() or not (name or " ").isprintable():
        raise WireError("a link to nobody")
    return _NUMBER.unpack_from(body)[0], name


def _link(body: bytes) -> Link:
    return Link(*_named(body))


def _view(body: bytes) -> View:
    return View(*_named(body))


def _release(body: bytes) -> Release:
    text = body[_NUMBERS.size :].decode("latin-1")
    if not is_id(text):
        raise WireError("a release without a name")
    number, overlay = _NUMBERS.unpack_from(body)
    return Release(number, overlay, text)


def _name(body: bytes) -> tuple[str, str]:
    text = body[_IPV4.size :].decode("latin-1")
    if not 0 < len(text) <= HOST_NAME_MAX or set(text) - set("abcdefghijklmnopqrstuvwxyz0123456789-."):
        raise WireError("an address of nothing")
    return ".".join(map(str, _IPV4.unpack_from(body))), text


def _start(body: bytes) -> Start:
    try:
        fields = json.loads(body)
        return Start(**{**fields, "fds": tuple(fields["fds"])})
    except (ValueError, TypeError, KeyError) as error:
        raise WireError(f"bad start message: {error}") from error


_BY_NAME: dict[bytes, Callable[[bytes], Message]] = {b"S": _start, b"F": Facts, b"L": _link, b"V": _view, b"E": Tell}
