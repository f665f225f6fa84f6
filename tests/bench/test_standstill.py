"""A client that got no processor is told from a server that said nothing."""

from __future__ import annotations

import asyncio
import time

from bench.soak import judge
from bench.soak.standstill import EVERY_S, Standstill


def test_the_longest_standstill_of_an_attempt_is_told_with_what_the_kernel_says_of_it() -> None:
    made = Standstill()
    at = time.monotonic()
    made.beat(at, (1.0, 2.0))
    made.beat(at + EVERY_S, (1.0, 2.0))
    made.beat(at + 7, (1.5, 8.0))
    made.beat(at + 9, (1.5, 8.25))
    assert made.worst(at + 0.05, at + 9) == [6.9, 6.0, 0.5]
    assert made.worst(at + 7.5, at + 9) == [2.0, 0.25, 0.0], "only what falls into the attempt"
    assert made.worst(at - 5, at) == [0.0, 0.0, 0.0]


def test_one_that_has_not_ended_yet_counts_and_a_kernel_that_tells_nothing_is_no_error() -> None:
    made = Standstill()
    at = time.monotonic()
    made.beat(at, None)
    assert made.worst(at, at + 3) == [3.0, None, None]


def test_a_loop_that_is_held_up_shows() -> None:
    async def held_up() -> list[float | None]:
        made = Standstill()
        watching = asyncio.create_task(made.watch())
        await asyncio.sleep(0)
        began = time.monotonic()
        time.sleep(0.6)
        await asyncio.sleep(2 * EVERY_S)
        watching.cancel()
        return made.worst(began, time.monotonic())

    stood_s, _waited_s, _worked_s = asyncio.run(held_up())
    assert stood_s is not None and stood_s >= 0.6


def test_a_failure_says_whether_the_client_stood_still_and_is_excused_by_nothing() -> None:
    record = {"p": "tftp", "k": "get", "n": "f", "ok": True, "t0": 1.0, "t1": 16.0, "bytes": 5}
    starved = {**record, "tries": [[1.0, 15.0, "silence after 0 bytes", [6.2, 6.15, 0.01]]]}
    untold = {**record, "tries": [[1.0, 15.0, "silence after 0 bytes", [6.2, None, None]]]}
    silent = {**record, "tries": [[1.0, 15.0, "silence after 0 bytes", [0.0, 0.0, 0.0]]]}
    found = judge.tally([starved, untold, silent], [], {})
    how = "tftp get f 1.0..15.0: silence after 0 bytes (the client's program"
    assert found.failed == [
        f"{how} stood still for 6.2 s at once: 6.15 s without a processor, 0.01 s at work)",
        f"{how} stood still for 6.2 s at once)",
        f"{how} never stood still)",
    ]
