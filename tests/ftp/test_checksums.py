"""ftp.checksums: computed once for all, one at a time, kept while the file stays as it is."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from appliance.ftp import checksums, filesystem
from appliance.ftp.checksums import ALGORITHMS, BusyError, Checksums, Claim
from appliance.ftp.pool import Job, Pool

OLD_NS = 1_600_000_000_000_000_000


class Hands(Pool):
    """A pool whose work is done when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs: list[Job] = []

    def submit(self, work: Callable[[Job], Any], then: Callable[[Job], None], wall: Callable[[], None]) -> Job:
        self.jobs.append(Job(work, then, wall))
        return self.jobs[-1]

    def do(self) -> None:
        job = self.jobs.pop(0)
        job.run()
        job.deliver()


class Asked:
    """One claim and what it was told."""

    def __init__(
        self, sums: Checksums, path: str, algorithm: str = "SHA-256", span: tuple[int, int] | None = None
    ) -> None:
        self.told: list[str | OSError] = []
        self.walls = 0
        self.claim = Claim(self.told.append, self.wall)
        file = filesystem.open_file(path)
        start, end = span or (0, file.size)
        self.known = sums.ask(file, algorithm, start, end, self.claim)
        assert file.fd == -1

    def wall(self) -> None:
        self.walls += 1


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in "abcdef":
        (tmp_path / name).write_bytes(name.encode() * 100_000)
        os.utime(tmp_path / name, ns=(OLD_NS, OLD_NS))
    return tmp_path


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The files were changed long ago, as far as the clock can tell (ctime cannot be set)."""
    found = checksums.time.time_ns
    monkeypatch.setattr(checksums.time, "time_ns", lambda: found() + 10**11)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


EXPECTED = {
    "SHA-256": lambda data: hashlib.sha256(data).hexdigest(),
    "SHA-512": lambda data: hashlib.sha512(data).hexdigest(),
    "SHA-1": lambda data: hashlib.sha1(data).hexdigest(),
    "MD5": lambda data: hashlib.md5(data).hexdigest(),
    "CRC32": lambda data: f"{zlib.crc32(data):08x}",
}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("span", [(0, 3_000_000), (0, 0), (1, 2), (999_999, 2_000_001), (2_999_999, 3_000_000)])
def test_every_algorithm_and_span(place: Path, algorithm: str, span: tuple[int, int]) -> None:
    data = os.urandom(3_000_000)
    (place / "x").write_bytes(data)
    hands = Hands()
    asked = Asked(Checksums(hands, 4), "/x", algorithm, span)
    hands.do()
    assert asked.told == [EXPECTED[algorithm](data[slice(*span)])]


def test_one_at_a_time_in_order_and_the_same_file_once(place: Path) -> None:
    before = descriptors() + 1  # the wake-up of the pool
    hands = Hands()
    sums = Checksums(hands, 4)
    asked = [Asked(sums, f"/{name}") for name in "aababca"]
    for name, count in (("a", 4), ("b", 2), ("c", 1)):
        assert len(hands.jobs) == 1
        hands.do()
        told = [one.told for one in asked if one.told == [EXPECTED["SHA-256"](name.encode() * 100_000)]]
        assert len(told) == count
    assert hands.jobs == []
    assert descriptors() == before


def test_a_full_queue_refuses_at_once_and_the_same_file_still_joins(place: Path) -> None:
    hands = Hands()
    sums = Checksums(hands, 2)
    first, second, third = (Asked(sums, f"/{name}") for name in "abc")
    before = descriptors()
    with pytest.raises(BusyError):
        Asked(sums, "/d")
    joined = Asked(sums, "/c")
    assert descriptors() == before
    for _ in range(3):
        hands.do()
    assert len(first.told) == len(second.told) == 1
    assert third.told == joined.told != []


@pytest.mark.usefixtures("settled")
def test_it_is_kept_until_the_file_changes(place: Path) -> None:
    hands = Hands()
    sums = Checksums(hands, 4)
    first = Asked(sums, "/a")
    hands.do()
    assert Asked(sums, "/a").known == first.told[0]
    assert Asked(sums, "/a", "MD5").known is None
    hands.do()
    assert Asked(sums, "/a", span=(0, 10)).known is None
    hands.do()
    (place / "a").write_bytes(b"b" * 100_000)
    os.utime(place / "a", ns=(OLD_NS, OLD_NS))  # ctime tells all the same
    changed = Asked(sums, "/a")
    hands.do()
    assert changed.told == [EXPECTED["SHA-256"](b"b" * 100_000)]


def test_that_of_a_file_changed_just_now_is_not_kept(place: Path) -> None:
    hands = Hands()
    sums = Checksums(hands, 4)
    for _ in range(2):
        asked = Asked(sums, "/a")
        assert asked.known is None
        hands.do()
        assert asked.told


@pytest.mark.usefixtures("settled")
def test_the_number_of_kept_ones_has_a_bound(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksums, "_KEPT", 3)
    hands = Hands()
    sums = Checksums(hands, 4)
    for name in "abc":
        Asked(sums, f"/{name}")
        hands.do()
    assert Asked(sums, "/a").known  # asked for again: the last to go
    Asked(sums, "/d")
    hands.do()
    assert Asked(sums, "/a").known
    assert Asked(sums, "/b").known is None


@pytest.mark.parametrize("change", ["grow", "cut", "touch"])
def test_a_file_that_changes_while_it_is_read_has_no_checksum(place: Path, change: str) -> None:
    hands = Hands()
    asked = Asked(Checksums(hands, 4), "/a")
    if change == "touch":
        os.utime("a")
    else:
        os.truncate("a", 200_000 if change == "grow" else 5)
    hands.do()
    assert isinstance(asked.told[0], BlockingIOError)


def test_who_has_gone_is_told_nothing_and_nothing_is_computed_for_nobody(place: Path) -> None:
    before = descriptors() + 1
    hands = Hands()
    sums = Checksums(hands, 4)
    running, waiting, other = (Asked(sums, f"/{name}") for name in "abc")
    again = Asked(sums, "/a")
    running.claim.cancel()
    assert not hands.jobs[0].stopped  # one still waits for it
    again.claim.cancel()
    again.claim.cancel()
    assert hands.jobs[0].stopped
    waiting.claim.cancel()
    anew = Asked(sums, "/a")
    for _ in range(3):
        hands.do()
    assert hands.jobs == []
    assert running.told == again.told == waiting.told == []
    assert len(other.told) == 1
    assert anew.told == [EXPECTED["SHA-256"](b"a" * 100_000)]
    other.claim.cancel()
    assert descriptors() == before


def test_one_that_ends_another_while_it_is_told_does_no_harm(place: Path) -> None:
    hands = Hands()
    sums = Checksums(hands, 4)
    second: list[Asked] = []
    file = filesystem.open_file("/a")
    sums.ask(file, "SHA-256", 0, 5, Claim(lambda _value: second[0].claim.cancel(), lambda: pytest.fail("wall")))
    second.append(Asked(sums, "/a", span=(0, 5)))
    hands.do()
    assert second[0].told == []


def test_a_bug_of_one_session_is_its_own(place: Path) -> None:
    hands = Hands()
    sums = Checksums(hands, 4)
    asked = Asked(sums, "/a")

    def bug(_value: object) -> None:
        raise ZeroDivisionError

    asked.claim.then = bug
    other = Asked(sums, "/a")
    hands.do()
    assert (asked.walls, other.walls, len(other.told)) == (1, 0, 1)


def test_a_bug_of_the_computation_meets_all_who_wait_and_the_next_one_runs(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hands = Hands()
    sums = Checksums(hands, 4)
    asked = [Asked(sums, "/a"), Asked(sums, "/a")]
    other = Asked(sums, "/b")
    with monkeypatch.context() as patch:
        patch.setattr(checksums, "_computed", lambda *_: 1 // 0)
        hands.do()
    hands.do()
    assert [one.walls for one in asked] == [1, 1]
    assert len(other.told) == 1


def test_lines_are_those_of_sha256sum() -> None:
    assert checksums.line_of("ab", b"name") == b"ab  name\n"
    assert checksums.line_of("ab", b"back\\slash") == b"\\ab  back\\\\slash\n"
