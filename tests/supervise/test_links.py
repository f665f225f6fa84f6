"""supervise.links: who is linked to whom while two generations run."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from appliance import wire
from appliance.supervise.links import Links
from appliance.supervise.states import Slot


class Worker:
    """A slot: what it was sent, and the descriptors beside it."""

    def __init__(self, service: Any, serial: int) -> None:
        self.service, self.serial, self.index, self.pid = service, serial, 0, 100 + serial
        self.state = Slot.SERVING
        self.sent: list[wire.Message] = []

    def send(self, message: wire.Message, _fds: list[int]) -> bool:
        self.sent.append(message)
        return True


class World:
    """Generations, the newest first."""

    def __init__(self) -> None:
        self.groups: list[Any] = []
        self.links = Links(lambda: self.groups)
        self.ends: list[socket.socket] = []

    def add(self, name: str, *links: str) -> Worker:
        service = SimpleNamespace(name=name, links=links)
        worker = Worker(service, len(self.groups) + 1)
        self.groups.insert(0, Group(service, worker))
        self.ends += [end for _name, end in self.links.fresh(worker)]  # type: ignore[arg-type]
        return worker


class Group:
    def __init__(self, service: Any, worker: Worker) -> None:
        self.service, self.slots = service, [worker]

    @property
    def serving(self) -> bool:
        return self.slots[0].state is Slot.SERVING


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    for group in made.groups:
        group.slots[0].state = Slot.GONE
    made.links.repair()
    for end in made.ends:
        end.close()


def told(worker: Worker) -> list[str]:
    """Whom an events service was linked to."""
    return [message.name for message in worker.sent if isinstance(message, wire.Link)]


@pytest.mark.parametrize("name", ["ftp", "tftp", "custody", "dhcp"])
def test_who_finishes_what_it_has_begun_is_linked_to_the_new_events_service(world: World, name: str) -> None:
    """Seen: after a reload of both, what old workers finished was in no history."""
    old_events = world.add("events")
    old = world.add(name, "events")
    new_events = world.add("events")
    assert (told(old_events), told(new_events), old.sent) == ([f"{name}.0"], [], [])
    world.links.hand_over()
    world.links.hand_over()
    assert told(new_events) == [f"{name}.0"] and old.sent == [wire.Link(0, "events")]
    old.state, old_events.pid = Slot.RETIRING, 0
    world.links.repair()
    assert len(old.sent) == 1
    new_events.pid = 999  # it died, and is there again
    world.links.repair()
    assert told(new_events) == [f"{name}.0"] * 2 and len(old.sent) == 2


@pytest.mark.parametrize("name", ["hooks", "keeper", "board"])
def test_what_subscribes_to_events_and_is_replaced_hears_no_new_ones(world: World, name: str) -> None:
    world.add("events")
    old = world.add(name, "events")
    new_events = world.add("events")
    world.add(name, "events")
    world.links.hand_over()
    old.state = Slot.RETIRING
    world.links.repair()
    assert old.sent == [] and told(new_events) == [f"{name}.0"]


def test_who_finishes_waits_for_no_peer_that_is_gone(world: World) -> None:
    custody = world.add("custody")
    old = world.add("ftp", "custody")
    custody.pid, custody.state, old.state = 0, Slot.GONE, Slot.RETIRING
    world.links.repair()
    assert old.sent == []
    world.add("custody")
    world.links.repair()
    assert old.sent == [wire.Link(0, "custody")]


def test_new_hooks_hear_of_nothing_before_the_old_ones_are_told_to_finish(world: World) -> None:
    """Seen: what happened while a reload was under way ran each program twice."""
    service = world.add("events")
    old = world.add("hooks", "events")
    new = world.add("hooks", "events")
    world.links.repair()
    assert told(service) == ["hooks.0"]
    service.pid = 999
    world.links.repair()  # the old ones are linked anew in spite of the new ones
    assert told(service) == ["hooks.0"] * 2 and len(old.sent) == 1
    old.state = Slot.RETIRING
    world.links.repair()
    assert told(service) == ["hooks.0"] * 3 and new.sent == []


def test_without_descriptors_a_reload_goes_on_and_links_are_mended_later(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.add("events")
    old = world.add("ftp", "events")
    new_events = world.add("events")

    def none(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as short:
        short.setattr(socket, "socketpair", none)
        world.links.hand_over()
    assert old.sent == []
    world.links.hand_over()
    assert told(new_events) == ["ftp.0"]
