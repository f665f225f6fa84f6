"""custody.wire: every message there and back, and nothing but WireError for the rest."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.custody import wire
from appliance.errors import WireError

FROM_WORKER = [
    wire.Reserve(1, 0, "192.0.2.1", b"name"),
    wire.Reserve(0xFFFFFFFF, 1 << 60, "2001:db8:1:2::/64", b"caf\xe9" * 20),
    wire.Reserve(1, 0, "c", b""),
    wire.Ask(7, 5, "192.0.2.1", b"name"),
    wire.Fetch(8, "192.0.2.1", b"name"),
    wire.Extend(2, 1 << 40),
    wire.Commit(3, 0),
    wire.Abort(4),
]
FROM_CUSTODIAN = [
    wire.Granted(1, 4096),
    wire.More(2, 1 << 50),
    wire.Opened(5, 1 << 50),
    wire.Done(3),
    *(wire.Refused(4, r) for r in wire.Reason),
]


@pytest.mark.parametrize("message", FROM_WORKER, ids=str)
def test_a_message_of_a_worker_survives(message: wire.FromWorker) -> None:
    assert wire.parse_from_worker(wire.pack(message)) == message


@pytest.mark.parametrize("message", FROM_CUSTODIAN, ids=str)
def test_a_message_of_the_custodian_survives(message: wire.FromCustodian) -> None:
    assert wire.parse_from_custodian(wire.pack(message)) == message


@pytest.mark.parametrize("message", FROM_WORKER, ids=str)
def test_a_message_in_the_wrong_direction_does_not_fit(message: wire.FromWorker) -> None:
    with pytest.raises(WireError):
        wire.parse_from_custodian(wire.pack(message))


@pytest.mark.parametrize("message", FROM_CUSTODIAN, ids=str)
def test_an_answer_in_the_wrong_direction_does_not_fit(message: wire.FromCustodian) -> None:
    with pytest.raises(WireError):
        wire.parse_from_worker(wire.pack(message))


@pytest.mark.parametrize("message", [*FROM_WORKER, *FROM_CUSTODIAN], ids=str)
def test_a_message_cut_short_does_not_fit(message: wire.FromWorker | wire.FromCustodian) -> None:
    parse = wire.parse_from_worker if message in FROM_WORKER else wire.parse_from_custodian
    whole = wire.pack(message)
    fixed = (
        len(whole) if not isinstance(message, wire.Reserve | wire.Ask | wire.Fetch) else len(whole) - len(message.name)
    )
    for length in range(fixed):
        with pytest.raises(WireError):
            parse(whole[:length])


def test_lengths_have_a_limit() -> None:
    with pytest.raises(WireError):
        wire.pack(wire.Reserve(1, 0, "c" * 65, b"n"))
    with pytest.raises(WireError):
        wire.pack(wire.Reserve(1, 0, "", b"n"))
    with pytest.raises(WireError):
        wire.pack(wire.Reserve(1, 0, "c", b"n" * 4097))
    good = wire.pack(wire.Reserve(1, 0, "c", b"n" * 4096))
    with pytest.raises(WireError):
        wire.parse_from_worker(good + b"n")
    assert len(good) <= wire.MAX_MESSAGE


@pytest.mark.parametrize("client", [b"a\x00b", b"\xff", b"a\nb"])
def test_a_client_that_is_not_printable_does_not_fit(client: bytes) -> None:
    raw = b"R" + (1).to_bytes(4, "big") + bytes(8) + bytes([len(client)]) + client + b"name"
    with pytest.raises(WireError):
        wire.parse_from_worker(raw)


def test_a_reason_nobody_knows_does_not_fit() -> None:
    with pytest.raises(WireError):
        wire.parse_from_custodian(b"X" + bytes(4) + b"\xff")


@given(st.binary(max_size=80))
def test_garbage_raises_nothing_but_wire_error(datagram: bytes) -> None:
    for parse in (wire.parse_from_worker, wire.parse_from_custodian):
        try:
            parse(datagram)
        except WireError:
            continue
