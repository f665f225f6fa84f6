"""The tables: complete where they must be, and every sequence of possible events keeps its promises."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.supervise.states import (
    LARGEST_DELAY,
    RUN_TABLE,
    SLOT_TABLE,
    Act,
    Do,
    Event,
    Run,
    Signal,
    Slot,
    SupervisorBug,
    backoff,
    run_step,
    slot_step,
    table_as_text,
)

IMPOSSIBLE = {(Slot.BACKOFF, Event.READY), (Slot.BACKOFF, Event.DIED), (Slot.BACKOFF, Event.FAULT)}


def test_every_pair_is_in_the_table_but_those_that_cannot_happen() -> None:
    missing = {(s, e) for s in Slot for e in Event if s is not Slot.GONE} - set(SLOT_TABLE)
    assert missing == IMPOSSIBLE


def test_nothing_happens_to_a_slot_that_is_gone() -> None:
    for event in Event:
        with pytest.raises(SupervisorBug, match="while gone"):
            slot_step(Slot.GONE, event)


def test_administrators_and_deaths_are_answered_in_every_state_of_the_whole() -> None:
    for state in Run:
        if state is not Run.STOPPED:
            for event in (Signal.TERM, Signal.STOP, Signal.RELOAD):
                run_step(state, event)
    with pytest.raises(SupervisorBug):
        run_step(Run.STOPPED, Signal.TERM)


@given(st.lists(st.sampled_from(list(Event))))
def test_a_slot_that_is_to_finish_never_spawns_again(events: list[Event]) -> None:
    state, finishing = Slot.BACKOFF, False
    for event in events:
        if (state, event) not in SLOT_TABLE:
            continue
        finishing = finishing or event in (Event.RETIRE, Event.END)
        state, actions = slot_step(state, event)
        assert not (finishing and Do.SPAWN in actions)
        assert (state is Slot.GONE) == (Do.FORGET in actions)
        if state is Slot.GONE:
            return


def test_a_second_term_stops_now() -> None:
    state, _ = run_step(Run.SERVING, Signal.TERM)
    state, acts = run_step(state, Signal.TERM)
    assert state is Run.STOPPING
    assert acts == (Act.END_ALL,)


def test_a_reload_that_runs_is_joined_and_a_stop_ends_it() -> None:
    assert run_step(Run.RELOADING, Signal.RELOAD)[1] == (Act.READ_AGAIN,)
    assert Act.ABANDON in run_step(Run.RELOADING, Signal.TERM)[1]


def test_the_first_restart_is_at_once_then_it_grows_and_is_capped() -> None:
    delays = [backoff(n) for n in range(1, 100)]
    assert delays[:4] == [0.0, 0.5, 1.0, 2.0]
    assert delays == sorted(delays)
    assert delays[-1] == LARGEST_DELAY


def test_the_documentation_prints_these_tables() -> None:
    text = Path(__file__).parents[2].joinpath("docs/STATES.md").read_text()
    assert table_as_text() in text, "run: python -m tests.print_states > docs/STATES.md"
    assert len(RUN_TABLE) + len(SLOT_TABLE) + 5 == len(table_as_text().splitlines())
