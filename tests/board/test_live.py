"""What pages are told, and when."""

from __future__ import annotations

from appliance.board import live
from appliance.board.live import Live
from appliance.board.story import Fact
from tests.board.test_story import BOOT, MAC, fact, whole


def fed(*facts: object, **more: object) -> Live:
    board = Live(**more)  # type: ignore[arg-type]
    for one in facts:
        board.tell(one)  # type: ignore[arg-type]
    return board


def test_a_page_is_told_what_changed_and_only_once() -> None:
    board = fed(*BOOT, names={MAC: "lab-01"})
    frame = board.tick(6)
    assert [(row["key"], row["name"], row["state"]) for row in frame["rows"]] == [(MAC, "lab-01", "booted")]
    assert board.tick(7)["rows"] == []


def test_a_machine_that_only_became_silent_is_told() -> None:
    board = fed(*whole(0, "pxelinux.0"))
    board.tick(1)
    assert [row["state"] for row in board.tick(60)["rows"]] == ["stalled"]


def test_a_key_that_was_replaced_by_a_mac_is_told_as_gone() -> None:
    board = fed(*whole(0, "pxelinux.0"))
    board.tick(1)
    board.tell(fact(2, "refused", "pxelinux.cfg/01-52-54-00-12-34-56"))
    frame = board.tick(3)
    assert (frame["gone"], [row["key"] for row in frame["rows"]]) == (["192.0.2.7"], [MAC])


def test_a_machine_that_was_forgotten_before_it_was_told_is_not_told() -> None:
    board = fed(
        *whole(0, "a.0"),
        fact(1, "start", "b.0", client="192.0.2.8"),
        fact(2, "start", "b.0", client="192.0.2.9"),
        machines=2,
    )
    assert [row["key"] for row in board.tick(3)["rows"]] == ["192.0.2.8", "192.0.2.9"]


def test_the_chart_counts_what_moved_since_the_last_sample() -> None:
    board = Live()
    board.tick(0)
    board.tell(fact(0, "start", "initrd", size=1000))
    board.tell(fact(1, "progress", "initrd", bytes=400))
    assert board.tick(2)["sample"] == [200, 0]
    board.tell(fact(3, "done", "initrd", bytes=1000))
    board.tell(fact(3, "done", "x.iso", bytes=50, service="ftp"))
    assert board.tick(4)["sample"] == [300, 25]
    assert board.tick(6)["sample"] == [0, 0]
    assert board.snapshot(6)["chart"] == [[0, 0], [200, 0], [300, 25], [0, 0]]


def test_a_clock_that_was_set_makes_no_absurd_rate() -> None:
    board = fed(fact(0, "done", "a", bytes=500))
    board.tick(1000)
    board.tell(fact(0, "done", "b", bytes=500))
    assert board.tick(10)["sample"] == [500, 0]


def test_an_anonymous_mirror_client_is_no_machine_but_an_installer_on_one_is() -> None:
    board = fed(fact(0, "done", "pub/big.iso", service="ftp", client="198.51.100.1"), *BOOT)
    board.tell(fact(9, "done", "debian/Packages.xz", service="ftp", bytes=5))
    assert [row["key"] for row in board.snapshot(10)["rows"]] == [MAC]
    told = board.story(MAC)
    assert told is not None
    assert told["steps"][-1]["service"] == "ftp"


def test_other_services_and_kinds_do_not_count_in_the_chart() -> None:
    board = fed(fact(0, "start", "a", bytes=7), fact(0, "done", "a", bytes=7, service="custody"))
    assert board.tick(1)["sample"] == [0, 0]


def test_names_for_did_you_mean_and_transfers_under_way_are_bounded(monkeypatch) -> None:
    monkeypatch.setattr(live, "_SERVED", 2)
    board = fed(*(fact(i, "progress", f"p{i}", bytes=1) for i in range(5)))
    for number in range(5):
        board.tell(fact(number, "done", f"name-{number}", bytes=1))
    assert list(board._served) == ["name-3", "name-4"]
    assert len(board._under_way) <= 2


def test_an_address_that_a_running_system_was_given_makes_no_machine_and_ends_no_boot() -> None:
    board = Live()
    board.tell(Fact(1, "address", "192.0.2.9", "", MAC, "dhcp"))
    assert board.snapshot(1)["rows"] == []
    board = fed(*BOOT)
    before = board.snapshot(60)["rows"][0]
    board.tell(Fact(60, "address", "192.0.2.99", "", MAC, "dhcp"))
    after = board.snapshot(60)["rows"][0]
    assert {**after, "address": ""} == {**before, "address": ""} and after["address"] == "192.0.2.99"


def test_health_is_told_when_it_changes() -> None:
    board = Live()
    assert "health" not in board.tick(1)
    board.health = {"ready": True}
    assert board.tick(2)["health"] == {"ready": True}
    assert "health" not in board.tick(3)
    assert board.snapshot(3)["health"] == {"ready": True}


def test_a_machine_that_is_not_known_has_no_story() -> None:
    assert Live().story("nobody") is None
