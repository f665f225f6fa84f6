"""orders: what an administrator asks, and where it goes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from appliance import wire
from appliance.supervise import orders
from appliance.supervise.orders import Orders
from appliance.supervise.states import Run, Signal, Slot


class Asker:
    """Somebody at act.sock."""

    def __init__(self) -> None:
        self.told: list[tuple[bool, str]] = []

    def end(self, done: bool, text: str) -> None:
        self.told.append((done, text))


class Supervisor:
    """What orders need of it."""

    def __init__(self, state: Run = Run.SERVING) -> None:
        self.state, self.reload = state, None
        self.heard: list[Any] = []
        self.wiring = SimpleNamespace(services=("services",))
        self.bans = SimpleNamespace(by_hand=lambda words, _asker: self.heard.append(words))
        self.releases = SimpleNamespace(asked=lambda services, _asker: self.heard.append(services))
        self.log = SimpleNamespace(info=lambda *_a, **_k: None)
        self.workers: list[Any] = []

    def signal(self, event: Signal) -> None:
        self.heard.append(event)
        if event is Signal.RELOAD and self.state is Run.SERVING:
            self.state = Run.RELOADING

    def slots(self) -> list[Any]:
        return self.workers


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Who every reload that was begun is for."""
    found: list[Any] = []
    monkeypatch.setattr(orders, "Reload", SimpleNamespace(read=lambda _supervisor, asker: found.append(asker)))
    return found


def test_reloads_that_are_asked_for_while_one_runs_become_one_behind_it(read: list[Any]) -> None:
    made = Supervisor()
    given = Orders(made)  # type: ignore[arg-type]
    first, second, third = Asker(), Asker(), Asker()
    given.act(b"reload", first)  # type: ignore[arg-type]
    for asker in (second, None, third):
        given.act(b"reload", asker)  # type: ignore[arg-type]
    assert (read, made.heard) == ([first], [Signal.RELOAD] * 4)
    made.state = Run.SERVING
    given.catch_up()
    assert read == [first, second]
    assert (second.told, third.told) == ([], [(True, "joined the reload that runs")])
    made.state = Run.SERVING
    given.catch_up()
    assert read == [first, second]


def test_who_asks_for_pinned_releases_is_answered(read: list[Any]) -> None:
    made, asker = Supervisor(), Asker()
    made.pinned = lambda: {5}  # type: ignore[attr-defined]
    made.releases.told_pinned = lambda numbers, asker: asker.end(True, str(numbers))
    Orders(made).act(b"pinned", asker)  # type: ignore[arg-type]
    assert (asker.told, made.heard, read) == ([(True, "{5}")], [], [])


def test_the_end_is_told_to_who_asked_and_needs_nobody(read: list[Any]) -> None:
    made, asker = Supervisor(), Asker()
    for word in (b"drain", b"stop"):
        Orders(made).act(word, asker)  # type: ignore[arg-type]
        Orders(made).act(word, None)  # type: ignore[arg-type]
    assert made.heard == [Signal.TERM, Signal.TERM, Signal.STOP, Signal.STOP]
    assert asker.told == [
        (True, "draining: new clients are refused, running transfers finish"),
        (True, "stopping"),
    ]
    assert read == []


def test_bans_and_releases_go_to_their_own() -> None:
    made, asker = Supervisor(), Asker()
    for word in (b"ban 192.0.2.1 60", b"unban 192.0.2.1", b"release"):
        Orders(made).act(word, asker)  # type: ignore[arg-type]
    assert made.heard == [["ban", "192.0.2.1", "60"], ["unban", "192.0.2.1"], ("services",)]


@pytest.mark.parametrize(
    ("worker", "state", "answer"),
    [
        (b"tftp.1", Slot.SERVING, (True, "told its worker")),
        (b"tftp.1", Slot.RETIRING, (True, "told its worker")),
        (b"tftp.1", Slot.STARTING, (False, "there is no worker tftp.1")),
        (b"tftp.0", Slot.SERVING, (False, "there is no worker tftp.0")),
        (b"ftp.1", Slot.SERVING, (False, "there is no worker ftp.1")),
    ],
)
def test_a_kick_is_told_to_its_worker_alone(worker: bytes, state: Slot, answer: tuple[bool, str]) -> None:
    made, asker = Supervisor(), Asker()
    said: list[wire.Message] = []

    def send(message: wire.Message) -> bool:
        said.append(message)
        return True

    made.workers = [SimpleNamespace(service=SimpleNamespace(name="tftp"), index=1, state=state, send=send)]
    Orders(made).act(b"kick %b 12" % worker, asker)  # type: ignore[arg-type]
    assert asker.told == [answer]
    assert said == ([wire.Kick(12)] if answer[0] else [])
