"""release.verdict: only the one answer that means clean is clean."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.release.verdict import MOST_TEXT, UNSCANNED, Kind, Verdict, error, of_clamd, of_exit


@pytest.mark.parametrize(
    ("status", "output", "expected"),
    [
        (0, b"stdin: OK\n", Verdict(Kind.CLEAN, b"stdin: OK")),
        (1, b" Eicar FOUND\n", Verdict(Kind.INFECTED, b"Eicar FOUND")),
        (2, b"no database", Verdict(Kind.ERROR, b"the scanner ended with 2 no database")),
        (127, b"", Verdict(Kind.ERROR, b"the scanner ended with 127")),
        (-9, b"", Verdict(Kind.ERROR, b"the scanner was ended by signal 9")),
    ],
)
def test_an_exit_code_means_what_it_means_to_clamscan(status: int, output: bytes, expected: Verdict) -> None:
    assert of_exit(status, output, complete=True) == expected


def test_a_program_that_did_not_read_everything_found_nothing_clean() -> None:
    assert of_exit(0, b"OK", complete=False).kind is Kind.ERROR
    assert of_exit(1, b"bad", complete=False).kind is Kind.INFECTED
    assert of_clamd(b"stream: OK\0", complete=False).kind is Kind.ERROR


@pytest.mark.parametrize(
    ("answer", "kind", "text"),
    [
        (b"stream: OK\0", Kind.CLEAN, b""),
        (b"stream: OK\n", Kind.CLEAN, b""),
        (b"stream: Test.Thing FOUND\0", Kind.INFECTED, b"Test.Thing"),
        (b"INSTREAM size limit exceeded. ERROR\0", Kind.ERROR, b"INSTREAM size limit exceeded. ERROR"),
        (b"stream: OK, or so ERROR\0", Kind.ERROR, b"stream: OK, or so ERROR"),
        (b"OK\0", Kind.ERROR, b"OK"),
        (b"stream: OK\0stream: OK\0", Kind.ERROR, b"stream: OK\0stream: OK"),
        (b"", Kind.ERROR, b"clamd closed the connection without an answer"),
    ],
)
def test_an_answer_of_clamd_is_understood_whole_or_not_at_all(answer: bytes, kind: Kind, text: bytes) -> None:
    assert of_clamd(answer, complete=True) == Verdict(kind, text)


@given(st.binary(max_size=40))
def test_no_other_answer_is_clean(answer: bytes) -> None:
    assert (of_clamd(answer, complete=True).kind is Kind.CLEAN) == (answer.rstrip(b"\0\n") == b"stream: OK")


def test_the_words_of_a_scanner_are_cut() -> None:
    long = b"x" * 10_000
    for found in (of_exit(0, long, complete=True), of_exit(1, long, complete=True), of_exit(3, long, complete=True),
                  of_clamd(b"stream: " + long + b" FOUND", complete=True), of_clamd(long, complete=True)):  # fmt: skip
        assert len(found.text) <= MOST_TEXT


def test_what_passes_is_clean_or_was_not_to_be_scanned() -> None:
    assert UNSCANNED.passes and Verdict(Kind.CLEAN).passes
    assert not error("down").passes and not Verdict(Kind.INFECTED).passes
    assert error("d\u00f6wn") == Verdict(Kind.ERROR, "d\u00f6wn".encode())
