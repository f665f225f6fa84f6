"""ftp.pool: work is done elsewhere, told here, and a bug costs what it was for."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Iterator

import pytest

from appliance.ftp.pool import Job, Pool
from tests.ftp.serving import SECONDS


@pytest.fixture
def pool() -> Iterator[Pool]:
    made = Pool()
    made.start()
    yield made
    made.close()
    os.close(made.fileno())


def turn(pool: Pool) -> None:
    assert select.select([pool.fileno()], [], [], SECONDS)[0]
    pool.handle_read_event()


def no_wall() -> None:
    pytest.fail("the wall was met")


def test_work_is_done_in_a_thread_and_told_in_the_loop(pool: Pool) -> None:
    told: list[tuple[object, int]] = []
    pool.submit(
        lambda _job: threading.get_ident(), lambda job: told.append((job.value, threading.get_ident())), no_wall
    )
    while not told:
        turn(pool)
    assert told[0][0] != told[0][1] == threading.get_ident()


def test_an_error_of_the_disk_is_a_value(pool: Pool) -> None:
    told: list[Job] = []
    pool.submit(lambda _job: os.stat("/no/such/file"), told.append, no_wall)
    while not told:
        turn(pool)
    assert isinstance(told[0].error, FileNotFoundError)


@pytest.mark.parametrize("where", ["work", "then"])
def test_a_bug_meets_the_wall_of_its_job_alone_and_the_thread_lives(pool: Pool, where: str) -> None:
    walls: list[str] = []
    told: list[int] = []

    def bug(_job: Job) -> None:
        raise ZeroDivisionError

    for number in range(50):
        name = str(number)
        pool.submit(
            bug if where == "work" else lambda _job: 1,
            bug if where == "then" else lambda _job: None,
            lambda name=name: walls.append(name),  # type: ignore[misc]
        )
        pool.submit(lambda _job: 7, lambda job: told.append(job.value), no_wall)
    while len(walls) < 50 or len(told) < 50:
        turn(pool)
    assert (sorted(map(int, walls)), told) == (list(range(50)), [7] * 50)


def test_long_work_of_one_does_not_hold_up_the_others(pool: Pool) -> None:
    go = threading.Event()
    told: list[str] = []
    pool.submit(lambda _job: go.wait(SECONDS), lambda _job: told.append("long"), no_wall)
    pool.submit(lambda _job: 1, lambda _job: told.append("short"), no_wall)
    while not told:
        turn(pool)
    go.set()
    while len(told) < 2:
        turn(pool)
    assert told == ["short", "long"]


def test_a_wake_up_for_nothing_is_no_harm(pool: Pool) -> None:
    pool.handle_read_event()


def test_it_starts_once(pool: Pool) -> None:
    before = threading.active_count()
    pool.start()
    assert threading.active_count() == before


def test_closing_ends_the_threads_and_waits_for_no_stuck_one() -> None:
    made, stuck = Pool(), threading.Event()
    made.start()
    made.submit(lambda _job: stuck.wait(SECONDS), lambda _job: None, no_wall)
    made.close()
    alive = [thread for thread in made._threads if thread.is_alive()]
    assert len(alive) == 1
    stuck.set()
    alive[0].join(SECONDS)
    assert not alive[0].is_alive()
    os.close(made.fileno())
