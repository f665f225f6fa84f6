"""roundtrip: what was measured says when silence means a loss."""

from __future__ import annotations

import pytest

from appliance.tftp.roundtrip import EARLIEST_S, RoundTrip

MOST_S = 3.0


def measured(*elapsed: float) -> RoundTrip:
    path = RoundTrip()
    for one in elapsed:
        path.sample(one)
    return path


def test_the_first_round_trip_is_the_path_and_its_half_the_deviation() -> None:
    assert measured(0.2).calm_s(MOST_S) == pytest.approx(0.2 + 4 * 0.1)  # RFC 6298 section 2.2
    assert measured(0.2).shortest_s == 0.2


def test_later_ones_move_both_as_rfc_6298_says() -> None:
    path = measured(0.2, 0.3)
    assert path.smoothed_s == pytest.approx(0.2 + 0.1 / 8)
    assert path.calm_s(MOST_S) == pytest.approx(0.2125 + 4 * (0.1 + (0.1 - 0.1) / 4))
    assert measured(0.3, 0.1, 0.2).shortest_s == 0.1


def test_a_quick_path_is_waited_for_by_a_least_time_more_and_a_slow_one_at_most_the_timeout() -> None:
    assert measured(0.0001).calm_s(MOST_S) == pytest.approx(0.0001 + EARLIEST_S)
    assert measured(2.0).calm_s(MOST_S) == MOST_S


def test_a_client_that_pauses_gets_twice_the_time_and_one_that_does_not_half_of_that_again() -> None:
    path = measured(0.0001)
    waits = []
    for late in (True, True, False, False, False):
        path.pauses(late, MOST_S)
        waits.append(round((path.calm_s(MOST_S) - 0.0001) / EARLIEST_S))
    assert waits == [2, 4, 2, 1, 1]
    for _ in range(20):
        path.pauses(True, MOST_S)
    assert path.calm_s(60.0) == pytest.approx(0.0001 + MOST_S)
