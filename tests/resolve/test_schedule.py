"""resolve.schedule: the last good address stays, a change is told once, a failure is told once."""

from __future__ import annotations

import pytest

from appliance.resolve.schedule import FAILING, REFRESH_S, Schedule

NAME = "ftp.example.org"


@pytest.fixture
def names() -> Schedule:
    made = Schedule([NAME, "b.example"], 100.0)
    assert made.due(100.0) == [NAME, "b.example"]
    return made


def test_a_name_is_looked_up_at_once_and_again_after_a_minute(names: Schedule) -> None:
    assert names.due(1e6) == []  # under way
    assert names.answered(NAME, ["192.0.2.1"], 101.0) == "192.0.2.1"
    assert names.due(101.0 + REFRESH_S - 1) == []
    assert names.due(101.0 + REFRESH_S) == [NAME]


def test_only_a_change_is_told(names: Schedule) -> None:
    assert names.answered(NAME, ["192.0.2.1"], 0.0) == "192.0.2.1"
    assert names.answered(NAME, ["192.0.2.2", "192.0.2.1"], 0.0) == ""  # they come in changing order
    assert names.answered(NAME, ["192.0.2.3", "192.0.2.2"], 0.0) == "192.0.2.3"


def test_a_failure_is_told_once_retried_soon_and_its_end_is_told(names: Schedule) -> None:
    names.answered(NAME, ["192.0.2.1"], 0.0)
    waits = []
    for number in range(6):
        assert names.failed(NAME, 1000.0) == ("" if number else FAILING)
        waits.append(next(s for s in range(5, 61, 5) if names.due(1000.0 + s)))
    assert waits == [5, 10, 20, 40, 60, 60]
    assert names.answered(NAME, ["192.0.2.1"], 0.0) == "192.0.2.1"
    assert names.failed(NAME, 0.0) == FAILING


@pytest.mark.parametrize("address", ["0.0.0.0", "224.0.0.1", "255.255.255.255", "240.0.0.1"])
def test_an_address_that_nobody_can_connect_to_is_none(names: Schedule, address: str) -> None:
    assert names.answered(NAME, [address], 0.0) == FAILING
    assert names.answered(NAME, [address, "192.0.2.1"], 0.0) == "192.0.2.1"
    assert names.answered(NAME, [], 0.0) == FAILING
