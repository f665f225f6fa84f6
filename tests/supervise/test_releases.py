"""supervise.releases: what is in force, what a wrong one changes (nothing), and who is told."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from appliance import wire
from appliance.observe import events
from appliance.observe.log import Log
from appliance.supervise.acts import Asker
from appliance.supervise.releases import Releases
from appliance.supervise.service import Service
from appliance.supervise.slot import WorkerSlot
from appliance.supervise.states import Slot
from tests.published import trees
from tests.supervise.test_service import make


class Told:
    """A worker, or an administrator: what it was told."""

    def __init__(self, service: Service | None = None) -> None:
        self.service, self.heard, self.state = service, list[wire.Message](), Slot.SERVING
        self.done: bool | None = None
        self.line = ""

    def send(self, message: wire.Message) -> bool:
        self.heard.append(message)
        return True

    def end(self, done: bool, line: str = "") -> None:
        self.done, self.line = done, line


class World:
    """A state folder, two roots, a worker of each of three services, and the log."""

    def __init__(self, home: Path) -> None:
        self.home, self.state = home, home / "state"
        self.roots = [home / "tftp", home / "ftp"]
        self.services = [
            replace(make("tftp"), jail=str(self.roots[0]), published=True),
            replace(make("ftp"), jail=str(self.roots[1]), published=True),
            replace(make("custody"), jail="/nowhere"),
        ]
        self.workers = [Told(service) for service in self.services]
        self.told: list[events.Event] = []
        workers = cast(list[WorkerSlot], self.workers)
        self.releases = Releases(str(self.state), Log("supervisor", "text"), lambda: workers, self.told.append)

    def publish(self, number: int, overlay: int) -> None:
        for root in self.roots:
            trees.release(root, number, {"a": b"a"})
            trees.overlay(root, overlay, {})
        trees.commit(self.state, trees.name(number), overlay)

    def ask(self) -> Told:
        asker = Told()
        self.releases.asked(self.services, cast(Asker, asker))
        return asker

    def facts(self, index: int = 0) -> tuple[str | None, int | None]:
        found = self.releases.facts(self.services[index])
        return found["release"], found["overlay"]

    def problems(self) -> list[str]:
        return [what for what, _remedy in self.releases.problems(self.services)]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_before_anything_is_published_nothing_is_told(world: World) -> None:
    asker = world.ask()
    assert (asker.done, asker.line) == (True, "in force: nothing")
    assert [worker.heard for worker in world.workers] == [[], [], []]
    assert world.facts() == (None, None)
    assert world.releases.at_birth(world.services[0]) == {}
    assert world.problems() == []


def test_what_is_published_is_told_to_those_that_serve_it_once(world: World) -> None:
    world.publish(1, 4)
    assert world.ask().line == f"in force: {trees.name(1)}, overlay 4"
    message = wire.Release(1, 4, trees.name(1))
    assert [worker.heard for worker in world.workers] == [[message], [message], []]
    assert world.ask().done
    assert [len(worker.heard) for worker in world.workers] == [1, 1, 0]
    assert (world.facts(), world.facts(2)) == ((trees.name(1), 4), (None, None))
    assert world.releases.at_birth(world.services[2]) == {}
    assert world.releases.at_birth(world.services[1]) == {
        "release": {"known": [[1, trees.name(1)]], "now": [1, trees.name(1), 4], "once": []}
    }


def test_a_release_that_comes_back_has_its_number_again(world: World) -> None:
    for step in ((1, 1), (2, 2), (2, 3), (1, 4)):
        world.publish(*step)
        world.ask()
    told = [(one.number, one.overlay) for one in world.workers[0].heard if isinstance(one, wire.Release)]
    assert told == [(1, 1), (2, 2), (2, 3), (1, 4)]
    one, two = trees.name(1).encode(), trees.name(2).encode()
    expected = [(1, one, b""), (2, two, one), (3, two, two), (4, one, two)]
    assert world.told == [events.Published(*fields) for fields in expected]
    known = world.releases.at_birth(world.services[0])["release"]["known"]
    assert known == [[2, trees.name(2)], [1, trees.name(1)]]


def test_who_publishes_is_told_the_names_of_what_clients_are_pinned_to(world: World) -> None:
    for number in range(1, 260):
        world.publish(number, number)
        world.ask()
    asker = Told()
    world.releases.told_pinned({1, 2, 4, 259, 700}, cast(Asker, asker))
    assert (asker.done, asker.line) == (True, f"{trees.name(4)} {trees.name(259)}")  # the last 256 have names
    world.releases.told_pinned(set(), cast(Asker, asker))
    assert (asker.done, asker.line) == (True, "")
    assert len(world.releases.at_birth(world.services[0])["release"]["known"]) == 256


@pytest.mark.parametrize(
    "gap",
    ["tftp/.releases/{release}", "ftp/.releases/{release}", "tftp/.releases/overlay-2", "ftp/.releases/overlay-2"],
)
def test_a_release_that_is_not_whole_everywhere_changes_nothing(world: World, gap: str) -> None:
    world.publish(1, 1)
    world.ask()
    world.publish(2, 2)
    missing = world.home / gap.format(release=trees.name(2))
    shutil.rmtree(missing)
    asker = world.ask()
    assert asker.done is False
    assert f"{missing} is missing" in asker.line and f"in force: {trees.name(1)}, overlay 1" in asker.line
    assert world.facts() == (trees.name(1), 1)
    assert [len(worker.heard) for worker in world.workers] == [1, 1, 0]
    assert [f"{missing} is missing" in what and "stays in force" in what for what in world.problems()] == [True]
    world.publish(2, 2)
    assert world.ask().done is True
    assert world.facts() == (trees.name(2), 2) and world.problems() == []


def test_a_line_that_cannot_be_read_changes_nothing(world: World) -> None:
    world.publish(1, 1)
    world.ask()
    (world.state / "boot" / "current").write_text("x" * 1000)
    assert world.ask().done is False
    (world.state / "boot" / "current").unlink()
    assert "is gone" in world.ask().line
    assert world.facts() == (trees.name(1), 1)


def test_a_bad_release_at_the_start_is_told_and_nothing_published_is_served(world: World) -> None:
    trees.commit(world.state, trees.name(1), 1)
    world.releases.look(world.services)
    assert world.facts() == (None, None)
    assert ["nothing published is served" in what for what in world.problems()] == [True]


def test_a_tree_that_vanishes_later_is_a_problem(world: World) -> None:
    world.publish(1, 1)
    world.ask()
    shutil.rmtree(world.roots[1] / ".releases")
    assert world.problems() == [f"ftp: {world.roots[1]}/.releases/{trees.name(1)} is gone"]


def test_the_end_of_a_keeper_that_a_reload_replaced_takes_nothing_back_where_another_serves(world: World) -> None:
    """Seen: after a reload nothing of any one-shot boot was served, until the keeper was started once more."""
    world.publish(1, 1)
    world.ask()
    world.releases.one_shot(wire.Used(7, 2))
    world.releases.keeper_died(replaced=True)  # there is no other: one-shots were switched off
    assert world.workers[0].heard[-1] == wire.OneShot(7, 0)
    successor = Told(replace(make("keeper"), jail="/nowhere", requests=("one-shot",)))
    world.workers.append(successor)
    world.releases.one_shot(wire.Used(7, 2))
    world.releases.keeper_died(replaced=True)
    assert world.workers[0].heard[-1] == wire.OneShot(7, 2)
    assert successor.heard[-1] == wire.Release(1, 1, trees.name(1))  # it looks at what the other has left
    world.releases.keeper_died()
    assert world.workers[0].heard[-1] == wire.OneShot(7, 0)


def test_what_the_keeper_says_is_spread_and_told_to_those_born_later_until_it_dies(world: World) -> None:
    keeper = Told(replace(make("keeper"), jail="/nowhere", requests=("one-shot",)))
    world.workers.append(keeper)
    world.publish(1, 1)
    world.ask()
    world.ask()
    assert keeper.heard == [wire.Release(1, 1, trees.name(1))] * 2  # its folder may have changed
    world.releases.one_shot(wire.Used(7, 2))
    world.releases.one_shot(wire.Used(8, 1))
    assert world.workers[0].heard[-2:] == [wire.OneShot(7, 2), wire.OneShot(8, 1)]
    assert world.releases.at_birth(world.services[1])["release"]["once"] == [[7, 2], [8, 1]]
    assert keeper.service is not None
    assert world.releases.at_birth(keeper.service)["release"]["once"] == []
    world.releases.one_shot(wire.Used(7, 0))
    assert world.releases.at_birth(world.services[1])["release"]["once"] == [[8, 1]]
    world.releases.keeper_died()
    assert [worker.heard[-1] for worker in world.workers[:2]] == [wire.OneShot(8, 0)] * 2
    assert world.releases.at_birth(world.services[1])["release"]["once"] == []
    for key in range(5000):
        world.releases.one_shot(wire.Used(key, 2))
    assert len(world.releases.at_birth(world.services[0])["release"]["once"]) == 4096
