"""The desk gives each hook its events in order, never more at once than it may, and drops what finds no room."""

from __future__ import annotations

from appliance.hooks.desk import Desk
from appliance.settings.hooks import Hook

BOOTED = Hook(on=("machine-booted",), run=("/bin/a",), parallel=2, queue=3)
BOTH = Hook(on=("machine-booted", "upload-complete"), run=("/bin/b",), queue=1)


def test_an_event_goes_to_every_hook_that_wants_it_and_to_no_other() -> None:
    desk = Desk((BOOTED, BOTH))
    assert desk.offer("upload-complete", b"1") == []
    assert [(order.hook, order.document) for order in desk.due()] == [(1, b"1")]
    desk.offer("machine-booted", b"2")
    assert [(order.hook, order.document) for order in desk.due()] == [(0, b"2")]  # the other still runs


def test_no_more_run_at_once_than_may_and_the_rest_follows_in_order() -> None:
    desk = Desk((BOOTED,))
    assert desk.idle
    for document in (b"1", b"2", b"3"):
        assert desk.offer("machine-booted", document) == []
    first, second = desk.due()
    assert (desk.running, list(desk.due())) == (2, [])
    assert desk.over(first.run) == 0
    (third,) = desk.due()
    assert third.document == b"3"
    assert [desk.over(one.run) for one in (second, third)] == [0, 0]
    assert desk.idle


def test_a_full_queue_drops_what_comes_and_names_the_hook() -> None:
    desk = Desk((BOOTED, BOTH))
    assert [desk.offer("machine-booted", b"x") for _ in range(4)] == [[], [1], [1], [0, 1]]
    list(desk.due())
    assert not desk.idle
    assert desk.offer("machine-booted", b"x") == []


def test_a_run_that_nobody_began_is_nobodys() -> None:
    assert Desk((BOOTED,)).over(99) is None
