"""lookout: signs of life for systemd, workers that hang, folders that moved."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from appliance.observe import events
from appliance.supervise import lookout
from appliance.supervise.lookout import Lookout
from appliance.supervise.naming import RESOLVER
from appliance.supervise.reload import Reload
from appliance.supervise.slot import FRESH_S, HANG_S
from appliance.supervise.states import Event, Run


class Slot:
    """A worker that has not turned for `silent_s`."""

    def __init__(self, silent_s: float) -> None:
        self.silent_s, self.told, self.events = silent_s, list[str](), list[Event]()
        self.service, self.index, self.pid = SimpleNamespace(name="tftp"), 0, 7

    def stands_still(self, _now: float, seconds: float) -> bool:
        return self.silent_s >= seconds

    def tell_of(self, what: str) -> None:
        self.told.append(what)

    def event(self, event: Event, _now: float) -> None:
        self.events.append(event)


class Group:
    """A group of workers whose folder is as it was, or another one."""

    def __init__(self, moved: str = "", *, serving: bool = True, renewed: bool = False) -> None:
        self.serving, self.renewed, self.service = serving, renewed, SimpleNamespace(jail="/srv")
        self.jail_moved = lambda: moved
        self.stuck = False


def supervisor(*slots: Slot, watchdog_s: float = 0.0, **groups: Group) -> Any:
    sent: list[str] = []
    told: list[events.Fault] = []
    problems: list[dict[str, str]] = []
    log = SimpleNamespace(error=lambda *_a, **_k: None, warning=lambda *_a, **_k: None, info=lambda *_a, **_k: None)
    notify = SimpleNamespace(watchdog_s=watchdog_s, send=sent.append)
    return SimpleNamespace(
        slots=lambda: list(slots), groups=groups, log=log, notify=notify, sent=sent, state=Run.SERVING, reload=None,
        snapshot=SimpleNamespace(problems=lambda: problems), problems=problems, tell=told.append, told=told,
        totals=lambda _name: {"log_dropped": 3},
    )  # fmt: skip


def test_without_a_watchdog_nothing_is_due_and_nothing_sent() -> None:
    made = supervisor(Slot(0.0))
    looks = Lookout(made)
    looks.timer(100.0)
    assert (looks.due, made.sent) == (math.inf, [])


def test_a_sign_is_withheld_while_one_stands_still_and_given_as_soon_as_all_turn_again() -> None:
    slow = Slot(FRESH_S)
    made = supervisor(Slot(0.0), slow, watchdog_s=15.0)
    looks = Lookout(made)
    looks.timer(100.0)
    assert (looks.due, made.sent) == (101.0, [])
    slow.silent_s = 0.0
    looks.timer(100.9)
    assert made.sent == []
    looks.timer(101.0)
    assert (looks.due, made.sent) == (116.0, ["WATCHDOG=1"])


def test_a_worker_that_hangs_is_told_of_and_ended_and_others_are_not() -> None:
    slow, hangs = Slot(HANG_S - 0.1), Slot(HANG_S)
    assert Lookout(supervisor(slow, hangs)).timer(100.0)
    assert (slow.told, slow.events) == ([], [])
    assert (hangs.told, hangs.events) == (["hangs"], [Event.FAULT])


def test_what_lasts_is_told_and_so_is_what_nobody_takes_of_the_log() -> None:
    made = supervisor(tftp=Group())
    looks = Lookout(made)
    made.problems.append({"severity": "warning", "what": "tftp: x", "remedy": "y"})
    for now in (100.0, 102.0):
        looks.timer(now)
    assert [(fault.part, fault.over) for fault in made.told] == [(b"tftp", 0)]
    made.problems.clear()
    for now in (104.0, 106.0):
        looks.timer(now)
    assert [(fault.part, fault.over) for fault in made.told[1:]] == [(b"tftp", 1)]


def test_it_looks_around_every_other_second() -> None:
    looks = Lookout(supervisor())
    assert [looks.timer(100.0 + step / 2) for step in range(6)] == [True, False, False, False, True, False]


@pytest.mark.parametrize(
    ("groups", "followed"),
    [
        ({"ftp": Group(), "tftp": Group("replaced")}, ["tftp"]),
        ({"ftp": Group("replaced"), "tftp": Group("replaced")}, ["ftp"]),  # the other one at the next look
        ({"tftp": Group("gone")}, []),
        ({"tftp": Group("replaced", serving=False)}, []),
        ({"tftp": Group(renewed=True), RESOLVER: Group(renewed=True)}, [RESOLVER]),
    ],
)
def test_one_at_a_time_is_replaced_when_what_it_was_born_with_is_old(
    monkeypatch: pytest.MonkeyPatch, groups: dict[str, Group], followed: list[str]
) -> None:
    rolled: list[Any] = []
    monkeypatch.setattr(lookout, "Reload", SimpleNamespace(roll=lambda _supervisor, service: rolled.append(service)))
    made = supervisor(**groups)
    Lookout(made).timer(100.0)
    assert rolled == [groups[name].service for name in followed]
    assert made.state is (Run.RELOADING if followed else Run.SERVING)


def test_a_folder_that_cannot_be_followed_is_a_problem_and_is_tried_again_now_and_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Seen: every two seconds three lines of log, for ever, while `status` told of no problem."""
    rolled: list[Any] = []
    monkeypatch.setattr(lookout, "Reload", SimpleNamespace(roll=lambda _supervisor, service: rolled.append(service)))
    made = supervisor(ftp=Group("replaced"))
    looks = Lookout(made)
    seen = []
    for step in range(8):
        looks.timer(100.0 + 2 * step)
        seen.append((len(rolled), made.groups["ftp"].stuck))
        made.state = Run.SERVING  # it was refused
    assert seen == [(1, False), *[(1, True)] * 4, *[(2, True)] * 3]
    made.groups["ftp"] = Group("replaced")  # one that could follow, and has to again
    looks.timer(116.0)
    assert len(rolled) == 3 and not made.groups["ftp"].stuck


@pytest.mark.parametrize("state", [Run.STARTING, Run.RELOADING, Run.DRAINING])
def test_nothing_is_replaced_while_something_else_goes_on(monkeypatch: pytest.MonkeyPatch, state: Run) -> None:
    monkeypatch.setattr(Reload, "roll", lambda *_: pytest.fail("it was replaced"))
    made = supervisor(tftp=Group("replaced"))
    made.state = state
    Lookout(made).timer(100.0)
    assert made.state is state
