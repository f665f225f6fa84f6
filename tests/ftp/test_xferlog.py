"""ftp.xferlog: the words of a line, as xferlog(5) names them and log analysers look for them."""

from __future__ import annotations

import re
import select
from typing import Any

import pytest

from appliance.ftp.xferlog import line

# what analysers of the format take a line apart with: 18 words, a date of ctime, a direction, a completion
WORDS = re.compile(
    rb"(Mon|Tue|Wed|Thu|Fri|Sat|Sun) (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) ([ 12]\d|3[01]) "
    rb"(\d\d:\d\d:\d\d) (\d{4}) (\d+) (\S+) (\d+) (\S+) ([ab]) ([CUT_]) ([oid]) ([agr]) "
    rb"(\S+) (\S+) ([01]) (\S+) ([ci])\n"
)


def made(**changes: Any) -> bytes:
    given: dict[str, Any] = {
        "ended": 1793782245.9,  # 2026-11-04 08:50:45
        "seconds": 12.4,
        "client": "192.0.2.7",
        "size": 1024,
        "path": "/pub/a.iso",
        "text": False,
        "verb": "RETR",
        "user": "me@example.org",
        "done": True,
    }
    return line(**{**given, **changes})


def test_a_download_is_the_line_of_the_manual() -> None:
    assert made() == b"Wed Nov  4 08:50:45 2026 12 192.0.2.7 1024 /pub/a.iso b _ o a me@example.org ftp 0 * c\n"


def test_an_upload_that_was_cut_in_type_a() -> None:
    found = WORDS.fullmatch(made(verb="STOR", text=True, done=False, client="2001:db8::7", ended=1794614400.0))
    assert found is not None
    assert found.group(3, 7, 10, 12, 18) == (b"14", b"2001:db8::7", b"a", b"i", b"i")


def test_a_listing_moves_no_file() -> None:
    assert made(verb="LIST") == b""


def test_a_transfer_takes_at_least_a_second() -> None:
    assert b" 2026 1 192.0.2.7 " in made(seconds=0.0)


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("/two words", b"/two_words"),
        ("/a\nSat Nov 21", rb"/a\x0aSat_Nov_21"),
        ("/\udcff\udcfe", rb"/\xff\xfe"),
        ("/\u00e9", rb"/\xc3\xa9"),
        ("/tab\there\x7f", rb"/tab\x09here\x7f"),
        ("/back\\x0a", rb"/back\x5cx0a"),
    ],
)
def test_no_name_makes_a_second_line_or_word(path: str, word: bytes) -> None:
    found = WORDS.fullmatch(made(path=path))
    assert found is not None
    assert found.group(9) == word


def test_no_password_is_a_word_too() -> None:
    found = WORDS.fullmatch(made(user=""))
    assert found is not None
    assert found.group(14) == b"?"


def test_the_longest_line_is_one_write() -> None:
    longest = made(path="/" + "\udcff" * 4096, user="\udcff" * 64, client="f" * 45, size=1 << 63, seconds=1e9)
    assert WORDS.fullmatch(longest) is not None
    assert len(longest) <= select.PIPE_BUF
    assert not re.search(rb"\\x[0-9a-f]? ", longest)  # no escape is cut
