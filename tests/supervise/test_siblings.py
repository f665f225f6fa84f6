"""siblings: who is shown which table, and what is taken back when its worker dies."""

from __future__ import annotations

import array
import mmap
import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from typing import cast

import pytest

from appliance import wire
from appliance.observe import shares
from appliance.observe.tally import SIZE, Tally
from appliance.published.pins import Pins
from appliance.supervise.service import Listen, Service
from appliance.supervise.siblings import Siblings
from appliance.supervise.slot import WorkerSlot
from appliance.supervise.states import Slot
from tests.supervise.test_service import make


class Place:
    """A slot as Siblings sees it, and the worker behind it."""

    def __init__(self, service: Service, index: int = 0) -> None:
        self.service, self.index = service, index
        self.state, self.pid, self.deaf = Slot.STARTING, 0, False
        self.seen: dict[int, int] = {}  # table number -> our descriptor
        self.said = 0

    def send(self, message: wire.Message, fds: list[int] | None = None) -> bool:
        self.said += 1
        if self.deaf:
            return False
        if isinstance(message, wire.Share):
            assert fds is not None and message.number not in self.seen
            self.seen[message.number] = os.dup(fds[0])
        else:
            assert isinstance(message, wire.Unshare)
            os.close(self.seen.pop(message.number))
        return True

    def born(self, siblings: Siblings, pid: int) -> Tally:
        """A new process; it serves at once."""
        for descriptor in self.seen.values():
            os.close(descriptor)
        self.seen.clear()
        self.pid = pid
        (descriptor,) = siblings.fresh(cast(WorkerSlot, self))
        tally = shares.own(descriptor)
        self.state = Slot.SERVING
        siblings.repair(0.0)
        return tally

    def died(self, siblings: Siblings, state: Slot = Slot.BACKOFF) -> None:
        self.pid, self.state = 0, state
        siblings.repair(0.0)

    def sum(self, name: str) -> int:
        """What the tables that it was shown say of `name`."""
        tally = Tally(memoryview(bytearray(SIZE)).cast("Q"))
        total = 0
        for number, descriptor in self.seen.items():
            tally = Tally(self._salted(descriptor))
            tally.link(number, shares.look(descriptor))
            total += next(count for count in range(99) if not tally.full_for(name, count + 1))
        return total

    @staticmethod
    def _salted(descriptor: int) -> memoryview:
        raw = bytearray(SIZE)
        raw[16:32] = os.pread(descriptor, 16, 16)
        return memoryview(raw).cast("Q")


@pytest.fixture
def siblings() -> Iterator[Siblings]:
    made = Siblings(wire.TALLY)
    yield made
    empty(made)


def empty(made: Siblings) -> None:
    """Everybody dies, and so long ago that nothing is left."""
    for table in made._tables.values():
        table.slot.pid = -1
    made.repair(0.0)
    made.repair(1e9)
    assert made._tables == {}


def places(*names: str) -> list[Place]:
    return [Place(make(name), index) for index, name in enumerate(names)]


def test_workers_of_one_service_are_shown_each_other_and_nobody_else(siblings: Siblings) -> None:
    one, two, other = places("tftp", "tftp", "ftp")
    tallies = [place.born(siblings, pid) for pid, place in enumerate((one, two, other), 100)]
    assert [len(place.seen) for place in (one, two, other)] == [1, 1, 0]
    tallies[0].take("a")
    assert two.sum("a") == 1 and one.sum("a") == 0


def test_a_table_is_shown_to_nobody_before_its_owner_has_sealed_it(siblings: Siblings) -> None:
    one, two = places("tftp", "tftp")
    one.born(siblings, 100)
    two.pid, two.state = 101, Slot.SERVING
    siblings.fresh(cast(WorkerSlot, two))
    siblings.repair(0.0)
    assert one.seen == {} and two.seen == {}


def test_what_is_shown_cannot_be_written(siblings: Siblings) -> None:
    one, two = places("tftp", "tftp")
    one.born(siblings, 100)
    two.born(siblings, 101)
    (descriptor,) = one.seen.values()
    with pytest.raises(PermissionError):
        mmap.mmap(descriptor, SIZE)
    with pytest.raises(PermissionError):
        os.pwrite(descriptor, b"x", 0)
    with pytest.raises(PermissionError):
        os.ftruncate(descriptor, 0)


def test_the_table_of_a_dead_worker_is_taken_back_and_its_successor_is_linked_again(siblings: Siblings) -> None:
    one, two = places("tftp", "tftp")
    one.born(siblings, 100).take("a")
    two.born(siblings, 101)
    assert two.sum("a") == 1
    before = len(os.listdir("/proc/self/fd"))
    one.died(siblings)
    assert two.seen == {} and len(os.listdir("/proc/self/fd")) == before - 2
    tally = one.born(siblings, 102)
    assert two.sum("a") == 0 and len(one.seen) == 1
    tally.take("a")
    assert two.sum("a") == 1


def test_a_draining_generation_counts_until_its_end(siblings: Siblings) -> None:
    old, new = places("tftp", "tftp")
    old.born(siblings, 100).take("a")
    new.born(siblings, 101)
    old.state = Slot.RETIRING
    siblings.repair(0.0)
    assert new.sum("a") == 1
    old.state = Slot.ENDING
    siblings.repair(0.0)
    assert new.sum("a") == 1
    old.died(siblings, Slot.GONE)
    assert new.seen == {}


def test_a_worker_that_did_not_listen_is_told_later_and_nobody_is_told_twice(siblings: Siblings) -> None:
    one, two = places("tftp", "tftp")
    one.born(siblings, 100)
    one.deaf = True
    two.born(siblings, 101)
    assert one.seen == {}
    one.deaf = False
    siblings.repair(0.0)
    assert len(one.seen) == 1
    said = one.said
    siblings.repair(0.0)
    assert one.said == said
    one.deaf = True
    two.died(siblings)
    assert len(one.seen) == 1
    one.deaf = False
    siblings.repair(0.0)
    assert one.seen == {}


def test_a_service_that_is_not_on_the_network_has_no_table(siblings: Siblings) -> None:
    for listen in ((), (Listen("unix", "/run/x", 0),)):
        assert siblings.fresh(cast(WorkerSlot, Place(make(listen=listen)))) == []


def pinning(name: str) -> Service:
    return replace(make(name), published=True, settings={"pin": 600.0})


@pytest.fixture
def pins() -> Iterator[Siblings]:
    made = Siblings(wire.PINS)
    yield made
    empty(made)


def test_what_clients_are_pinned_to_is_told_of_the_living_and_of_the_dead_for_as_long_as_a_pin(pins: Siblings) -> None:
    one, two = Place(pinning("tftp")), Place(pinning("ftp"))
    for number, place in enumerate((one, two), 7):
        place.pid, place.state = 100 + number, Slot.STARTING
        (descriptor,) = pins.fresh(cast(WorkerSlot, place))
        assert pins.pinned(0.0) == ({7} if number == 8 else set())  # nobody is believed before it has sealed
        Pins(600.0, shares.seal(descriptor)).pin(place.service.name, number, 0.0)
        place.state = Slot.SERVING
    assert (pins.pinned(1.0), pins.pinned(601.0)) == ({7, 8}, set())
    one.died(pins)
    assert pins.pinned(1.0) == {7, 8}


def test_pins_are_shown_to_all_services_that_serve_releases_and_to_one_that_starts(pins: Siblings) -> None:
    one, two, other = Place(pinning("tftp")), Place(pinning("ftp")), Place(make("tftp"))
    one.born(pins, 100)
    two.pid, two.state = 101, Slot.STARTING
    pins.fresh(cast(WorkerSlot, two))
    assert pins.fresh(cast(WorkerSlot, other)) == []
    pins.repair(0.0)
    assert (list(two.seen), list(one.seen)) == ([1], [])  # its own is not sealed yet


def test_pins_of_a_dead_worker_count_until_they_have_ended(pins: Siblings) -> None:
    one, two, three = (Place(pinning("tftp"), index) for index in range(3))
    one.born(pins, 100)
    two.born(pins, 101)
    one.pid, one.state = 0, Slot.BACKOFF
    pins.repair(1000.0)
    assert list(two.seen) == [1]
    three.born(pins, 102)
    assert sorted(three.seen) == [1, 2]
    pins.repair(1599.0)
    assert list(two.seen) == [1, 3]
    pins.repair(1601.0)
    assert (list(two.seen), list(three.seen)) == ([3], [2])


def test_a_worker_that_died_before_it_had_sealed_its_table_leaves_nothing(pins: Siblings) -> None:
    one, two = Place(pinning("tftp")), Place(pinning("ftp"))
    two.born(pins, 101)
    one.pid = 100
    pins.fresh(cast(WorkerSlot, one))
    one.pid = 0
    pins.repair(0.0)
    assert two.seen == {} and len(pins._tables) == 1


def test_of_many_dead_workers_the_latest_are_kept(pins: Siblings) -> None:
    one, two = Place(pinning("tftp")), Place(pinning("ftp"))
    two.born(pins, 50)
    for pid in range(100, 150):
        one.born(pins, pid)
        one.pid, one.state = 0, Slot.BACKOFF
        pins.repair(0.0)
    assert len(two.seen) == 32 and max(two.seen) == 51


def test_a_share_message_fits_in_one_datagram_with_its_descriptor() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ours.sendmsg(
            [wire.pack(wire.Share(7, wire.TALLY))], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0]))]
        )
        data, fds, _flags, _peer = socket.recv_fds(theirs, 100, 4)
        assert (wire.parse(data, from_child=False), len(fds)) == (wire.Share(7, wire.TALLY), 1)
        os.close(fds[0])
