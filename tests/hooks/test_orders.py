"""Orders and results cross the socket whole, and nothing else does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import WireError
from appliance.hooks import orders
from appliance.hooks.orders import End, Order, Result


@given(run=st.integers(0, 2**32 - 1), hook=st.integers(0, 65535), document=st.binary(max_size=500))
def test_an_order_comes_back_as_it_was(run: int, hook: int, document: bytes) -> None:
    order = Order(run, hook, document)
    assert orders.order_of(orders.pack_order(order)) == order


@given(end=st.sampled_from(End), value=st.integers(-(2**31), 2**31 - 1), ms=st.integers(0, 2**40))
def test_a_result_comes_back_as_it_was_with_the_time_bounded(end: End, value: int, ms: int) -> None:
    result = orders.result_of(orders.pack_result(Result(7, end, value, ms, b"said\n")))
    assert result == Result(7, end, value, min(ms, 2**32 - 1), b"said\n")


def test_output_is_cut_at_its_bound() -> None:
    packed = orders.pack_result(Result(7, End.EXITED, 0, 1, b"x" * (orders.OUTPUT_MAX + 1)))
    assert len(orders.result_of(packed).output) == orders.OUTPUT_MAX


@pytest.mark.parametrize("message", [b"", b"12345", bytes(6 + orders.DOCUMENT_MAX + 1)])
def test_what_is_no_order_is_refused(message: bytes) -> None:
    with pytest.raises(WireError):
        orders.order_of(message)


@pytest.mark.parametrize("message", [b"", bytes(12), bytes(13 + orders.OUTPUT_MAX + 1), b"\0\0\0\1\5" + bytes(8)])
def test_what_is_no_result_is_refused(message: bytes) -> None:
    with pytest.raises(WireError):
        orders.result_of(message)


def test_only_an_exit_of_zero_is_well() -> None:
    ends = {end: Result(1, end, 0, 0, b"").well for end in End}
    assert ends == {end: end is End.EXITED for end in End}
    assert not Result(1, End.EXITED, 1, 0, b"").well
