"""blocks: headers of many packets, against one written by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.tftp.blocks import RUN_MAX, last_block, stride_of, write_headers


@given(st.integers(1, 200_000), st.integers(1, RUN_MAX), st.integers(0, 9), st.sampled_from([0, 1]))
def test_headers_are_those_of_each_block(first: int, count: int, block_size: int, rollover: int) -> None:
    stride, at = stride_of(block_size), 3
    buffer = bytearray(b"\0" * (at + count * stride))
    write_headers(buffer, at, stride, first=first, count=count, rollover=rollover)
    for block in (first, first + count // 2, first + count - 1):
        start = at + (block - first) * stride
        number = (block - 1) % 65535 + 1 if rollover else block % 65536
        assert buffer[start : start + 4] == b"\0\3" + number.to_bytes(2, "big")


@pytest.mark.parametrize(("rollover", "numbers"), [(0, [65535, 0, 1]), (1, [65535, 1, 2])])
def test_the_number_after_65535_is_as_agreed(rollover: int, numbers: list[int]) -> None:
    buffer = bytearray(12)
    write_headers(buffer, 0, 4, first=65535, count=3, rollover=rollover)
    assert [int.from_bytes(buffer[at + 2 : at + 4], "big") for at in (0, 4, 8)] == numbers


@pytest.mark.parametrize(("size", "last"), [(0, 1), (1, 1), (511, 1), (512, 2), (513, 2), (1024, 3)])
def test_the_last_block_is_the_short_one(size: int, last: int) -> None:
    assert last_block(size, 512) == last
