"""observe.history: bounded, numbered, and none the worse for a disk that refuses."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.observe import history
from appliance.observe.history import SEGMENTS, History

LINE = b'{"n":%d,"time":1.0}\n'


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    while _MADE:
        _MADE.pop().close()


_MADE: list[History] = []


def begun(limit: int) -> History:
    """A history that is closed at the end of the test."""
    _MADE.append(History(limit))
    return _MADE[-1]


def content() -> bytes:
    text = b""
    for descriptor in history.open_all():
        text += os.pread(descriptor, 1 << 20, 0)
        os.close(descriptor)
    return text


def test_lines_are_appended_in_order_over_several_processes(folder: Path) -> None:
    for start in (1, 3):
        kept = begun(1 << 20)
        kept.append(LINE % start)
        kept.append(LINE % (start + 1))
        kept.close()
    assert content() == b"".join(LINE % number for number in range(1, 5))
    assert sorted(os.listdir(folder)) == ["0000000001.jsonl", "0000000002.jsonl"]
    assert history.last_number() == 4


def test_it_never_grows_beyond_its_limit_and_loses_the_oldest() -> None:
    limit = 64 * len(LINE % 10) * SEGMENTS
    kept = begun(limit)
    for number in range(10, 5000):
        kept.append(LINE % number)
        if number % 100 == 0:
            assert sum(size for _number, size in history.segments()) <= limit
    text = content()
    assert text.endswith(LINE % 4999)
    assert len(text) > limit * (SEGMENTS - 2) // SEGMENTS
    assert LINE % 10 not in text


def test_more_lines_at_once_than_a_segment_holds_go_into_several() -> None:
    full = 10 * len(LINE % 10)
    kept = begun(full * SEGMENTS)
    kept.append(b"".join(LINE % number for number in range(10, 99)))
    assert all(size <= full for _number, size in history.segments())
    assert content().endswith(b"".join(LINE % number for number in range(40, 99)))
    kept.append(b"x" * full * 2 + b"\n" + LINE % 99)
    assert content().endswith(b"x\n" + LINE % 99)


def test_a_limit_of_nothing_keeps_nothing(folder: Path) -> None:
    begun(0).append(LINE % 1)
    assert os.listdir(folder) == []
    assert history.last_number() == 0


def test_many_short_lives_leave_a_bounded_number_of_segments(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "_MOST", 5)
    for number in range(20):
        kept = begun(1 << 20)
        kept.append(LINE % number)
        kept.close()
    assert len(os.listdir(folder)) <= 6
    assert history.last_number() == 19


def test_what_a_full_disk_tore_is_ended_before_the_next_line(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = begun(1 << 20)
    kept.append(LINE % 1)
    real, room = os.write, [7]

    def short(descriptor: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, "full")
        taken, room[0] = real(descriptor, data[: room[0]]), 0
        return taken

    monkeypatch.setattr(os, "write", short)
    with pytest.raises(OSError, match="full"):
        kept.append(LINE % 2)
    monkeypatch.setattr(os, "write", real)
    kept.append(LINE % 3)
    assert content() == LINE % 1 + (LINE % 2)[:7] + b"\n" + LINE % 3


def test_what_does_not_belong_here_is_left_alone_and_never_followed(folder: Path) -> None:
    (folder / "note.txt").write_text("mine")
    (folder / "0000000009.jsonl").symlink_to("/etc/passwd")
    (folder / "0000000008.jsonl").mkdir()
    kept = begun(1 << 20)
    kept.append(LINE % 1)
    assert content() == LINE % 1
    assert (folder / "note.txt").read_text() == "mine"


def test_a_history_that_is_not_readable_text_has_a_last_number_all_the_same(folder: Path) -> None:
    (folder / "0000000001.jsonl").write_bytes(LINE % 41)
    (folder / "0000000002.jsonl").write_bytes(os.urandom(5000))
    (folder / "0000000003.jsonl").write_bytes(b"")
    assert history.last_number() == 41


def test_descriptors_can_only_be_read() -> None:
    begun(1 << 20).append(LINE % 1)
    (descriptor,) = history.open_all()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.write(descriptor, b"x")
    os.close(descriptor)
