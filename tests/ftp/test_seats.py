"""ftp.seats: the caps on sessions, at the cap and one beyond."""

from __future__ import annotations

import pytest

from appliance.ftp.seats import FULL, NETWORK_FULL, TOO_MANY, Seats
from appliance.ftp.terms import Terms
from appliance.observe.tally import Tally
from tests.observe.test_tally import family

NINE, TWO, ONE = Terms(9), Terms(2), Terms(1)


def test_the_cap_of_all_is_kept() -> None:
    seats = Seats(2, Tally())
    assert [seats.take("a", NINE), seats.take("b", NINE), seats.take("c", NINE)] == ["", "", FULL]
    seats.leave("a", NINE)
    assert seats.take("c", NINE) == ""


def test_the_cap_of_one_client_leaves_room_for_others() -> None:
    tally = Tally()
    seats = Seats(9, tally)
    assert [seats.take(client, TWO) for client in "aaab"] == ["", "", TOO_MANY, ""]
    seats.leave("a", TWO)
    assert seats.take("a", TWO) == ""
    assert tally.taken == 3


def test_a_refused_client_holds_no_seat() -> None:
    tally = Tally()
    seats = Seats(1, tally)
    seats.take("a", ONE)
    seats.take("b", ONE)
    seats.leave("a", ONE)
    assert tally.taken == 0
    with pytest.raises(KeyError):
        seats.leave("b", ONE)


def test_the_clients_of_a_network_share_its_cap_and_leave_room_for_others() -> None:
    seats = Seats(9, Tally())
    campus = Terms(9, network="network 192.0.2.0/24", sessions=2)
    assert [seats.take(client, campus) for client in "abc"] == ["", "", NETWORK_FULL]
    assert seats.take("d", NINE) == ""
    seats.leave("b", campus)
    assert seats.take("c", campus) == ""


def test_workers_keep_the_caps_together() -> None:
    three = Terms(3)
    one, two = (Seats(4, tally) for tally in family(2))
    assert [seats.take("a", three) for seats in (one, two, one, two)] == ["", "", "", TOO_MANY]
    assert [two.take("b", three), two.take("c", three), one.take("c", three)] == ["", FULL, FULL]
    one.leave("a", three)
    assert two.take("a", three) == ""


def test_workers_keep_the_cap_of_a_network_together() -> None:
    campus = Terms(9, network="network 192.0.2.0/24", sessions=3)
    one, two = (Seats(90, tally) for tally in family(2))
    assert [one.take("a", campus), two.take("b", campus), one.take("c", campus)] == ["", "", ""]
    assert [one.take("d", campus), two.take("d", campus)] == [NETWORK_FULL, NETWORK_FULL]
