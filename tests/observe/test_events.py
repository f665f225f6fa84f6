"""observe.events: what is encoded comes back, by whichever version; nothing else is believed."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import WireError
from appliance.observe import events, framing

PAGE = (Path(__file__).parents[2] / "docs/EVENTS.md").read_text()
KINDS = list(events.NAMES)


def an_event(kind: type[Any]) -> st.SearchStrategy[events.Event]:
    number = st.integers(-1, (1 << 63) - 1)
    text = st.binary(max_size=300)
    kinds = [number if default == 0 else text for default in kind._field_defaults.values()]
    return st.tuples(*kinds).map(kind._make)


ANY = st.sampled_from(KINDS).flatmap(an_event)


@given(ANY)
def test_an_event_comes_back_as_it_was(event: events.Event) -> None:
    found = framing.decode(framing.encode(event))
    assert (type(found), found) == (type(event), event)


@given(ANY, st.integers(0, (1 << 63) - 1), st.sampled_from(["tftp.0", "supervisor", "ftp.63"]))
def test_a_record_comes_back_as_it_was(event: events.Event, number: int, source: str) -> None:
    record = events.Record(number, number, source, event)
    assert framing.decode_record(framing.encode_record(record)) == record


@given(st.lists(st.binary(min_size=1, max_size=9000)))
def test_frames_come_out_of_datagrams_as_they_went_in(frames: list[bytes]) -> None:
    datagrams = framing.join(frames)
    assert all(0 < len(datagram) <= framing.DATAGRAM_MAX for datagram in datagrams)
    assert [frame for datagram in datagrams for frame in framing.split(datagram)] == frames


def test_frames_that_do_not_fit_one_datagram_fill_several() -> None:
    frames = [bytes([number]) * 12_000 for number in range(7)]
    datagrams = framing.join(frames)
    assert [len(datagram) for datagram in datagrams] == [24_004, 24_004, 24_004, 12_002]
    assert [frame for datagram in datagrams for frame in framing.split(datagram)] == frames


@given(st.binary(max_size=200))
def test_garbage_is_refused_or_is_an_event_within_bounds(datagram: bytes) -> None:
    for read in (framing.decode, framing.decode_record, framing.split):
        try:
            found: Any = read(datagram)
        except WireError:
            continue
        if read is framing.decode:
            assert framing.decode(framing.encode(found)) == found


@given(ANY, st.data())
def test_an_event_with_a_byte_changed_raises_nothing_else(event: events.Event, data: st.DataObject) -> None:
    raw = bytearray(framing.encode(event))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        found = framing.decode(bytes(raw))
    except WireError:
        return
    assert all(number >= -1 for number in found if isinstance(number, int))


def test_a_text_that_is_too_long_is_cut() -> None:
    long = b"x" * 5000
    found = framing.decode(framing.encode(events.Refused(client=b"192.0.2.1", file=long, cause=long)))
    assert isinstance(found, events.Refused)
    assert (found.client, len(found.file), len(found.cause)) == (b"192.0.2.1", events.TEXT_MAX, events.TEXT_MAX)


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_that_is_just_too_long_is_cut_whatever_the_others_are(kind: type[Any]) -> None:
    """They were cut only when all together were long: the event was then refused by who heard it."""
    for name, default in kind._field_defaults.items():
        for length in (events.TEXT_MAX, events.TEXT_MAX + 1) if default == b"" else ():
            found = framing.decode(framing.encode(kind(**{name: b"x" * length})))
            assert len(getattr(found, name)) == events.TEXT_MAX


@given(
    st.tuples(*[st.integers(-1, (1 << 63) - 1)] * 8, st.booleans()),
    st.tuples(*[st.one_of(st.binary(max_size=20), st.integers(900, 1100).map(bytes))] * 8),
)
def test_a_transfer_is_framed_as_every_event_is(numbers: tuple[int, ...], texts: tuple[bytes, ...]) -> None:
    cut = [text[: events.TEXT_MAX] for text in texts]
    plain = as_told(KINDS.index(events.Ended) + 1, list(numbers), cut)
    frame = struct.pack("!H", len(plain)) + plain
    assert framing.frame_ended(numbers, texts) == frame
    assert framing.frame(events.Ended._make(numbers + texts)) == frame


def test_the_longest_event_fits_its_frame() -> None:
    for kind in KINDS:
        long = kind._make((1 << 62) if default == 0 else b"x" * 3000 for default in kind._field_defaults.values())
        assert len(framing.encode(long)) <= framing.EVENT_MAX


def test_a_number_that_is_too_large_is_an_error_of_the_caller() -> None:
    with pytest.raises(ValueError, match="int too large"):
        framing.encode(events.Lost(1 << 63, b"rate"))
    with pytest.raises(ValueError, match="int too large"):
        framing.encode(events.Ended(size=1 << 63))


def test_a_number_below_minus_one_is_unknown() -> None:
    raw = framing.encode(events.Ended(size=-7))
    assert framing.decode(raw).size == -1  # type: ignore[union-attr]


def as_told(kind: int, numbers: list[int], texts: list[bytes], version: int = 1) -> bytes:
    form = f"!BBBB{len(numbers)}q{len(texts)}H"
    head = (kind, version, len(numbers), len(texts))
    return struct.pack(form, *head, *numbers, *map(len, texts)) + b"".join(texts)


def test_an_older_version_leaves_out_and_a_newer_one_adds() -> None:
    kind = KINDS.index(events.Lost) + 1
    assert framing.decode(as_told(kind, [5], [], 1)) == events.Lost(5, b"")
    assert framing.decode(as_told(kind, [], [b"rate"], 1)) == events.Lost(0, b"rate")
    assert framing.decode(as_told(kind, [5, 9, 9], [b"rate", b"more"], 2)) == events.Lost(5, b"rate")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\1\1\0",
        as_told(0, [], []),
        as_told(200, [], []),
        as_told(14, [0] * 33, []),
        as_told(14, [], [b""] * 33),
        as_told(14, [1], [b"rate"])[:-1],
        as_told(14, [1], [b"rate"]) + b"x",
        as_told(14, [1], [b"rate"])[:6],
        as_told(14, [1], [b"x" * 1001]),
        b"\1" * (framing.EVENT_MAX + 1),
    ],
)
def test_what_is_no_event_is_refused(raw: bytes) -> None:
    with pytest.raises(WireError):
        framing.decode(raw)


@pytest.mark.parametrize("source", [b"x" * 65, b"\xff", b"a\nb"])
def test_a_record_of_nobody_is_refused(source: bytes) -> None:
    raw = struct.pack("!QQB", 1, 1, len(source)) + source + framing.encode(events.Lost())
    with pytest.raises(WireError):
        framing.decode_record(raw)
    with pytest.raises(WireError):
        framing.decode_record(raw[:10])


@pytest.mark.parametrize("raw", [b"\0", b"\0\0", b"\0\5abc", b"\0\1ab"])
def test_frames_that_do_not_fit_are_refused(raw: bytes) -> None:
    with pytest.raises(WireError):
        framing.split(raw)


def test_a_record_reads_plainly_with_hostile_bytes_escaped() -> None:
    event = events.Ended(number=3, size=-1, acknowledged=1, client=b"192.0.2.1", file=b"\x1b[2J\n", outcome=b"done")
    found = events.plain(events.Record(7, 1500, "tftp.1", event))
    assert (found["n"], found["time"], found["room"], found["worker"], found["event"]) == (
        7, 1.5, "tftp", 1, "transfer",
    )  # fmt: skip
    assert (found["size"], found["acknowledged"], found["file"]) == (None, True, r"\x1b[2J\x0a")
    assert "mac" not in found
    assert "worker" not in events.plain(events.Record(1, 1, "supervisor", events.Lost()))


def test_everybody_may_tell_only_what_is_theirs() -> None:
    assert events.Ban not in events.MAY_TELL["ftp"]
    assert events.Worker not in events.MAY_TELL["tftp"]
    assert events.Ended not in events.MAY_TELL["custody"]
    assert set().union(*events.MAY_TELL.values()) == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_of_every_event_is_documented(kind: type[Any]) -> None:
    part = PAGE[PAGE.index("## The events service") :]
    row = next(line for line in part.splitlines() if line.startswith(f"| `{events.NAMES[kind]}` "))
    assert set(kind._fields) <= set(re.findall(r"`(\w+)`", row.split("|")[3]))
