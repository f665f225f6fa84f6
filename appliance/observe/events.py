"""What happens, as values and as datagrams: the events that workers tell, and the records made of them. Pure.

A datagram holds one or more frames: two bytes of length, then an event (from a worker) or a record (to a subscriber).
An event says itself how many numbers and texts follow: fields are only ever added, numbers behind numbers and texts
behind texts, so older and newer code understand each other: what is missing is 0 or empty, what is unknown is left out.
Texts are bytes as the client sent them; `plain` is where they become printable.

Invariant: `decode`, `decode_record` and `split` raise WireError for anything else, and whatever they return is within
the bounds below.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any, NamedTuple, TypeAlias

from appliance.errors import WireError
from appliance.observe.text import printable

VERSION = 1
DATAGRAM_MAX = 32 << 10  # bytes of a datagram
TEXT_MAX = 1000  # bytes of one text; longer ones are cut
EVENT_MAX = 16 << 10
_FIELDS_MAX = 32  # numbers, and texts
_LARGEST = (1 << 63) - 1
_UNKNOWN = -1  # the one number below 0: not known

Number: TypeAlias = int
Text: TypeAlias = bytes


class Started(NamedTuple):
    """A transfer is under way, and has been for so long that somebody may want to see it. Short ones only end."""

    number: Number = 0  # of the transfer, in its worker
    size: Number = 0  # bytes of the file; -1 unknown
    bytes: Number = 0  # that have arrived for certain
    blksize: Number = 0  # as agreed; 0 for FTP
    windowsize: Number = 0
    port: Number = 0  # the client's
    client: Text = b""  # address
    mac: Text = b""  # where the name that was asked for, or the neighbour table, tells it
    verb: Text = b""  # RRQ, WRQ, RETR, STOR, APPE, LIST, NLST, MLSD
    file: Text = b""  # as asked for
    path: Text = b""  # what was served, inside the service's root
    layer: Text = b""  # where that lies: once, overlay, release, static, uploads
    release: Text = b""  # ID of the release that the client is pinned to


class Ended(NamedTuple):
    """A transfer is over: a download, an upload, a listing."""

    number: Number = 0
    size: Number = 0
    bytes: Number = 0
    blksize: Number = 0
    windowsize: Number = 0
    port: Number = 0
    ms: Number = 0  # from the request to the end
    retransmits: Number = 0  # blocks sent again
    acknowledged: Number = 0  # 1: the client has confirmed the last byte (TFTP), or took all of it (FTP)
    client: Text = b""
    mac: Text = b""
    verb: Text = b""
    file: Text = b""
    path: Text = b""
    layer: Text = b""
    release: Text = b""
    outcome: Text = b""  # done, probe, or why it failed


class Refused(NamedTuple):
    """A request was refused, or a connection or a log-in turned away."""

    port: Number = 0
    repeated: Number = 0  # how many like this were not told since the last one
    client: Text = b""
    mac: Text = b""
    verb: Text = b""
    file: Text = b""
    cause: Text = b""  # for the operator; the client is told a constant


class Unanswered(NamedTuple):
    """A request was answered, and nobody was heard: forged, or something eats the replies."""

    port: Number = 0
    repeated: Number = 0
    blksize: Number = 0  # as offered
    client: Text = b""
    mac: Text = b""
    file: Text = b""


class Dropped(NamedTuple):
    """A datagram got no answer at all."""

    port: Number = 0
    repeated: Number = 0
    client: Text = b""
    cause: Text = b""


class Session(NamedTuple):
    """An FTP session is over."""

    ms: Number = 0
    files: Number = 0
    bytes: Number = 0
    port: Number = 0
    client: Text = b""
    tls: Text = b""  # version, where there was one
    reason: Text = b""


class Stored(NamedTuple):
    """An upload is complete, durable and under its name."""

    bytes: Number = 0
    ms: Number = 0
    client: Text = b""
    name: Text = b""


class Ban(NamedTuple):
    """A client is not served for so many seconds; 0 lifts an earlier ban."""

    seconds: Number = 0
    client: Text = b""
    by: Text = b""  # the service that asked, or administrator


class Worker(NamedTuple):
    """A worker began to serve, died or was replaced."""

    worker: Number = 0
    pid: Number = 0
    restarts: Number = 0
    lost: Number = 0  # transfers or sessions that ended with it
    service: Text = b""
    state: Text = b""  # serving, died, hangs
    why: Text = b""


class Reload(NamedTuple):
    """The configuration was read again."""

    done: Number = 0  # 0: refused, and nothing was changed
    text: Text = b""


class Published(NamedTuple):
    """Another release is in force."""

    overlay: Number = 0
    release: Text = b""
    before: Text = b""
    note: Text = b""


class Machine(NamedTuple):
    """A machine that boots has come to another state."""

    ms: Number = 0  # since it was first heard in this boot
    bytes: Number = 0
    machine: Text = b""  # its name
    mac: Text = b""
    client: Text = b""
    state: Text = b""  # armed, loaded, confirmed, expired, stalled, booted
    file: Text = b""
    detail: Text = b""
    remedy: Text = b""


class Fault(NamedTuple):
    """Something of the appliance itself does not work, or works again."""

    over: Number = 0  # 1: it works again
    errno: Number = 0
    part: Text = b""  # history, log, a service
    what: Text = b""
    remedy: Text = b""


class Dhcp(NamedTuple):
    """Our DHCP server has answered: gave an address, or told a machine what to load."""

    pxe: Number = 0  # 1: a machine that boots from the network
    mac: Text = b""
    client: Text = b""  # the address it was given, or has
    message: Text = b""  # DHCPACK, DHCPOFFER, PXE, ...
    interface: Text = b""
    file: Text = b""  # that it was told to load


class Lost(NamedTuple):
    """So many events were not told or not kept."""

    events: Number = 0
    cause: Text = b""  # rate: more than are told in a second; queue: nobody took them in time; disk


Event: TypeAlias = (
    Started | Ended | Refused | Unanswered | Dropped | Session | Stored | Ban | Worker | Reload | Published | Machine
    | Fault | Lost | Dhcp
)  # fmt: skip


class Record(NamedTuple):
    """An event as it is kept and passed on: numbered, with the time at which it was heard, and from whom."""

    number: int
    at_ms: int  # milliseconds since the epoch
    source: str  # service.index of the worker, or supervisor
    event: Event


NAMES: dict[type[Any], str] = {
    Started: "start",
    Ended: "transfer",
    Refused: "refused",
    Unanswered: "unanswered",
    Dropped: "dropped",
    Session: "session",
    Stored: "stored",
    Ban: "ban",
    Worker: "worker",
    Reload: "reload",
    Published: "published",
    Machine: "machine",
    Fault: "fault",
    Lost: "lost",
    Dhcp: "dhcp",
}
_SERVER: frozenset[type[Any]] = frozenset({Started, Ended, Refused, Unanswered, Dropped, Session, Lost})
_CUSTODY: frozenset[type[Any]] = frozenset({Stored, Refused, Lost})
_BOOT: frozenset[type[Any]] = frozenset({Machine, Lost})
# what each service may tell; the channel says who speaks, so a worker cannot tell of bans or of its siblings
MAY_TELL: dict[str, frozenset[type[Any]]] = {
    "tftp": _SERVER,
    "ftp": _SERVER,
    "custody": _CUSTODY,
    "tftp-custody": _CUSTODY,
    "boot": _BOOT,
    "keeper": _BOOT,
    "dhcp": frozenset({Dhcp, Lost}),
    "board": _BOOT,
    "hooks": _BOOT,
    "supervisor": frozenset({Ban, Worker, Reload, Published, Fault, Lost}),
}
SUBSCRIBERS = ("boot", "keeper", "board", "hooks")  # services that are passed every record over their link


class _Shape(NamedTuple):
    kind: int
    numbers: int
    texts: int
    form: struct.Struct
    frame: struct.Struct  # the same behind two bytes of length
    opening: int  # the first four bytes as one number, which packs faster


_HEAD = struct.Struct("!BBBB")  # kind, version, how many numbers, how many texts
_LENGTH = struct.Struct("!H")
_RECORD = struct.Struct("!QQB")
_SOURCE_MAX = 64


def _shape(kind: int, event: type[Any]) -> _Shape:
    defaults = list(event._field_defaults.values())
    numbers, texts = defaults.count(0), defaults.count(b"")
    fields = f"{numbers}q{texts}H"
    opening = int.from_bytes(_HEAD.pack(kind, VERSION, numbers, texts), "big")
    return _Shape(kind, numbers, texts, struct.Struct(f"!BBBB{fields}"), struct.Struct(f"!HI{fields}"), opening)


_SHAPES = {event: _shape(kind, event) for kind, event in enumerate(NAMES, 1)}
_BY_KIND = {shape.kind: event for event, shape in _SHAPES.items()}


def encode(event: Event) -> bytes:
    """An event as bytes; texts are cut. Raises ValueError for a number of more than 63 bits."""
    return frame(event)[_LENGTH.size :]


def frame(event: Event) -> bytes:
    """An event as a frame of a datagram, in one step. Raises ValueError as `encode` does."""
    _kind, numbers, _texts, form, framed, opening = _SHAPES[type(event)]
    words: tuple[Any, ...] = event[numbers:]
    if type(event) is Ended:
        return frame_ended(event[:numbers], words)
    body = b"".join(words)
    if len(body) > TEXT_MAX:
        words, body = _cut(words)
    try:
        return framed.pack(form.size + len(body), opening, *event[:numbers], *map(len, words)) + body
    except struct.error as error:
        raise ValueError(str(error)) from error


def _cut(texts: tuple[bytes, ...]) -> tuple[tuple[bytes, ...], bytes]:
    """Texts of which one may be too long, none of them too long, and all of them together."""
    cut = tuple(text[:TEXT_MAX] for text in texts)
    return cut, b"".join(cut)


_ENDED_SIZE, _pack_ended, _ENDED_OPENING = _SHAPES[Ended][3].size, _SHAPES[Ended][4].pack, _SHAPES[Ended][5]


def frame_ended(numbers: tuple[Any, ...], texts: tuple[Any, ...]) -> bytes:
    """The frame of an `Ended` out of all its values, in order. Raises ValueError as `encode` does.

    Nearly all events are such: spelled out it takes two thirds of the time, and needs no `Ended` made for it.
    """
    body = b"".join(texts)
    if len(body) > TEXT_MAX:
        texts, body = _cut(texts)
    number, size, moved, blksize, windowsize, port, ms, retransmits, acknowledged = numbers
    client, mac, verb, file, path, layer, release, outcome = texts
    try:
        head = _pack_ended(
            _ENDED_SIZE + len(body), _ENDED_OPENING,
            number, size, moved, blksize, windowsize, port, ms, retransmits, acknowledged,
            len(client), len(mac), len(verb), len(file), len(path), len(layer), len(release), len(outcome),
        )  # fmt: skip
    except struct.error as error:
        raise ValueError(str(error)) from error
    return head + body


def decode(datagram: bytes) -> Event:
    """The event that `encode` made, by this version or another. Raises WireError."""
    if not _HEAD.size <= len(datagram) <= EVENT_MAX:
        raise WireError(f"an event of {len(datagram)} bytes")
    kind, _version, numbers, texts = _HEAD.unpack_from(datagram)
    event = _BY_KIND.get(kind)
    if event is None or numbers > _FIELDS_MAX or texts > _FIELDS_MAX:
        raise WireError(f"no event: kind {kind}, {numbers} numbers, {texts} texts")
    shape = _SHAPES[event]
    form = shape.form if (numbers, texts) == shape[1:3] else struct.Struct(f"!BBBB{numbers}q{texts}H")
    at = form.size
    if len(datagram) < at:
        raise WireError("an event that breaks off")
    fields = form.unpack_from(datagram)
    values: list[Any] = list(fields[4 : 4 + min(numbers, shape.numbers)])
    if values and min(values) < _UNKNOWN:
        values = [max(_UNKNOWN, number) for number in values]
    values += [0] * (shape.numbers - len(values))
    for length in fields[4 + numbers :]:
        if length > TEXT_MAX:
            raise WireError(f"a text of {length} bytes")
        values.append(datagram[at : at + length])
        at += length
    if at != len(datagram):
        raise WireError("an event that is longer or shorter than it says")
    values += [b""] * (shape.numbers + shape.texts - len(values))
    made: Event = event._make(values[: shape.numbers + shape.texts])
    return made


def encode_record(record: Record) -> bytes:
    """A record as bytes."""
    source = record.source.encode("ascii")
    return _RECORD.pack(record.number, record.at_ms, len(source)) + source + encode(record.event)


def decode_record(datagram: bytes) -> Record:
    """The record that `encode_record` made. Raises WireError."""
    if len(datagram) < _RECORD.size:
        raise WireError("a record that breaks off")
    number, at_ms, length = _RECORD.unpack_from(datagram)
    end = _RECORD.size + length
    source = datagram[_RECORD.size : end].decode("latin-1")
    if length > _SOURCE_MAX or not source.isascii() or not source.isprintable():
        raise WireError("a record of nobody")
    return Record(min(number, _LARGEST), min(at_ms, _LARGEST), source, decode(datagram[end:]))


def join(frames: Iterable[bytes]) -> list[bytes]:
    """Frames as datagrams of at most DATAGRAM_MAX bytes."""
    datagrams: list[bytes] = []
    held: list[bytes] = []
    size = 0
    for frame in frames:
        if size + len(frame) + _LENGTH.size > DATAGRAM_MAX:
            datagrams.append(b"".join(held))
            held, size = [], 0
        held += (_LENGTH.pack(len(frame)), frame)
        size += len(frame) + _LENGTH.size
    return [*datagrams, b"".join(held)] if held else datagrams


def split(datagram: bytes) -> list[bytes]:
    """The frames of a datagram. Raises WireError."""
    frames, at, end = [], 0, len(datagram)
    while at < end:
        if end - at < _LENGTH.size:
            raise WireError("a datagram that breaks off")
        length = _LENGTH.unpack_from(datagram, at)[0]
        at += _LENGTH.size
        if not 0 < length <= end - at:
            raise WireError(f"a frame of {length} bytes where {end - at} are left")
        frames.append(datagram[at : at + length])
        at += length
    return frames


def plain(record: Record) -> dict[str, Any]:
    """What people and programs read: docs/EVENTS.md documents each field. Empty texts are left out, -1 is null."""
    room, _dot, worker = record.source.partition(".")
    event: tuple[Any, ...] = record.event
    found: dict[str, Any] = {
        "n": record.number,
        "time": record.at_ms / 1000,
        "v": VERSION,
        "room": room,
        "event": NAMES[type(record.event)],
    }
    if worker.isdecimal():
        found["worker"] = int(worker)
    for name, value in zip(record.event._fields, event, strict=True):
        if isinstance(value, int):
            found[name] = bool(value) if name in _YES_OR_NO else None if value == _UNKNOWN else value
        elif value:
            found[name] = printable(value, TEXT_MAX)
    return found


_YES_OR_NO = {"acknowledged", "over", "done", "pxe"}
