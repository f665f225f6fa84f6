"""observe.live: what a worker shows is what readers see, whole rows only, whatever the worker does."""

from __future__ import annotations

import os
import random

import pytest
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from appliance.observe import live
from appliance.observe.live import ROWS, SIZE, Live, plain, rows

TEXTS = (b"192.0.2.1", b"RRQ", b"pxelinux.0", b"a/pxelinux.0", b"static")


def made() -> tuple[Live, memoryview]:
    table = memoryview(bytearray(SIZE))
    return Live(table, 7), table


def test_a_row_is_seen_as_it_was_written_and_brought_up_to_date() -> None:
    mine, table = made()
    number = mine.begin(2000, 1000, TEXTS, size=5000, options=(1428, 64), port=69)
    (row,) = rows(table)
    assert row.texts == (*TEXTS, b"", b"", b"")
    assert (row.number, row.started_ms, row.at_ms, row.bytes, row.size) == (number, 1000, 2000, 0, 5000)
    assert (row.blksize, row.windowsize, row.port) == (1428, 64, 69)
    mine.update(number, 3000, 2500, 2)
    mine.update(number, 4000, 2500, 3)
    (row,) = rows(table)
    assert (row.bytes, row.retransmits, row.at_ms) == (2500, 3, 3000), "it moved last at 3000"


def test_a_row_that_ended_is_gone_and_its_place_is_used_again() -> None:
    mine, table = made()
    first = mine.begin(1, 1, TEXTS)
    second = mine.begin(1, 1, TEXTS)
    mine.end(first)
    mine.end(first)  # twice is once
    assert [row.number for row in rows(table)] == [second]
    third = mine.begin(1, 1, (b"192.0.2.2",))
    assert len({first, second, third}) == 3
    assert {row.texts[0] for row in rows(table)} == {b"192.0.2.1", b"192.0.2.2"}
    mine.end(first)  # a number of an earlier life of the row ends nothing
    assert len(rows(table)) == 2


def test_a_session_gets_other_texts_for_each_transfer() -> None:
    mine, table = made()
    number = mine.begin(1000, 500, (b"192.0.2.1",))
    mine.name(number, 2000, TEXTS, 99, 1800)
    mine.update(number, 2100, 50, 0)
    (row,) = rows(table)
    assert (row.texts[2], row.size, row.started_ms, row.bytes) == (b"pxelinux.0", 99, 1800, 50)
    mine.name(number, 3000, (b"192.0.2.1",))
    (row,) = rows(table)
    assert (row.texts[2], row.size, row.started_ms) == (b"", -1, 1800)


def test_more_than_there_are_rows_is_no_error_and_is_not_shown() -> None:
    mine, table = made()
    numbers = [mine.begin(1, 1, TEXTS) for _ in range(ROWS + 3)]
    assert len(set(numbers)) == ROWS + 3
    assert len(rows(table)) == ROWS
    for number in numbers[-3:]:
        mine.update(number, 1, 1, 1)
        mine.name(number, 1, TEXTS)
        mine.end(number)
    assert len(rows(table)) == ROWS


def test_long_texts_are_cut_and_never_reach_the_next_row() -> None:
    mine, table = made()
    mine.begin(1, 1, tuple(b"x" * 1000 for _ in live.TEXTS))
    mine.begin(1, 1, TEXTS)
    first, second = rows(table)
    assert sum(map(len, first.texts)) <= 240
    assert second.texts[:5] == TEXTS


def test_without_memory_of_its_own_it_shows_nobody_and_works() -> None:
    mine = Live()
    mine.looked(5)
    mine.end(mine.begin(1, 1, TEXTS))


def test_a_row_that_is_being_written_is_not_shown() -> None:
    mine, table = made()
    mine.begin(1, 1, TEXTS)
    words = table.cast("Q")
    words[8] |= 1
    assert rows(table) == []


@given(st.integers(0, 1 << 32))
@profile(max_examples=20)
def test_whatever_stands_in_the_table_is_clamped(seed: int) -> None:
    table = memoryview(bytearray(SIZE))
    words = table.cast("Q")
    words[0], words[1] = live.MAGIC, 5
    source = random.Random(seed)
    for row in range(5):
        start = 64 + row * live.ROW
        table[start : start + live.ROW] = source.randbytes(live.ROW)
        words[8 + row * live.ROW // 8] &= ~1
    for row in rows(table):
        told = plain(row, "tftp.0", 1000)
        assert told["bytes"] >= 0
        assert told["percent"] is None or 0 <= told["percent"] <= 100
        assert all(text.isprintable() for text in told.values() if isinstance(text, str))


@pytest.mark.parametrize("break_it", ["magic", "short"])
def test_what_is_no_table_has_no_rows(break_it: str) -> None:
    table = memoryview(bytearray(SIZE if break_it == "magic" else 4096))
    if break_it == "short":
        table.cast("Q")[0] = live.MAGIC
    assert rows(table) == []
    table = memoryview(bytearray(SIZE))
    table.cast("Q")[0], table.cast("Q")[1] = live.MAGIC, 1 << 60
    assert rows(table) == []


def test_a_row_reads_plainly() -> None:
    mine, table = made()
    number = mine.begin(2000, 1000, (b"192.0.2.1", b"RRQ", b"\x1b[2J"), size=4000, options=(512, 1), port=1069)
    mine.update(number, 2500, 1000, 1)
    told = plain(rows(table)[0], "tftp.3", 3000)
    assert (told["service"], told["worker"], told["file"]) == ("tftp", 3, r"\x1b[2J")
    assert (told["percent"], told["seconds"], told["rate"], told["silent_s"]) == (25, 2.0, 500, 0.5)
    idle = plain(rows(table)[0]._replace(size=-1, started_ms=9000), "supervisor", 3000)
    assert (idle["size"], idle["percent"], idle["rate"], idle["worker"]) == (None, None, 0, None)


def test_looking_at_a_thousand_transfers_costs_next_to_nothing() -> None:
    """The figure of the design: some microseconds for each transfer, a few times a second."""
    mine, _table = made()
    numbers = [mine.begin(1, 1, TEXTS) for _ in range(1000)]
    start = os.times().user
    for look in range(100):
        for number in numbers:
            mine.update(number, look, look, 0)
    assert (os.times().user - start) / 100_000 < 20e-6, "seconds for each update, ten times what it takes"
