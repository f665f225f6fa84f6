"""ftp.seats: the caps on sessions, at the cap and one beyond."""

from __future__ import annotations

import pytest

from appliance.ftp.seats import FULL, TOO_MANY, Seats
from appliance.observe.tally import Tally
from tests.observe.test_tally import family


def test_the_cap_of_all_is_kept() -> None:
    seats = Seats(2, 9, Tally())
    assert [seats.take("a"), seats.take("b"), seats.take("c")] == ["", "", FULL]
    seats.leave("a")
    assert seats.take("c") == ""


def test_the_cap_of_one_client_leaves_room_for_others() -> None:
    tally = Tally()
    seats = Seats(9, 2, tally)
    assert [seats.take("a"), seats.take("a"), seats.take("a"), seats.take("b")] == ["", "", TOO_MANY, ""]
    seats.leave("a")
    assert seats.take("a") == ""
    assert tally.taken == 3


def test_a_refused_client_holds_no_seat() -> None:
    tally = Tally()
    seats = Seats(1, 1, tally)
    seats.take("a")
    seats.take("b")
    seats.leave("a")
    assert tally.taken == 0
    with pytest.raises(KeyError):
        seats.leave("b")


def test_workers_keep_both_caps_together() -> None:
    one, two = (Seats(4, 3, tally) for tally in family(2))
    assert [one.take("a"), two.take("a"), one.take("a"), two.take("a")] == ["", "", "", TOO_MANY]
    assert [two.take("b"), two.take("c"), one.take("c")] == ["", FULL, FULL]
    one.leave("a")
    assert two.take("a") == ""
