"""Messages between supervisor and child: they come back as they went, and nothing else is accepted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance import wire
from appliance.errors import WireError

u16, u32 = st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF)
NAME = st.text("abcdefghijklmnopqrstuvwxyz.-0123456789", max_size=64)
FROM_SUPERVISOR = st.one_of(
    st.builds(wire.Adopt, u16),
    st.builds(wire.Unadopt, u16),
    st.builds(wire.Link, u32, NAME),
    st.builds(wire.View, u32, NAME),
    st.builds(wire.Unview, u32),
    st.builds(wire.Kick, st.integers(0, (1 << 64) - 1)),
    st.builds(wire.Tell, st.binary()),
    st.builds(wire.Drain, u32),
    st.builds(wire.Reply, u32, st.integers(0, 200)),
    st.builds(wire.Facts, st.binary()),
    st.builds(
        wire.Start,
        st.text(),
        u16,
        st.text(),
        st.dictionaries(st.text(), st.integers()),
        st.dictionaries(st.text(), st.integers()),
        st.lists(st.text()).map(tuple),
    ),
)
CLIENT = st.text("0123456789abcdef.:/", min_size=1, max_size=64)
RELEASE = st.from_regex(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{8}", fullmatch=True)
FROM_SUPERVISOR = FROM_SUPERVISOR | st.builds(wire.Ban, u32, CLIENT) | st.builds(wire.Release, u32, u32, RELEASE)
NAME = st.text("abcxyz019-.", min_size=1, max_size=253)
IPV4 = st.ip_addresses(v=4).map(str)
FROM_SUPERVISOR = FROM_SUPERVISOR | st.builds(wire.Address, IPV4, NAME)
u64 = st.integers(0, 2**64 - 1)
FROM_SUPERVISOR = FROM_SUPERVISOR | st.builds(wire.OneShot, u64, st.integers(0, 255))
FROM_CHILD = st.one_of(
    st.builds(wire.Offence, u32, CLIENT),
    st.builds(wire.Resolved, IPV4, NAME),
    st.builds(wire.Used, u64, st.integers(0, 255)),
    st.builds(wire.Ready, u32, st.integers(0, 255), u16),
    st.builds(wire.Request, u32, st.integers(0, 255), u16),
    st.just(wire.Query()),
)


@given(FROM_SUPERVISOR)
def test_a_message_of_the_supervisor_comes_back_as_it_went(message: wire.Message) -> None:
    assert wire.parse(wire.pack(message), from_child=False) == message


@pytest.mark.parametrize("body", [b"", b"\0\0\0", b"\0\0\0\1" + b"x" * 65, b"\0\0\0\1a\n", b"\0\0\0\1\xff"])
@pytest.mark.parametrize("kind", [b"L", b"V"])
def test_a_link_or_a_view_of_nobody_is_refused(kind: bytes, body: bytes) -> None:
    with pytest.raises(wire.WireError):
        wire.parse(kind + body, from_child=False)


@given(FROM_CHILD)
def test_a_message_of_a_child_comes_back_as_it_went(message: wire.Message) -> None:
    assert wire.parse(wire.pack(message), from_child=True) == message


@given(FROM_SUPERVISOR)
def test_a_child_cannot_speak_as_the_supervisor(message: wire.Message) -> None:
    with pytest.raises(WireError):
        wire.parse(wire.pack(message), from_child=True)


@given(st.binary(max_size=64), st.booleans())
def test_garbage_is_a_message_or_a_wire_error_and_nothing_else(datagram: bytes, from_child: bool) -> None:
    try:
        wire.parse(datagram, from_child=from_child)
    except WireError:
        pass


@pytest.mark.parametrize("text", [b"S", b"S{", b'S{"fds": 3}', b'S{"fds": [], "more": 1}', b"S[]", b"S\xff"])
def test_a_bad_start_message_is_a_wire_error(text: bytes) -> None:
    with pytest.raises(WireError, match="bad start message"):
        wire.parse(text, from_child=False)


@pytest.mark.parametrize("text", [b"r", b"r" + bytes(8), b"q" + bytes(6), b"f1", b""])
def test_a_message_of_the_wrong_length_is_a_wire_error(text: bytes) -> None:
    with pytest.raises(WireError):
        wire.parse(text, from_child=True)


@pytest.mark.parametrize("client", ["", "x" * 65, "1" * 65, "192.0.2.1 ", "a\n", "192.0.2.1\0", "\xff", "G"])
def test_a_ban_of_something_that_is_no_client_is_refused(client: str) -> None:
    with pytest.raises(WireError):
        wire.parse(b"b\0\0\0\1" + client.encode("latin-1"), from_child=True)
    assert not wire.client_key(client)


@pytest.mark.parametrize("name", ["", "..", "20260131-235959-0123abcd/", "20260131-235959-0123abcg", "x" * 24])
def test_a_release_has_a_name_and_nothing_else(name: str) -> None:
    with pytest.raises(WireError, match="without a name"):
        wire.parse(b"P" + bytes(8) + name.encode(), from_child=False)


@pytest.mark.parametrize("name", [b"", b"A", b"a b", b"a\n", b"\xff", b"a" * 254])
def test_an_address_of_what_is_no_name_is_refused(name: bytes) -> None:
    for kind, from_child in ((b"n", True), (b"N", False)):
        with pytest.raises(WireError):
            wire.parse(kind + bytes(4) + name, from_child=from_child)
    with pytest.raises(WireError):
        wire.parse(b"N" + bytes(4) + b"a", from_child=True)
