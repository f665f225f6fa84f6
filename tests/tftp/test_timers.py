"""timers: who is rung, when, and that nothing old piles up."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.tftp.timers import NEVER, Timers


@dataclass
class Somebody:
    name: str
    due: float = 0.0
    over: object = None


def rung(timers: Timers[Somebody], now: float) -> list[str]:
    return [one.name for one in timers.ring(now)]


def test_those_whose_time_has_come_are_rung_once_and_in_order() -> None:
    timers: Timers[Somebody] = Timers()
    assert (timers.due, timers.next(), rung(timers, 1e9)) == (NEVER, NEVER, [])
    for name, due in (("late", 3.0), ("first", 1.0), ("second", 2.0), ("beside", 2.0)):
        timers.set(Somebody(name), due)
    assert timers.due == timers.next() == 1.0
    assert rung(timers, 0.99) == []
    assert rung(timers, 2.0) == ["first", "second", "beside"]
    assert (timers.due, rung(timers, 2.0)) == (3.0, [])


def test_only_the_last_time_of_an_owner_counts() -> None:
    timers: Timers[Somebody] = Timers()
    moved = Somebody("moved")
    timers.set(moved, 5.0)
    timers.set(moved, 2.0)
    assert rung(timers, 2.0) == ["moved"]
    assert moved.due == 0.0
    timers.set(moved, 7.0)
    assert rung(timers, 6.0) == []
    assert rung(timers, 7.0) == ["moved"]


def test_who_is_set_again_while_it_rings_waits_for_its_time() -> None:
    timers: Timers[Somebody] = Timers()
    timers.set(Somebody("again"), 1.0)
    found = []
    for one in timers.ring(1.5):
        found.append(one.name)
        timers.set(one, 1.2 if len(found) < 3 else 9.0)
    assert found == ["again"] * 3
    assert timers.due == 9.0


def test_who_has_ended_is_not_rung_and_wakes_nobody() -> None:
    timers: Timers[Somebody] = Timers()
    ended, lives = Somebody("ended"), Somebody("lives")
    timers.set(ended, 1.0)
    timers.set(lives, 2.0)
    ended.over = "done"
    assert timers.next() == timers.due == 2.0
    assert rung(timers, 3.0) == ["lives"]
    timers.set(ended, 4.0)
    assert rung(timers, 5.0) == []


def test_entries_that_were_left_behind_do_not_pile_up() -> None:
    timers: Timers[Somebody] = Timers()
    busy = [Somebody(str(number)) for number in range(10)]
    for turn in range(1000):
        for one in busy:
            timers.set(one, 1e6 - turn)
    assert len(timers._heap) <= 1024 + 4 * len(busy)
    assert sorted(rung(timers, 1e6)) == sorted(one.name for one in busy)
