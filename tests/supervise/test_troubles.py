"""supervise.troubles: a problem is told when it lasts and when it is over; a clock that was set is told once."""

from __future__ import annotations

import pytest

from appliance.supervise.troubles import QUIET_S, SHOWN_S, STEP_S, Clock, Troubles, Unwritten


def problem(what: str) -> dict[str, str]:
    return {"severity": "warning", "what": what, "remedy": f"mend {what[:6]}"}


FULL = problem("events: the history cannot be written: No space left on device")


def told(troubles: Troubles, *problems: dict[str, str]) -> list[tuple[str, int]]:
    return [(fault.what.decode(), fault.over) for fault in troubles.look(problems)]


def test_a_problem_that_lasts_is_told_once_and_once_more_when_it_is_over() -> None:
    troubles = Troubles()
    assert told(troubles, FULL) == []
    (fault,) = troubles.look([FULL])
    assert (fault.part, fault.over, fault.remedy) == (b"events", 0, b"mend events")
    assert told(troubles, FULL) == []
    assert told(troubles) == []
    assert told(troubles) == [(FULL["what"], 1)]
    assert told(troubles) == []


def test_what_comes_and_goes_between_two_looks_is_not_told() -> None:
    troubles = Troubles()
    for _ in range(5):
        assert told(troubles, FULL) == told(troubles) == []
    assert told(troubles) == []
    assert told(troubles, FULL) == []
    assert told(troubles, FULL) == [(FULL["what"], 0)]
    for _ in range(5):
        assert told(troubles) == told(troubles, FULL) == []


def test_the_same_problem_with_another_number_is_the_same() -> None:
    troubles = Troubles()
    first = problem("tftp worker 1 died 3 times, last by SIGKILL, next start in 0.3 s")
    assert told(troubles, first) == []
    again = problem("tftp worker 1 died 4 times, last by SIGSEGV")
    assert told(troubles, again) == [(again["what"], 0)]
    assert told(troubles, first, problem("ftp: /srv is gone")) == []


def test_a_problem_without_a_part_and_problems_without_end_are_bounded() -> None:
    troubles = Troubles()
    many = [problem(f"{'x' * number}!") for number in range(100)]
    assert told(troubles, *many) == []
    faults = troubles.look(many)
    assert (len(faults), faults[0].part) == (64, b"")
    assert told(troubles, *many, problem("new")) == []


def test_lines_that_nobody_takes_are_shown_until_they_are_taken_again() -> None:
    unwritten = Unwritten()
    unwritten.look(0, 10.0)
    assert unwritten.problems(10.0) == []
    unwritten.look(7, 12.0)
    unwritten.look(7, 14.0)
    unwritten.look(9, 16.0)
    ((what, _remedy),) = unwritten.problems(16.0)
    assert what == "log: 9 lines of the log or the xferlog could not be written"
    assert unwritten.problems(15.9 + QUIET_S) != []
    assert unwritten.problems(16.0 + QUIET_S) == []
    unwritten.look(10, 99.0)
    assert unwritten.problems(99.0)[0][0].startswith("log: 1 lines")


@pytest.mark.parametrize(("step", "way"), [(STEP_S, "forward"), (-STEP_S, "back"), (86_400.0, "forward")])
def test_a_clock_that_is_set_is_told_once_and_shown_for_a_while(step: float, way: str) -> None:
    clock = Clock()
    assert clock.look(1000.0, 10.0) == 0.0
    assert clock.look(1002.0 + step, 12.0) == pytest.approx(step)
    assert clock.look(1004.0 + step, 14.0) == 0.0
    ((what, _remedy),) = clock.problems(1004.0 + step, 14.0, made=0.0 if step > 0 else -1e9)
    assert what.startswith(f"clock: it was set {way} by {abs(step):.0f} s")
    assert clock.problems(2000.0 + step, 12.0 + SHOWN_S, made=0.0) == []


@pytest.mark.parametrize("step", [STEP_S - 0.01, 0.01 - STEP_S, 0.0])
def test_what_a_time_server_does_all_day_is_not_told(step: float) -> None:
    clock = Clock()
    clock.look(1000.0, 10.0)
    assert clock.look(1002.0 + step, 12.0) == 0.0
    assert clock.problems(1002.0, 12.0, made=0.0) == []


def test_a_clock_before_the_program_was_made_is_shown_until_it_is_right() -> None:
    clock = Clock()
    assert [what for what, _remedy in clock.problems(100.0, 5.0, made=200.0)] == [
        "clock: it says a time before this program was made"
    ]
    assert clock.problems(200.0, 6.0, made=200.0) == []
