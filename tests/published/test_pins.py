"""published.pins: the latest pin of a client counts, whichever worker made it, and only for its time."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.published import pins
from appliance.published.pins import BUCKET, SIZE, SLOTS, Pins
from tests.published import trees

LENGTH_S = 600.0
START = 1_000_000.0  # seconds of uptime: stamps have wrapped


def table() -> memoryview:
    return memoryview(bytearray(SIZE)).cast("Q")


class Workers:
    """Some workers that see each other's tables; all serve release 1."""

    def __init__(self, count: int, length_s: float = LENGTH_S) -> None:
        self.tables = [table() for _ in range(count)]
        self.pins = [Pins(length_s, one) for one in self.tables]
        for number, one in enumerate(self.pins):
            one.in_force(1, trees.name(1), START)
            for other, shown in enumerate(self.tables):
                if other != number:
                    one.link(other, shown.toreadonly())

    def release(self, number: int, now: float, *workers: int) -> None:
        for index in workers or range(len(self.pins)):
            self.pins[index].in_force(number, trees.name(number), now)

    def found(self, client: str, now: float) -> set[int | None]:
        """What each worker finds."""
        return {None if (one := pins.find(client, now)) is None else one[0] for pins in self.pins}


def test_nobody_is_pinned_before_anything_was_asked_for() -> None:
    assert Workers(3).found("192.0.2.1", START) == {None}
    assert Pins(LENGTH_S).find("192.0.2.1", 0.0) is None


def test_a_client_keeps_its_release_in_every_worker_until_it_asks_for_nothing() -> None:
    workers = Workers(3)
    workers.pins[1].pin("a", 1, START)
    workers.release(2, START + 1)
    assert workers.found("a", START + 1) == {1}
    assert workers.found("b", START + 1) == {None}
    assert workers.found("a", START + LENGTH_S - 0.01) == {1}
    assert workers.found("a", START + LENGTH_S + 0.01) == {None}
    workers.pins[2].pin("a", 1, START + LENGTH_S - 1)  # it asked again
    assert workers.found("a", START + 2 * LENGTH_S - 2) == {1}
    assert workers.found("a", START + 2 * LENGTH_S) == {None}


def test_the_latest_pin_counts_whoever_made_it() -> None:
    workers = Workers(3)
    workers.pins[0].pin("a", 1, START)
    workers.release(2, START + 1)
    workers.pins[1].pin("a", 2, START + 2)
    assert workers.found("a", START + 3) == {2}
    workers.pins[2].pin("a", 1, START + 2.001)
    assert workers.found("a", START + 3) == {1}
    workers.pins[2].pin("a", 2, START + 2.002)
    assert workers.found("a", START + 3) == {2}


def test_a_worker_that_has_not_heard_of_a_release_finds_it_by_its_name_in_a_siblings_table() -> None:
    workers = Workers(2)
    workers.release(2, START + 1, 0)
    workers.pins[0].pin("a", 2, START + 1)
    assert workers.pins[1].find("a", START + 1) == (2, trees.name(2))
    workers.tables[0][5] = 0
    assert workers.pins[1].find("a", START + 1) == (2, "")
    workers.release(3, START + 2, 0)
    assert workers.pins[1].find("a", START + 1) == (2, "")  # that one has gone on; its name is that of another


def test_a_clock_that_is_a_little_ahead_is_the_latest() -> None:
    workers = Workers(2)
    workers.release(2, START)
    workers.pins[0].pin("a", 1, START + 0.05)
    workers.pins[1].pin("a", 2, START)
    assert workers.found("a", START) == {1}


def test_stamps_that_wrap_are_nothing_special() -> None:
    around = (1 << 30) / 5000
    workers = Workers(2)
    workers.release(2, around - 1)
    for step in range(-20, 20):
        workers.pins[step % 2].pin("a", 1 + step % 2, around + step / 10)
        assert workers.found("a", around + step / 10 + 0.05) == {1 + step % 2}


def test_without_another_release_no_table_is_looked_into(monkeypatch: pytest.MonkeyPatch) -> None:
    workers = Workers(3)
    workers.pins[1].pin("a", 1, START)
    monkeypatch.setattr(Pins, "_place", lambda *_: pytest.fail("looked"))
    assert workers.found("a", START) == {None}
    monkeypatch.undo()
    assert workers.pins[0].find("a", START, everywhere=True) == (1, trees.name(1))
    workers.release(2, START + 1)
    assert workers.found("a", START + 2) == {1}
    monkeypatch.setattr(Pins, "_place", lambda *_: pytest.fail("looked"))
    assert workers.found("a", START + 1.1 + LENGTH_S) == {None}  # and no longer than a pin lasts


def test_a_sibling_that_is_gone_says_nothing_any_more_and_one_of_another_build_never() -> None:
    workers = Workers(2)
    workers.pins[0].pin("a", 1, START)
    workers.release(2, START)
    workers.pins[1].unlink(0)
    workers.pins[1].unlink(7)
    assert workers.pins[1].find("a", START) is None
    other = table()
    other[0] = 5
    workers.pins[1].link(3, other)
    assert workers.pins[1].find("a", START, everywhere=True) is None


def test_a_full_bucket_forgets_the_pin_that_was_used_longest_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pins, "_place", lambda _self, client: (8, int(client)))
    one = Pins(LENGTH_S)
    one.in_force(1, trees.name(1), START)
    for client in range(BUCKET + 1):
        one.pin(str(client), 1, START + client)
    one.in_force(2, trees.name(2), START + 20)
    found = [one.find(str(client), START + 20) for client in range(BUCKET + 1)]
    assert found == [None] + [(1, "")] * BUCKET


def test_clients_do_not_meet_and_what_is_remembered_of_them_has_a_bound() -> None:
    workers = Workers(2)
    clients = [f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}" for number in range(6000)]
    for number, client in enumerate(clients):
        workers.pins[number % 2].pin(client, 1, START)
    workers.release(2, START)
    lost = sum(workers.found(client, START + 1) != {1} for client in clients)
    assert lost < 10  # of 16,384 slots: in a bucket of eight that more than eight have come to
    assert len(workers.pins[0]._places) <= pins._PLACES_MAX
    assert workers.found("192.0.2.1", START + 1) == {None}


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(1, 5), st.floats(0.001, 900)), max_size=40))
@settings(max_examples=50)
def test_workers_together_agree_with_one_dictionary(steps: list[tuple[int, int, int, float]]) -> None:
    workers, known, now, number = Workers(3), dict[str, tuple[int, float]](), START, 1
    for worker, client, release, passed in steps:
        now += passed
        if release == 5:
            number += 1
            workers.release(number, now)
        else:
            wanted = max(1, number - release + 1)
            workers.pins[worker].pin(str(client), wanted, now)
            known[str(client)] = wanted, now
        for name, (pinned, at) in known.items():
            if abs(now - at - LENGTH_S) > 0.01:
                fresh = now - at < LENGTH_S
                expected = {pinned} if fresh else {None}
                got = workers.found(name, now)
                assert got == expected or (pinned == number and got == {None})
                everywhere = workers.pins[worker].find(name, now, everywhere=True)
                assert (everywhere is not None and everywhere[0] == pinned) == fresh


def test_a_table_tells_which_releases_somebody_is_pinned_to() -> None:
    workers = Workers(2)
    for client, number, at in (("a", 1, START), ("b", 1023, START + 1), ("c", 1026, START + 2)):
        workers.pins[0].pin(client, number, at)
    tables = [*workers.tables, table()]  # the last is none of ours
    told = [pins.held(tables, START + passed, LENGTH_S) for passed in (2, LENGTH_S, LENGTH_S + 1, 5e4)]
    assert told == [{1, 2, 1023}, {2, 1023}, {2}, set()]
    assert pins.held(tables, START + 1.9, LENGTH_S) == {1, 2, 1023}  # a clock that is a little ahead
    workers.pins[1].pin("a", 5, START + 3)
    workers.pins[1].pin("b", 6, START)  # what was said last counts, wherever
    assert pins.held(tables, START + 3, LENGTH_S) == {2, 5, 1023}


@given(st.integers(0, (1 << 64) - 1))
def test_whatever_a_sibling_writes_the_answer_is_a_number_and_a_name_or_nothing(word: int) -> None:
    generator = random.Random(word)
    lying = table()
    lying[0] = pins.MAGIC
    for index in range(1, 8 + 64):
        lying[index] = generator.choice((word, generator.getrandbits(64)))
    one = Pins(LENGTH_S)
    one.link(1, lying)
    one._place = lambda _client: (8, word >> 40)  # type: ignore[method-assign]
    found = one.find("a", START)
    assert found is None or (0 <= found[0] < 1024 and found[1] == "")
    assert SLOTS % BUCKET == 0
