"""options.negotiate: what is acknowledged, for every value a client may ask."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.tftp.options import IN_FLIGHT_MAX, Agreed, Policy, declared, negotiate
from appliance.tftp.packet import Request, oack

POLICY = Policy(blksize_max=None, windowsize_max=64, timeout_s=1.0)
ROOM = 1468


def asked(*options: tuple[str, object], policy: Policy = POLICY, room: int = ROOM, size: int | None = 1000) -> Agreed:
    pairs = tuple((name.encode(), str(value).encode("latin-1")) for name, value in options)
    return negotiate(Request(False, b"a", b"octet", pairs), policy, room, size)


def answer(*options: tuple[str, object], policy: Policy = POLICY, room: int = ROOM) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in asked(*options, policy=policy, room=room).oack}


def test_no_option_means_the_terms_of_rfc_1350() -> None:
    assert asked() == Agreed(block_size=512, window=1, timeout_s=1.0, rollover=0, oack=())


@pytest.mark.parametrize(
    ("wanted", "given_"),
    [
        (7, None), (8, 8), (9, 9), (512, 512), (1468, 1468), (1469, 1468), (65464, 1468), (65465, 1468),
        (10**18, 1468), (0, None),
    ],
)  # fmt: skip
def test_blksize_is_at_most_what_was_asked_and_what_fits_the_path(wanted: int, given_: int | None) -> None:
    agreed = asked(("blksize", wanted))
    assert agreed.block_size == (given_ or 512)
    assert agreed.oack == (((b"blksize", b"%d" % given_),) if given_ else ())


@pytest.mark.parametrize(("most", "given_"), [(8, "8"), (1000, "1000"), (65464, "65464")])
def test_a_number_as_blksize_max_holds_whatever_the_path_carries(most: int, given_: str) -> None:
    assert answer(("blksize", 65464), policy=Policy(most, 64, 1.0)) == {"blksize": given_}


def test_no_blksize_above_the_rfc_however_large_the_path() -> None:
    assert answer(("blksize", 99999), room=65504) == {"blksize": "65464"}


def test_a_tiny_path_still_gets_the_smallest_legal_block() -> None:
    assert answer(("blksize", 512), room=3) == {"blksize": "8"}


@pytest.mark.parametrize(("wanted", "given_"), [(8, "8"), (1023, "512"), (1024, "1024"), (4096, "1024")])
def test_blksize2_is_a_power_of_two(wanted: int, given_: str) -> None:
    assert answer(("blksize2", wanted)) == {"blksize2": given_}


def test_of_blksize_and_blksize2_the_first_counts() -> None:
    assert answer(("blksize", 1000), ("blksize2", 1024)) == {"blksize": "1000"}
    assert answer(("blksize2", 1024), ("blksize", 1000)) == {"blksize2": "1024"}
    assert answer(("blksize", 3), ("blksize2", 1024)) == {"blksize2": "1024"}


@pytest.mark.parametrize(
    ("wanted", "given_"),
    [(0, None), (1, "1"), (2, "2"), (63, "63"), (64, "64"), (65, "64"), (65535, "64"), (65536, None)],
)
def test_windowsize_is_clamped_to_the_maximum(wanted: int, given_: str | None) -> None:
    assert answer(("windowsize", wanted)) == ({"windowsize": given_} if given_ else {})


def test_a_window_never_has_more_than_a_mebibyte_whatever_the_order() -> None:
    for options in ([("blksize", 65464), ("windowsize", 64)], [("windowsize", 64), ("blksize", 65464)]):
        agreed = asked(*options, room=65504)
        assert agreed.window == IN_FLIGHT_MAX // 65468 == 16


def test_a_window_stays_below_half_of_the_block_numbers() -> None:
    assert answer(("blksize", 8), ("windowsize", 65535), policy=Policy(None, 65535, 1.0))["windowsize"] == "32767"


@pytest.mark.parametrize(("wanted", "agreed_s"), [(0, 1.0), (1, 1.0), (2, 2.0), (255, 255.0), (256, 1.0)])
def test_timeout_is_1_to_255_seconds(wanted: int, agreed_s: float) -> None:
    agreed = asked(("timeout", wanted), policy=Policy(None, 64, 1.0))
    assert agreed.timeout_s == agreed_s
    assert bool(agreed.oack) == (1 <= wanted <= 255)


@pytest.mark.parametrize(
    ("wanted", "agreed_s"), [(9999, 1.0), (10_000, 0.01), (500_000, 0.5), (255_000_000, 255.0), (255_000_001, 1.0)]
)
def test_utimeout_is_in_microseconds(wanted: int, agreed_s: float) -> None:
    assert asked(("utimeout", wanted)).timeout_s == agreed_s


def test_of_timeout_and_utimeout_the_first_counts() -> None:
    assert answer(("utimeout", 500_000), ("timeout", 3)) == {"utimeout": "500000"}


@pytest.mark.parametrize(("wanted", "given_"), [("0", 0), ("1", 1), ("2", None), ("x", None)])
def test_rollover_is_0_or_1(wanted: str, given_: int | None) -> None:
    agreed = asked(("rollover", wanted))
    assert agreed.rollover == (given_ or 0)
    assert agreed.oack == (((b"rollover", b"%d" % given_),) if given_ is not None else ())


def test_tsize_is_the_size_of_the_file() -> None:
    assert answer(("tsize", 0)) == {"tsize": "1000"}


def test_tsize_is_left_out_where_nobody_knows_it() -> None:
    assert asked(("tsize", 0), size=None).oack == ()


def test_names_are_case_blind_and_echoed_as_asked() -> None:
    assert answer(("BlkSize", 1000), ("TSIZE", 0)) == {"BlkSize": "1000", "TSIZE": "1000"}


def test_unknown_options_are_left_out() -> None:
    assert answer(("multicast", ""), ("tsize", 0), ("x" * 100, "y")) == {"tsize": "1000"}


def test_of_a_repeated_option_the_first_number_counts_and_is_answered_once() -> None:
    assert asked(("blksize", "x"), ("blksize", 600), ("BLKSIZE", 700)).oack == ((b"blksize", b"600"),)


@pytest.mark.parametrize(
    "value", ["", "abc", "-1", "+5", "1e3", "0x200", " 512", "512 ", "5_12", "²", "1" * 21, "\xb9"]
)
@pytest.mark.parametrize("name", ["blksize", "blksize2", "windowsize", "timeout", "utimeout", "tsize", "rollover"])
def test_what_is_no_decimal_number_is_left_out(name: str, value: str) -> None:
    raw = value.encode("utf-8")
    assert negotiate(Request(False, b"a", b"octet", ((name.encode(), raw),)), POLICY, ROOM, 10).oack == ()


_NAME = st.sampled_from([b"blksize", b"BLKSIZE2", b"windowsize", b"Timeout", b"utimeout", b"tsize", b"rollover", b"z"])
_VALUE = st.one_of(st.integers(-10, 10**9).map(lambda n: b"%d" % n), st.binary(max_size=6))


@given(
    st.lists(st.tuples(_NAME, _VALUE), max_size=12),
    st.one_of(st.none(), st.integers(8, 65464)),
    st.integers(1, 65535),
    st.integers(0, 65504),
)
def test_every_answer_is_legal_and_no_more_than_was_asked(
    options: list[tuple[bytes, bytes]], blksize_max: int | None, windowsize_max: int, room: int
) -> None:
    policy = Policy(blksize_max, windowsize_max, 1.0)
    agreed = negotiate(Request(False, b"a", b"octet", tuple(options)), policy, room, 5)
    wanted: dict[bytes, int] = {}
    for name, value in options:
        if value.isdigit():
            wanted.setdefault(name, int(value))
    names = [name.lower() for name, _value in agreed.oack]
    assert len(set(names)) == len(names)
    for name, value in agreed.oack:
        if name.lower() != b"tsize":
            assert int(value) <= wanted[name]
    assert 8 <= agreed.block_size <= 65464
    assert 1 <= agreed.window <= min(windowsize_max, 32767)
    assert agreed.window == 1 or agreed.window * (agreed.block_size + 4) <= IN_FLIGHT_MAX
    assert 0.01 <= agreed.timeout_s <= 255


def test_a_refused_option_is_left_out_as_if_nobody_had_asked() -> None:
    policy = Policy(None, 64, 1.0, frozenset({b"blksize", b"tsize"}))
    wanted = (("BLKSIZE", 1024), ("tsize", 0), ("windowsize", 4), ("blksize2", 1024))
    assert answer(*wanted, policy=policy) == {"windowsize": "4", "blksize2": "1024"}
    assert asked(("blksize", 1024), policy=policy) == asked()


def write_request(**options: object) -> Request:
    pairs = tuple((name.encode(), str(value).encode()) for name, value in options.items())
    return Request(True, b"f", b"octet", pairs)


@pytest.mark.parametrize(
    ("block", "asked", "agreed"),
    [(8, 65535, 256), (512, 65535, 158), (1428, 65535, 89), (1428, 64, 64), (8192, 64, 12), (65464, 16, 1)],
)
def test_the_window_of_an_upload_is_what_fits_memory_and_the_queue_of_its_socket(
    block: int, asked: int, agreed: int
) -> None:
    policy = Policy(65464, 65535, 1.0)
    found = negotiate(write_request(blksize=block, windowsize=asked), policy, 65464, 0)
    assert (found.block_size, found.window) == (block, agreed)
    assert found.window * (block + 4) <= 256 * 1024
    assert negotiate(write_request(windowsize=64), Policy(65464, 3, 1.0), 65464, 0).window == 3


def test_the_size_that_a_write_announces_is_repeated_to_it() -> None:
    request = write_request(tsize=1234)
    assert declared(request, frozenset()) == 1234
    assert negotiate(request, Policy(None, 64, 1.0), 1428, 1234).oack == ((b"tsize", b"1234"),)
    assert declared(request, frozenset({b"tsize"})) == declared(write_request(), frozenset()) == 0
    assert declared(write_request(tsize=10**20 - 1), frozenset()) == (1 << 63) - 1


ASKED = ("blksize", "BlkSize2", "windowsize", "timeout", "utimeout", "tsize", "rollover")


@given(st.dictionaries(st.sampled_from(ASKED), st.integers(0, 10**12).map(str)))
def test_the_answer_to_a_write_is_never_longer_than_the_request(options: dict[str, str]) -> None:
    request = write_request(**options)
    found = negotiate(request, Policy(None, 64, 1.0), 1428, declared(request, frozenset()))
    length = 2 + len(b"f\0octet\0") + sum(len(name) + len(value) + 2 for name, value in request.options)
    assert len(oack(found.oack)) < length


@pytest.mark.parametrize(
    ("option", "own"),
    [(("timeout", 3), True), (("UTimeout", 20_000), True), (("timeout", 0), False), (("tsize", 0), False)],
)
def test_a_timeout_is_the_clients_own_only_where_it_was_acknowledged(option: tuple[str, object], own: bool) -> None:
    assert asked(option).timeout_asked is own
