"""ftp.listing: the lines of listings, byte for byte."""

from __future__ import annotations

import stat
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.ftp.listing import FACTS, FactLines, LongLines, sent, tellable, timestamp

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
    assert lines.line("a", Found()) == "-rw-r--r--   1 ftp      ftp          1234 Nov 14 21:13 a\r\n"
    assert lines.line("b", Found(st_mtime=1e9)) == "-rw-r--r--   1 ftp      ftp          1234 Sep 09  2001 b\r\n"
    future = lines.line("c", Found(st_mtime=NOW + 30 * 86400))
    assert " Dec 14  2023 " in future


def test_a_folder_and_a_link_are_marked() -> None:
    lines = LongLines(NOW)
    assert lines.line("d", Found(st_mode=stat.S_IFDIR | 0o755)).startswith("drwxr-xr-x ")
    assert lines.line("l", Found(st_mode=stat.S_IFLNK | 0o777), "a").endswith(" l -> a\r\n")


def test_a_name_goes_out_with_its_own_bytes() -> None:
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    both = sent((LongLines(NOW).line(name, Found()), FactLines().line(name, Found())))
    assert both.count(b" caf\xe9\r\n") == 2
    assert sent(("\udcc3", "\udca9")) == b"\xc3\xa9"  # halves of one character stay what they are


def test_the_facts_of_rfc_3659() -> None:
    assert FactLines().line("a", Found()) == "type=file;perm=r;size=1234;modify=20231114211320; a\r\n"
    assert FactLines(FACTS).line("d", Found(st_mode=stat.S_IFDIR | 0o755)) == (
        "type=dir;perm=el;size=1234;modify=20231114211320;unix.mode=0755;unique=10g2a; d\r\n"
    )
    assert FactLines(("size", "nonsense")).line("a", Found()) == "size=1234; a\r\n"
    assert FactLines(()).line("a", Found()) == " a\r\n"


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("../pub/x-1.2_3", "OS.unix=slink:../pub/x-1.2_3"),
        ("a b", "OS.unix=symlink"),  # the name would begin behind the space
        ("a;size=1", "OS.unix=symlink"),
        ("caf\udce9", "OS.unix=symlink"),
        ("a\r\nb", "OS.unix=symlink"),
    ],
)
def test_the_target_of_a_link_is_told_where_a_fact_may_have_its_characters(target: str, told: str) -> None:
    assert FactLines().line("a", Found(), target=target) == f"type={told};perm=r;size=1234;modify=20231114211320; a\r\n"
    assert FactLines(("size",)).line("a", Found(), target=target) == "size=1234; a\r\n"


def test_the_drop_box_says_that_files_can_be_created_and_none_listed() -> None:
    assert "perm=ec;" in FactLines().line("incoming", Found(st_mode=stat.S_IFDIR | 0o700), box=True)


@pytest.mark.parametrize("seconds", [1e18, -1e18])
def test_an_impossible_time_stamp_shows_the_first_day_of_1970(seconds: float) -> None:
    assert timestamp(seconds).startswith("19700101")
    assert "modify=19700101" in FactLines().line("a", Found(st_mtime=seconds))
    assert " Jan 01  1970 " in LongLines(NOW).line("a", Found(st_mtime=seconds))


def test_more_times_than_are_remembered_change_nothing() -> None:
    long, facts = LongLines(NOW), FactLines()
    first = Found(st_mtime=0.0)
    before = long.line("a", first), facts.line("a", first)
    for number in range(5000):
        found = Found(st_mtime=number * 86400.0, st_nlink=number, st_mode=stat.S_IFREG | number)
        long.line("x", found)
        facts.line("x", found)
    assert (long.line("a", first), facts.line("a", first)) == before


def numbers(found: Found) -> tuple[int, ...]:
    """What os.stat gives for it, as a tuple."""
    seconds = int(found.st_mtime)
    return found.st_mode, found.st_ino, found.st_dev, found.st_nlink, 0, 0, found.st_size, 0, seconds, 0


@pytest.mark.parametrize("facts", [FACTS[:4], FACTS, ()])
@given(
    st.lists(
        st.builds(
            Found,
            st_mode=st.sampled_from((stat.S_IFREG | 0o644, stat.S_IFREG | 0o600, stat.S_IFDIR | 0o755, stat.S_IFLNK)),
            st_nlink=st.integers(1, 3),
            st_size=st.integers(0, 1 << 62),
            st_mtime=st.sampled_from((0, NOW, NOW - 86399, NOW - 200 * 86400, NOW + 86400, NOW + 86401, 1e18, -1e18)),
        ),
        max_size=8,
    )
)
def test_many_lines_at_once_are_those_that_are_made_one_by_one(facts: tuple[str, ...], entries: list[Found]) -> None:
    for lines in (LongLines(NOW), FactLines(facts)):
        names = [f"name {number}" for number in range(len(entries))]
        one_by_one = [lines.line(*both) for both in zip(names, entries, strict=True)]
        asked: list[int] = []

        def other(at: int, lines: LongLines | FactLines = lines, asked: list[int] = asked) -> str:
            asked.append(at)
            return lines.line(f"name {at}", entries[at])

        assert lines.lines(names, map(numbers, entries), other) == one_by_one
        if isinstance(lines, LongLines) or facts == FACTS[:4]:  # for others each is asked for by itself
            assert asked == [at for at, found in enumerate(entries) if not stat.S_ISREG(found.st_mode)]


def test_names_that_would_break_a_line_cannot_be_told() -> None:
    assert tellable("a b\xff\udce9")
    for odd in ("\n", "\r", "\t", "\x01", "\x1b", "\x7f"):  # seen: listed, and then 501 for who fetched it
        assert not tellable(f"a{odd}b")
