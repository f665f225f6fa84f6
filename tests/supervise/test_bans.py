"""supervise.bans: the table of who is not served."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from appliance.observe import events
from appliance.supervise.banning import Banning
from appliance.supervise.bans import LONGEST_S, MOST, Bans, Entry
from appliance.supervise.facts import bans as shown
from appliance.supervise.states import Slot


def test_a_ban_is_in_force_until_it_has_passed() -> None:
    bans = Bans()
    assert bans.offence("192.0.2.1", 60, 100.0) == 60
    assert bans.active(159.9) == {"192.0.2.1": Entry(160.0, "abuse")}
    assert bans.active(160.0) == {}


def test_a_worker_cannot_shorten_a_ban_nor_make_it_longer_than_a_day() -> None:
    bans = Bans()
    assert bans.by_hand("a", 7 * LONGEST_S, 0.0) == 7 * LONGEST_S
    assert bans.offence("a", 1, 0.0) == 7 * LONGEST_S
    assert bans.active(1.0)["a"].cause == "administrator"
    assert bans.offence("b", 1 << 31, 0.0) == LONGEST_S


def test_a_ban_is_lifted_once() -> None:
    bans = Bans()
    bans.by_hand("a", 60, 0.0)
    assert bans.lift("a") and not bans.lift("a")
    assert bans.active(0.0) == {}


def test_the_table_is_bounded_and_the_oldest_goes_first() -> None:
    bans = Bans()
    for number in range(MOST + 1):
        bans.offence(f"{number}", 60, 0.0)
    active = bans.active(0.0)
    assert len(active) == MOST and "0" not in active and "1" in active


def test_status_shows_the_latest_first_and_not_all_of_very_many() -> None:
    bans = Bans()
    for number in range(600):
        bans.offence(f"{number}", 60, 0.0)
    found = shown(bans.active(0.0), 10.0)
    assert len(found) == 500
    assert found[0] == {"client": "599", "seconds": 50, "cause": "abuse"}


def test_a_ban_that_is_lifted_is_told_once_and_one_that_never_was_is_not() -> None:
    """Seen: `ban remove` of a client that was not banned was an event like that of one that was."""
    told: list[events.Event] = []
    ends: list[tuple[bool, str]] = []
    log: Any = SimpleNamespace(warning=lambda *_a, **_k: None, info=lambda *_a, **_k: None)
    asker: Any = SimpleNamespace(end=lambda done, text: ends.append((done, text)))
    banning = Banning(log, list, told.append)
    banning.by_hand(["ban", "192.0.2.7", "60"], asker)
    banning.by_hand(["unban", "192.0.2.7"], asker)
    banning.by_hand(["unban", "192.0.2.7"], asker)
    assert [(event.seconds, event.client) for event in told if isinstance(event, events.Ban)] == [
        (60, b"192.0.2.7"),
        (0, b"192.0.2.7"),
    ]
    assert [done for done, _text in ends] == [True, True, False]


def test_a_ban_reaches_the_sessions_that_a_reload_has_left_on_old_workers() -> None:
    """Seen: a client that was banned went on with its transfer until the old worker had drained."""
    told: list[Slot] = []

    def slot(state: Slot, *requests: str) -> Any:
        return SimpleNamespace(
            state=state, service=SimpleNamespace(requests=requests), send=lambda _message: told.append(state)
        )

    slots = [slot(Slot.SERVING, "ban"), slot(Slot.RETIRING, "ban"), slot(Slot.STARTING, "ban"), slot(Slot.SERVING)]
    log: Any = SimpleNamespace(warning=lambda *_a, **_k: None)
    asker: Any = SimpleNamespace(end=lambda *_a: None)
    Banning(log, lambda: slots, lambda _event: None).by_hand(["ban", "192.0.2.7", "60"], asker)
    assert told == [Slot.SERVING, Slot.RETIRING]
