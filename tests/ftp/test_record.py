"""ftp.record: what a worker appends, and what a file that takes no more costs."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path

import pytest

from appliance.ftp.record import Record
from tests.ftp.serving import server, settings, store, until
from tests.ftp.test_xferlog import WORDS

APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    root.mkdir()
    (root / "a.txt").write_bytes(b"x" * 15)
    (root / "big").write_bytes(bytes(32 << 20))
    return root


def test_lines_go_on_in_another_file(tmp_path: Path) -> None:
    record = Record(os.open(tmp_path / "one.log", APPEND), lambda _why: None)
    record.write(b"1\n")
    record.replace(os.open(tmp_path / "two.log", APPEND))
    record.write(b"2\n")
    record.replace(-1)
    assert not record.on
    assert ((tmp_path / "one.log").read_bytes(), (tmp_path / "two.log").read_bytes()) == (b"1\n", b"2\n")


def test_a_line_that_was_torn_does_not_spoil_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lost: list[str] = []
    path = tmp_path / "x.log"
    record = Record(os.open(path, APPEND), lost.append)
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, line: write(fd, line[:3]))
    record.write(b"first\n")
    monkeypatch.setattr(os, "write", write)
    record.write(b"second\n")
    record.replace(-1)
    assert path.read_bytes() == b"fir\nsecond\n"
    assert len(lost) == 1


def test_a_full_disk_is_told_as_such() -> None:
    lost: list[str] = []
    record = Record(os.open("/dev/full", os.O_WRONLY), lost.append)
    record.write(b"x\n")
    record.replace(-1)
    assert lost == [os.strerror(errno.ENOSPC)]


def test_downloads_and_uploads_complete_and_aborted_are_one_line_each(tree: Path, tmp_path: Path) -> None:
    descriptor = os.open(tmp_path / "x.log", APPEND)
    config = settings(incoming={"enabled": True})
    with server(tree, config, documents={"record": descriptor}) as running:
        with running.raw() as raw:
            raw.ask("TYPE I")
            data = raw.passive()
            assert raw.ask("RETR big").startswith("150")
            data.close()
            assert raw.reply().startswith("426")
            data = raw.passive()
            assert raw.ask("LIST").startswith("150")
            raw.reply()
        client = running.ftp()
        client.retrbinary("RETR a.txt", lambda _piece: None)
        assert store(client, "incoming/two words", b"y" * 77).startswith("226")
        lines = until(lambda: _lines(tmp_path / "x.log", 3))
    found = [WORDS.fullmatch(one) for one in lines]
    assert [one and one.group(7, 9, 10, 12, 13, 18) for one in found] == [
        (b"127.0.0.1", b"/big", b"b", b"o", b"a", b"i"),
        (b"127.0.0.1", b"/a.txt", b"b", b"o", b"a", b"c"),
        (b"127.0.0.1", b"/incoming/two_words", b"b", b"i", b"a", b"c"),
    ]
    assert found[1] and found[1].group(8, 14) == (b"15", b"anonymous@")
    assert found[2] and found[2].group(8) == b"77"


def _lines(path: Path, count: int) -> list[bytes]:
    lines = path.read_bytes().splitlines(keepends=True)
    return lines if len(lines) >= count else []


def test_a_name_that_is_no_text_stays_one_line(tree: Path, tmp_path: Path) -> None:
    (tree / "b \udcff").write_bytes(b"x")
    descriptor = os.open(tmp_path / "x.log", APPEND)
    with server(tree, documents={"record": descriptor}) as running:
        client = running.ftp()
        client.retrbinary("RETR b \xff", lambda _piece: None)
        (line,) = until(lambda: _lines(tmp_path / "x.log", 1))
    found = WORDS.fullmatch(line)
    assert found and found.group(9) == rb"/b_\xff"


def test_a_file_that_takes_no_more_costs_the_line_and_not_the_transfer(tree: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_bytes(bytes(4096))
    descriptor = os.open(path, APPEND)

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    with server(tree, before=limit, documents={"record": descriptor}) as running:
        client = running.ftp()
        for _ in range(3):
            assert client.retrbinary("RETR a.txt", lambda _piece: None).startswith("226")
        until(lambda: running.worker.counters()["log_dropped"] >= 3)
        assert running.worker.counters()["crashes"] == 0
    assert path.stat().st_size == 4096
