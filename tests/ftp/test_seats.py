"""ftp.seats: the caps on sessions, at the cap and one beyond."""

from __future__ import annotations

import pytest

from appliance.ftp.seats import FULL, TOO_MANY, Seats


def test_the_cap_of_all_is_kept() -> None:
    seats = Seats(2, 9)
    assert [seats.take("a"), seats.take("b"), seats.take("c")] == ["", "", FULL]
    seats.leave("a")
    assert seats.take("c") == ""


def test_the_cap_of_one_client_leaves_room_for_others() -> None:
    seats = Seats(9, 2)
    assert [seats.take("a"), seats.take("a"), seats.take("a"), seats.take("b")] == ["", "", TOO_MANY, ""]
    seats.leave("a")
    assert seats.take("a") == ""
    assert seats.taken == 3


def test_a_refused_client_holds_no_seat() -> None:
    seats = Seats(1, 1)
    seats.take("a")
    seats.take("b")
    seats.leave("a")
    assert seats.taken == 0
    with pytest.raises(KeyError):
        seats.leave("b")
