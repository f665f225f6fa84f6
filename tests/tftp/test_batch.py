"""batch: datagrams of every kind land in their slots, and nothing is written beside them."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.tftp.batch import Batch

START, BLOCK, SLOTS = 4, 100, 8


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, client = (socket.socket(type=socket.SOCK_DGRAM) for _ in range(2))
    ours.bind(("127.0.0.1", 0))
    client.connect(ours.getsockname())
    with ours, client:
        yield ours, client


def data(block: int, payload: bytes) -> bytes:
    return struct.pack("!HH", 3, block & 0xFFFF) + payload


def made() -> tuple[Batch, bytearray]:
    buffer = bytearray(START + SLOTS * BLOCK + 1)
    return Batch(buffer, START, BLOCK, SLOTS), buffer


def test_blocks_in_order_lie_side_by_side(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, client = pair
    batch, buffer = made()
    blocks = [os.urandom(BLOCK) for _ in range(5)]
    for number, block in enumerate(blocks):
        client.send(data(65534 + number, block))
    assert batch.receive(ours.fileno(), 2, 6) == 5
    assert batch.in_order(2, 5, block=65534, rollover=0)
    assert not batch.in_order(2, 5, block=65534, rollover=1)
    assert not batch.in_order(2, 5, block=65535, rollover=0)
    assert bytes(buffer) == bytes(START + 2 * BLOCK) + b"".join(blocks) + bytes(BLOCK + 1)


def test_no_more_is_taken_than_was_asked_for(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, client = pair
    batch, _buffer = made()
    for number in range(1, 6):
        client.send(data(number, bytes(BLOCK)))
    assert batch.receive(ours.fileno(), 0, 3) == 3
    assert batch.receive(ours.fileno(), 3, 5) == 2
    with pytest.raises(BlockingIOError):
        batch.receive(ours.fileno(), 5, 1)


ODD = [
    b"", b"\0", b"\0\5\0\0x\0", data(2, bytes(BLOCK - 1)), data(2, bytes(BLOCK + 1)), data(3, bytes(BLOCK)),
    data(2, bytes(3 * BLOCK)), b"\0\4\0\2" + bytes(BLOCK),
]  # fmt: skip


@pytest.mark.parametrize("odd", ODD)
def test_what_is_odd_is_seen_and_harms_no_neighbour(pair: tuple[socket.socket, socket.socket], odd: bytes) -> None:
    ours, client = pair
    batch, buffer = made()
    first, third = os.urandom(BLOCK), os.urandom(BLOCK)
    for datagram in (data(1, first), odd, data(3, third)):
        client.send(datagram)
    assert batch.receive(ours.fileno(), 0, SLOTS) == 3
    assert not batch.in_order(0, 3, block=1, rollover=0)
    assert batch.in_order(0, 1, block=1, rollover=0)
    assert batch.header(0) == (3 << 16 | 1, 4 + BLOCK)
    assert batch.header(1)[1] == min(len(odd), 4 + BLOCK + 1)
    if len(odd) >= 4:
        assert batch.header(1)[0] == int.from_bytes(odd[:4], "big")
    assert buffer[START : START + BLOCK] == first
    assert buffer[START + 2 * BLOCK : START + 3 * BLOCK] == third


@pytest.mark.parametrize(("first", "count"), [(-1, 1), (0, 0), (0, SLOTS + 1), (SLOTS, 1), (SLOTS - 1, 2)])
def test_slots_that_are_not_there_are_never_handed_to_the_kernel(first: int, count: int) -> None:
    batch, _buffer = made()
    with pytest.raises(ValueError, match="no such slots"):
        batch.receive(0, first, count)


def test_a_buffer_that_is_too_small_is_refused_and_one_in_use_keeps_its_size() -> None:
    with pytest.raises(ValueError, match="too small"):
        Batch(bytearray(START + SLOTS * BLOCK), START, BLOCK, SLOTS)
    batch, buffer = made()
    with pytest.raises(BufferError):
        buffer.clear()
    del batch
    buffer.clear()


def test_an_error_of_the_socket_comes_out(pair: tuple[socket.socket, socket.socket]) -> None:
    _ours, client = pair
    batch, _buffer = made()
    client.close()
    with pytest.raises(OSError, match="file descriptor") as caught:
        batch.receive(-1, 0, 1)
    assert caught.value.errno == errno.EBADF


@given(block=st.integers(1, 200_000), count=st.integers(1, SLOTS), rollover=st.integers(0, 1))
def test_the_numbers_awaited_are_those_that_roll_over(block: int, count: int, rollover: int) -> None:
    ours, client = (socket.socket(type=socket.SOCK_DGRAM) for _ in range(2))
    with ours, client:
        ours.bind(("127.0.0.1", 0))
        client.connect(ours.getsockname())
        batch, _buffer = made()
        for number in range(block, block + count):
            client.send(data((number - 1) % 65535 + 1 if rollover else number, bytes(BLOCK)))
        assert batch.receive(ours.fileno(), 0, SLOTS) == count
        assert batch.in_order(0, count, block=block, rollover=rollover)
