"""ftp.ahead: nothing is sent before it is in memory, so a slow disk holds up only the transfer that reads it."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from appliance.ftp import ahead, filesystem
from appliance.ftp.ahead import PIECE, REACH, Ahead
from tests.ftp.serving import Server, read_all, server
from tests.ftp.test_checksums import Hands
from tests.support import ROOT

NONE: frozenset[int] = frozenset()


class Case:
    """An Ahead over a file of `pieces` pieces of which `cold` ones are not in memory."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, pieces: float, cold: set[int]) -> None:
        size = int(pieces * PIECE)
        with open("file", "wb") as file:
            file.truncate(size)
        self.cold, self.resumed = cold, 0
        self.hands = Hands()
        self.file = filesystem.open_file("/file")
        self.ahead = Ahead(self.hands, NONE, self.file, self._resume, lambda: pytest.fail("wall"))
        monkeypatch.setattr(ahead.os, "preadv", self._preadv)

    def _preadv(self, fd: int, buffers: list[bytearray], offset: int, flags: int = 0) -> int:
        if flags and offset // PIECE in self.cold:
            raise BlockingIOError(errno.EAGAIN, "cold")
        if not flags:
            self.cold.discard(offset // PIECE)
        return len(os.pread(fd, len(buffers[0]), offset))

    def _resume(self) -> None:
        self.resumed += 1

    def fetch(self) -> int:
        """Have the waiting fetch done; how often the transfer was resumed by it."""
        before = self.resumed
        self.hands.do()
        return self.resumed - before

    def close(self) -> None:
        self.ahead.close()
        self.file.close()


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[float, set[int]], Case]]:
    monkeypatch.chdir(tmp_path)
    cases: list[Case] = []

    def make(pieces: float, cold: set[int]) -> Case:
        cases.append(Case(monkeypatch, pieces, cold))
        return cases[-1]

    yield make
    for made in cases:
        made.close()
        while made.hands.jobs:
            made.hands.do()
        os.close(made.hands.fileno())


Make = Callable[[float, set[int]], Case]


def test_what_is_in_memory_is_never_fetched(case: Make) -> None:
    made = case(2.5, set())
    size = 5 * PIECE // 2
    assert [made.ahead.ready(offset) for offset in (0, 10, PIECE, size - 7)] == [size, size - 10, size - PIECE, 7]
    assert made.hands.jobs == []


def test_no_more_than_the_reach_is_ready_at_once_and_nothing_beyond_a_cold_piece(case: Make) -> None:
    made = case(12, {10})
    assert [made.ahead.ready(offset) for offset in (0, 3, REACH)] == [REACH, REACH - 3, 2 * PIECE]
    assert made.ahead.ready(REACH - PIECE) == 3 * PIECE  # before it comes to the end of what it knows
    assert made.ahead.ready(10 * PIECE) == 0
    assert made.fetch() == 1
    assert made.ahead.ready(10 * PIECE) == 2 * PIECE


def test_a_cold_piece_is_fetched_and_the_next_one_while_it_is_sent(case: Make) -> None:
    made = case(3, {0, 1})
    assert made.ahead.ready(0) == 0
    assert made.ahead.ready(0) == 0
    assert len(made.hands.jobs) == 1
    assert made.fetch() == 1
    assert made.ahead.ready(0) == PIECE
    assert len(made.hands.jobs) == 1  # the second piece is on its way
    assert made.fetch() == 0  # nobody waited
    assert made.ahead.ready(PIECE) == 2 * PIECE
    assert made.hands.jobs == []  # the third was there
    assert made.ahead.ready(2 * PIECE) == PIECE


def test_who_is_faster_than_the_disk_waits_for_the_fetch_under_way(case: Make) -> None:
    made = case(2, {0, 1})
    made.ahead.ready(0)
    made.fetch()
    assert made.ahead.ready(PIECE) == 0
    assert len(made.hands.jobs) == 1
    assert made.fetch() == 1
    assert made.ahead.ready(PIECE) == PIECE


def test_a_transfer_that_has_ended_is_not_resumed_and_no_descriptor_stays(case: Make) -> None:
    before = len(os.listdir("/proc/self/fd"))
    made = case(2, {0, 1})
    made.ahead.ready(0)
    made.close()
    assert made.fetch() == 0
    os.close(made.hands.fileno())
    assert len(os.listdir("/proc/self/fd")) == before
    made.hands._wake = os.eventfd(0)


def test_where_no_descriptor_is_left_the_loop_reads_itself(case: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    made = case(2, {0, 1})

    def none_left(_fd: int) -> int:
        raise OSError(errno.EMFILE, "none left")

    monkeypatch.setattr(ahead.os, "dup", none_left)
    assert made.ahead.ready(0) == PIECE


@pytest.mark.parametrize(("number", "fetches"), [(errno.EOPNOTSUPP, 1), (errno.EIO, 0)])
def test_a_file_system_that_cannot_tell_is_read_by_the_pool_and_a_broken_one_by_the_transfer(
    case: Make, monkeypatch: pytest.MonkeyPatch, number: int, fetches: int
) -> None:
    made = case(1, set())

    def fails(*_arguments: object) -> int:
        raise OSError(number, "fails")

    monkeypatch.setattr(ahead.os, "preadv", fails)
    assert made.ahead.ready(0) == (0 if fetches else PIECE)
    assert len(made.hands.jobs) == fetches
    for _ in range(fetches):
        assert made.fetch() == 1  # with an error, which sendfile will meet and tell
    assert made.ahead.ready(0) == PIECE


def test_files_in_memory_are_known_by_their_device(case: Make) -> None:
    made = case(2, {0, 1})
    known = Ahead(made.hands, frozenset([made.file.device]), made.file, made._resume, lambda: None)
    assert known.ready(0) == 2 * PIECE
    assert os.stat("/proc").st_dev not in ahead.memory_devices()
    if os.path.ismount("/dev/shm"):
        assert os.stat("/dev/shm").st_dev in ahead.memory_devices()


# -- a disk of 4 MB/s


SLOW = 4 << 20  # bytes per second


@contextmanager
def slowed(pid: int, device: int) -> Iterator[None]:
    """Throttle what one process reads from a disk (cgroup version 1, blkio); skips where that cannot be done."""
    group = Path("/sys/fs/cgroup/blkio") / f"slow-disk-{os.getpid()}"
    disk = f"{os.major(device)}:{os.minor(device)}"
    if not Path(f"/sys/dev/block/{disk}").exists() or Path(f"/sys/dev/block/{disk}/partition").exists():
        pytest.skip("the test folder is not on a whole disk")
    try:
        group.mkdir()
    except OSError:
        pytest.skip("no blkio control group here")
    try:
        (group / "blkio.throttle.read_bps_device").write_text(f"{disk} {SLOW}")
        (group / "cgroup.procs").write_text(str(pid))  # all its threads
        yield
    finally:
        (group.parent / "cgroup.procs").write_text(str(pid))
        group.rmdir()


def cold(path: Path, size: int) -> bytes:
    """A file that is on the disk and nowhere else."""
    content = os.urandom(size)
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return content


def fetched(running: Server, name: str, kind: str) -> bytes:
    with running.raw() as raw:
        raw.ask(f"TYPE {kind}")
        data = raw.passive()
        assert raw.ask(f"RETR {name}").startswith("150")
        content = read_all(data)
        assert raw.reply().startswith("226")
    return content


@pytest.mark.root
@pytest.mark.skipif(not ROOT, reason="needs root")
@pytest.mark.parametrize("kind", ["I", "A"])
def test_a_slow_disk_delays_nobody_else(tree: Path, kind: str) -> None:
    contents = {f"cold{number}": cold(tree / f"cold{number}", 3 << 20) for number in range(4)}
    found: dict[str, bytes] = {}
    worst, rounds = 0.0, 0
    with server(tree) as running, running.raw() as other:
        other.get("NLST")
        with slowed(running.worker.pid, tree.stat().st_dev):
            readers = [
                threading.Thread(target=lambda name=name: found.update({name: fetched(running, name, kind)}))  # type: ignore[misc]
                for name in contents
            ]
            began = time.monotonic()
            for reader in readers:
                reader.start()
            while any(reader.is_alive() for reader in readers):
                started = time.monotonic()
                assert other.ask("NOOP").startswith("200")
                assert other.get("RETR a.txt").startswith(b"one")
                worst, rounds = max(worst, time.monotonic() - started), rounds + 1
            took = time.monotonic() - began
    assert took > 1.5, "the disk was not slow"
    assert rounds > 100  # thousands; 13 when the loop reads: counted, because one round may wait for the machine itself
    for name, content in contents.items():
        wire = content if kind == "I" else content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        assert found[name] == wire
    print(f"worst {worst * 1e3:.1f} ms in {rounds} rounds, {took:.1f} s")
