"""Events and records as datagrams. Pure.

A datagram holds one or more frames: two bytes of length, then an event (from a worker) or a record (to a subscriber).
An event says itself how many numbers and texts follow: fields are only ever added, numbers behind numbers and texts
behind texts, so older and newer code understand each other: what is missing is 0 or empty, what is unknown is left out.

Invariant: `decode`, `decode_record` and `split` raise WireError for anything else, and whatever they return is within
the bounds below.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any, NamedTuple

from appliance.errors import WireError
from appliance.observe.events import NAMES, TEXT_MAX, UNKNOWN, VERSION, Ended, Event, Record

DATAGRAM_MAX = 32 << 10  # bytes of a datagram
EVENT_MAX = 16 << 10
_FIELDS_MAX = 32  # numbers, and texts
_LARGEST = (1 << 63) - 1


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
    if values and min(values) < UNKNOWN:
        values = [max(UNKNOWN, number) for number in values]
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
