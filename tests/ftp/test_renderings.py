"""ftp.renderings: what is shared and for how long, the budget of a turn, and the bound of the memory."""

from __future__ import annotations

import errno
from collections.abc import Generator

import pytest

from appliance.ftp.renderings import HELD, KEEP_S, TURN_S, TURNS, BusyError, Reader, Renderings, Stamp

STAMP = Stamp(1, 2, 1_000_000_000_123_456_789, 1_000_000_000_123_456_789)


class Clock:
    """Time that passes only where the work says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def source(clock: Clock, count: int, seconds: float = 0.0001, piece: bytes = b"x" * 10) -> Generator[bytes, None, None]:
    for _ in range(count):
        clock.now += seconds
        yield piece


def rest(renderings: Renderings, reader: Reader) -> bytes:
    """What is still to come, in as many turns as it takes."""
    while renderings.busy:
        renderings.turn()
    return b"".join(reader)


def test_a_turn_spends_its_budget_and_one_slice_at_most() -> None:
    clock = Clock()
    renderings = Renderings(clock)
    for key in range(10):
        renderings.begin(source(clock, 1000, 0.001), key, STAMP)
    for _ in range(50):
        before = clock.now
        renderings.turn()
        assert renderings.busy
        assert clock.now - before <= TURN_S + 0.0011


def test_a_turn_is_longer_while_nobody_else_wants_anything_and_ends_soon_after_somebody_does() -> None:
    clock = Clock()
    renderings = Renderings(clock)
    renderings.begin(source(clock, 1000, 0.0005))
    before, asked = clock.now, []
    renderings.turn(lambda: not asked.append(clock.now))
    assert len(asked) == TURNS
    assert TURNS * TURN_S <= clock.now - before <= TURNS * (TURN_S + 0.0005)
    before, asked = clock.now, []
    renderings.turn(lambda: bool(asked.append(clock.now)) or len(asked) < 2)
    assert len(asked) == 2
    assert clock.now - before <= 2 * (TURN_S + 0.0005)


def test_who_waits_for_a_piece_is_called_once_when_there_is_one_and_at_the_end() -> None:
    clock = Clock()
    renderings = Renderings(clock)
    reader = renderings.begin(source(clock, 6, 0.001), "key", STAMP)
    other = renderings.begin(source(clock, 1, 0.001))
    assert next(reader) == b"x" * 20
    assert next(reader) == b""
    called: list[str] = []

    def broken() -> None:
        called.append("broken")
        raise ValueError

    reader.wait(broken, lambda: called.append("wall"))
    reader.wait(lambda: called.append("reader"), lambda: called.append("no"))
    renderings.turn()
    assert called == ["broken", "wall", "reader"]
    renderings.turn()
    assert called == ["broken", "wall", "reader"]
    assert b"".join(iter(lambda: next(reader), b"")) == b"x" * 30
    reader.wait(lambda: called.append("end"), lambda: called.append("no"))
    while renderings.busy:
        renderings.turn()
    assert called[3:] == ["end"]
    assert b"".join([*reader, *other]) == b"x" * 20


def test_an_empty_listing_that_is_shared_has_no_empty_piece_for_which_its_reader_waited_for_ever() -> None:
    clock = Clock()
    renderings = Renderings(clock)
    assert list(renderings.begin(source(clock, 3, piece=b""), "key", STAMP)) == []
    second = renderings.shared("key", STAMP)
    assert second is not None
    assert not second.wait(pytest.fail, pytest.fail), "it has come already"
    assert list(second) == []


def test_many_that_begin_in_one_turn_share_its_budget() -> None:
    clock = Clock()
    renderings = Renderings(clock)
    renderings.turn()
    before = clock.now
    readers = [renderings.begin(source(clock, 100, 0.001)) for _ in range(100)]
    assert clock.now - before <= TURN_S + 0.0011
    assert next(readers[-1]) == b""
    while renderings.busy:
        renderings.turn()
    assert all(b"".join(reader) == b"x" * 1000 for reader in readers)
    assert renderings.held == 0


def test_readers_that_come_early_and_late_get_the_same() -> None:
    clock = Clock()
    renderings = Renderings(clock)
    first = renderings.begin(source(clock, 300, piece=b"y" * 5000), "key", STAMP)
    found = [next(first)]
    second = renderings.shared("key", STAMP)
    assert second is not None
    while renderings.busy:
        renderings.turn()
    third = renderings.shared("key", STAMP)
    assert third is not None
    pieces = list(third)
    assert len(pieces) < 10  # joined
    assert b"".join(pieces) == b"".join(second) == b"".join([*found, *first]) == b"y" * 1_500_000


def test_what_is_too_old_or_of_another_stamp_is_not_shared_and_soon_forgotten() -> None:
    clock = Clock()
    renderings = Renderings(clock)
    renderings.begin(source(clock, 3), "key", STAMP).close()
    assert renderings.held == 30
    assert renderings.shared("other", STAMP) is None
    assert renderings.shared("key", Stamp(1, 2, 3, 4)) is None
    reader = renderings.shared("key", STAMP)
    assert reader is not None
    clock.now += KEEP_S + 0.1
    assert renderings.shared("key", STAMP) is None
    renderings.sweep()
    assert renderings.held == 30  # one still reads
    assert rest(renderings, reader) == b"x" * 30
    assert renderings.held == 0


def test_a_new_one_takes_the_place_of_the_old_one() -> None:
    clock = Clock()
    renderings = Renderings(clock)
    renderings.begin(source(clock, 3), "key", STAMP).close()
    renderings.begin(source(clock, 2), "key", STAMP).close()
    assert renderings.held == 20
    reader = renderings.shared("key", STAMP)
    assert reader is not None and len(rest(renderings, reader)) == 20


def test_listings_in_memory_have_a_bound() -> None:
    clock = Clock()
    renderings = Renderings(clock)
    piece = b"z" * (HELD // 4)
    readers = [renderings.begin(source(clock, 1, piece=piece)) for _ in range(4)]
    while renderings.busy:
        renderings.turn()
    readers.append(renderings.begin(source(clock, 1, piece=piece)))
    while renderings.busy:
        renderings.turn()
    with pytest.raises(BusyError):
        renderings.begin(source(clock, 1))
    for reader in readers:
        reader.close()
    assert renderings.held == 0
    renderings.begin(source(clock, 1)).close()


def test_who_does_not_read_for_long_makes_room_for_others() -> None:
    clock = Clock()
    renderings = Renderings(clock)
    piece = b"z" * (HELD // 4)
    idle = [renderings.begin(source(clock, 2, piece=piece), "key", STAMP)]
    idle.append(renderings.begin(source(clock, 100, 0.001, piece=piece)))
    while renderings.held <= HELD:
        renderings.turn()
    assert renderings.busy  # the second is not finished
    assert next(idle[0]) == piece
    with pytest.raises(BusyError):
        renderings.begin(source(clock, 1))
    clock.now += 11.0
    fresh = renderings.begin(source(clock, 1))
    assert rest(renderings, fresh) == b"x" * 10
    with pytest.raises(OSError, match="buffer space"):
        next(idle[0])
    for reader in idle:
        reader.close()
    renderings.sweep()
    while renderings.busy:
        renderings.turn()
    assert renderings.held == 0


def test_an_error_of_the_disk_ends_a_listing_after_what_there_is() -> None:
    def broken() -> Generator[bytes, None, None]:
        yield b"first"
        raise OSError(errno.EIO, "disk")

    renderings = Renderings(Clock())
    reader = renderings.begin(broken())
    assert next(reader) == b"first"
    with pytest.raises(OSError, match="disk"):
        next(reader)
    assert (renderings.held, renderings.busy) == (0, False)


def test_a_bug_in_one_listing_is_raised_where_it_is_read_and_ends_that_listing_alone() -> None:
    def broken() -> Generator[bytes, None, None]:
        yield b""
        yield b""
        raise ZeroDivisionError

    clock = Clock()
    renderings = Renderings(clock)
    renderings.turn()
    fine = renderings.begin(source(clock, 20))
    reader = renderings.begin(broken())
    while renderings.busy:
        renderings.turn()
    with pytest.raises(ZeroDivisionError):
        next(reader)
    assert len(rest(renderings, fine)) == 200


@pytest.mark.parametrize(
    ("mtime_ns", "age", "settled"),
    [(5_123_000_000, 0.04, False), (5_123_000_000, 0.06, True), (5_000_000_000, 2.0, False), (5_000_000_000, 2.2, True),
     (5_123_000_000, -3.0, False)],
)  # fmt: skip
def test_a_fresh_stamp_is_not_settled(mtime_ns: int, age: float, settled: bool) -> None:
    assert Stamp(1, 1, mtime_ns, mtime_ns - 1).settled(mtime_ns / 1e9 + age) is settled
    assert not Stamp(1, 1, mtime_ns, mtime_ns + 9_000_000_000).settled(mtime_ns / 1e9 + age)
