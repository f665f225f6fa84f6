"""ftp.listing: the lines of listings, byte for byte."""

from __future__ import annotations

import stat
from dataclasses import dataclass

import pytest

from appliance.ftp.listing import FACTS, FactLines, LongLines, tellable, timestamp

NOW = 1_700_000_000.0  # 2023-11-14 22:13:20 UTC


@dataclass
class Found:
    st_mode: int = stat.S_IFREG | 0o644
    st_nlink: int = 1
    st_size: int = 1234
    st_mtime: float = NOW - 3600
    st_dev: int = 0x10
    st_ino: int = 0x2A


def test_a_recent_file_shows_its_time_and_an_old_one_its_year() -> None:
    lines = LongLines(NOW)
    assert lines.line(b"a", Found()) == b"-rw-r--r--   1 ftp      ftp          1234 Nov 14 21:13 a\r\n"
    assert lines.line(b"b", Found(st_mtime=1e9)) == b"-rw-r--r--   1 ftp      ftp          1234 Sep 09  2001 b\r\n"
    future = lines.line(b"c", Found(st_mtime=NOW + 30 * 86400))
    assert b" Dec 14  2023 " in future


def test_a_folder_and_a_link_are_marked() -> None:
    lines = LongLines(NOW)
    assert lines.line(b"d", Found(st_mode=stat.S_IFDIR | 0o755)).startswith(b"drwxr-xr-x ")
    assert lines.line(b"l", Found(st_mode=stat.S_IFLNK | 0o777), b"a").endswith(b" l -> a\r\n")


def test_a_name_goes_out_with_its_own_bytes() -> None:
    assert LongLines(NOW).line(b"caf\xe9", Found()).endswith(b" caf\xe9\r\n")
    assert FactLines().line(b"caf\xe9", Found()).endswith(b" caf\xe9\r\n")


def test_the_facts_of_rfc_3659() -> None:
    assert FactLines().line(b"a", Found()) == b"type=file;perm=r;size=1234;modify=20231114211320; a\r\n"
    assert FactLines(FACTS).line(b"d", Found(st_mode=stat.S_IFDIR | 0o755)) == (
        b"type=dir;perm=el;size=1234;modify=20231114211320;unix.mode=0755;unique=10g2a; d\r\n"
    )
    assert FactLines(("size", "nonsense")).line(b"a", Found()) == b"size=1234; a\r\n"
    assert FactLines(()).line(b"a", Found()) == b" a\r\n"


def test_the_drop_box_says_that_files_can_be_created_and_none_listed() -> None:
    assert b"perm=ec;" in FactLines().line(b"incoming", Found(st_mode=stat.S_IFDIR | 0o700), box=True)


@pytest.mark.parametrize("seconds", [1e18, -1e18])
def test_an_impossible_time_stamp_shows_the_epoch(seconds: float) -> None:
    assert timestamp(seconds) == b"19700101000000"
    assert b" Jan 01  1970 " in LongLines(NOW).line(b"a", Found(st_mtime=seconds))


def test_more_times_than_are_remembered_change_nothing() -> None:
    long, facts = LongLines(NOW), FactLines()
    first = Found(st_mtime=0.0)
    before = long.line(b"a", first), facts.line(b"a", first)
    for minute in range(5000):
        long.line(b"x", Found(st_mtime=minute * 60.0))
        facts.line(b"x", Found(st_mtime=minute * 60.0))
    assert (long.line(b"a", first), facts.line(b"a", first)) == before


def test_names_that_would_break_a_line_cannot_be_told() -> None:
    assert tellable(b"a b\x01\xff")
    assert not tellable(b"a\nb")
    assert not tellable(b"a\rb")
