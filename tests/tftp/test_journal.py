"""journal: the client first, and repeats counted instead of written."""

from __future__ import annotations

import os

import pytest

from appliance.observe.events import Ended
from appliance.observe.log import TurnLog
from appliance.tftp.journal import QUIET_S, Journal, host_port

PEER = ("192.0.2.1", 1069)


@pytest.fixture
def lines(tmp_path):
    """A journal, and what it has written so far."""
    descriptor = os.open(tmp_path / "log", os.O_RDWR | os.O_CREAT)
    journal = Journal(TurnLog("tftp", "text", descriptor))

    def written() -> list[str]:
        journal.flush()
        return (tmp_path / "log").read_text().splitlines()

    yield journal, written
    os.close(descriptor)


def test_the_client_stands_before_what_the_client_chose(lines) -> None:
    journal, written = lines
    journal.refused(PEER, b"x client=evil", "cause", 0.0)
    assert written()[0].index("client=192.0.2.1:1069") < written()[0].index("evil")


def test_the_same_refusal_is_written_once_in_ten_seconds_then_with_the_number_of_repeats(lines) -> None:
    journal, written = lines
    for number in range(5):
        journal.refused(("192.0.2.1", 2000 + number), b"f", "cause", 1.0)
    journal.refused(PEER, b"other", "cause", 1.0)
    journal.refused(PEER, b"f", "cause", 1.0 + QUIET_S)
    assert len(written()) == 3
    assert written()[2].endswith("repeated=4")


def test_a_flood_of_different_lines_is_bounded(lines) -> None:
    journal, written = lines
    for number in range(5000):
        journal.dropped((f"10.0.{number >> 8}.{number & 255}", 1), "cause", 1.0)
    assert len(written()) == 200


def test_transfers_are_always_written(lines) -> None:
    journal, written = lines
    for _ in range(300):
        journal.finished(PEER, Ended(file=b"f", outcome=b"done"), 1.0)
    assert len(written()) == 300


def test_transfers_wait_for_the_flush_but_no_longer_than_the_next_other_line(lines, tmp_path) -> None:
    journal, written = lines
    journal.finished(PEER, Ended(file=b"f", outcome=b"done"), 1.0)
    assert (tmp_path / "log").read_bytes() == b""
    journal.dropped(PEER, "cause", 1.0)
    assert [": transfer " in line for line in (tmp_path / "log").read_text().splitlines()] == [True, False]
    journal.finished(PEER, Ended(file=b"f", outcome=b"done"), 1.0)
    assert len(written()) == 3


def test_subjects_are_forgotten_not_collected(lines) -> None:
    journal, _written = lines
    for number in range(3000):
        journal.refused(PEER, b"%d" % number, "cause", number / 100)
    assert len(journal._subjects) <= 1024


def test_a_stranger_who_makes_names_up_filled_a_table_with_subjects_that_kept_nobody_quiet_any_more(lines) -> None:
    journal, written = lines
    for number in range(3000):
        journal.refused(PEER, b"%d" % number, "cause", float(number))
    assert len(written()) == 3000
    assert len(journal._subjects) <= QUIET_S + 2


def test_what_was_left_out_is_told_however_late_the_next_line_of_it_comes(lines) -> None:
    journal, written = lines
    for _ in range(4):
        journal.refused(PEER, b"f", "cause", 1.0)
    for number in range(300):
        journal.refused(PEER, b"%d" % number, "cause", 100.0 + number)
    assert ("refused", *(PEER[0], b"f", "cause")) not in journal._subjects
    journal.refused(PEER, b"f", "cause", 500.0)
    journal.refused(PEER, b"f", "cause", 600.0)
    assert written()[-2].endswith("repeated=3")
    assert "repeated" not in written()[-1]


def test_what_was_left_out_of_more_subjects_than_anybody_counts_is_forgotten(lines) -> None:
    journal, _written = lines
    for number in range(600):
        for _ in range(2):
            journal.refused(PEER, b"%d" % number, "cause", float(number))
    assert len(journal._owed) == 256


def test_addresses_are_written_with_their_port() -> None:
    assert host_port(PEER) == "192.0.2.1:1069"
    assert host_port(("2001:db8::1", 69, 0, 0)) == "[2001:db8::1]:69"
