"""observe.emitter: told at once, or counted; never waited for."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from appliance.observe import events, framing
from appliance.observe.emitter import BURST_S, HOLD_S, Emitter, Late

EVENT = events.Stored(1, 2, b"192.0.2.1", b"name")


class Told:
    """An emitter and the other end of its link."""

    def __init__(self, per_second: int = 100) -> None:
        self.lost: list[int] = []
        self.ours, self.peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.peer.setblocking(False)
        self.emitter = Emitter(self.ours, per_second, self.lost.append)

    def datagrams(self) -> list[list[events.Event]]:
        found = []
        while True:
            try:
                datagram = self.peer.recv(1 << 16)
            except BlockingIOError:
                return found
            found.append([framing.decode(frame) for frame in framing.split(datagram)])


@pytest.fixture
def told() -> Iterator[Told]:
    made = Told()
    yield made
    made.ours.close()
    made.peer.close()


def test_the_events_of_a_turn_leave_together(told: Told) -> None:
    for _ in range(3):
        told.emitter.emit(EVENT, 1.0)
    assert told.datagrams() == []
    told.emitter.flush(1.0)
    told.emitter.flush(1.0)
    assert told.datagrams() == [[EVENT] * 3]


def test_events_wait_for_each_other_a_moment_and_no_longer(told: Told) -> None:
    told.emitter.emit(EVENT, 1.0)
    told.emitter.pulse(1.0)
    assert told.datagrams() == []
    assert told.emitter.due == pytest.approx(1.0 + HOLD_S)
    told.emitter.emit(EVENT, 1.04)
    told.emitter.pulse(told.emitter.due)
    assert told.datagrams() == [[EVENT] * 2]
    assert told.emitter.due == float("inf")


def test_what_was_lost_is_told_even_when_nothing_more_happens() -> None:
    told = Told(1)
    for _ in range(BURST_S + 1):
        told.emitter.emit(EVENT, 5.0)
    told.emitter.pulse(5.1)
    assert told.datagrams() == [[events.Lost(1, b"rate"), *[EVENT] * BURST_S]]
    told.emitter.emit(EVENT, 5.2)
    told.emitter.pulse(told.emitter.due)
    assert told.datagrams() == [[events.Lost(1, b"rate")]]
    told.ours.close()
    told.peer.close()


def test_what_is_lost_between_two_reports_is_told_too(told: Told) -> None:
    told.emitter = Emitter(told.ours, 1, told.lost.append)
    for _ in range(BURST_S + 1):
        told.emitter.emit(EVENT, 5.0)
    told.emitter.pulse(5.1)
    told.emitter.emit(EVENT, 5.2)
    told.emitter.emit(EVENT, 6.02)
    told.emitter.pulse(6.08)  # it is too early to tell of the one at 5.2
    told.datagrams()
    assert told.emitter.due < 8.0
    told.emitter.pulse(told.emitter.due)
    assert told.datagrams() == [[events.Lost(1, b"rate")]]
    assert told.emitter.due == float("inf")


def test_the_frame_of_an_event_may_be_made_when_it_leaves(told: Told) -> None:
    made: list[bytes] = []

    def frame(late: Late) -> bytes:
        _frame, name = late
        made.append(name)
        return framing.frame(EVENT._replace(name=name))

    told.emitter.emit((frame, b"first"), 1.0)
    told.emitter.emit(EVENT, 1.0)
    told.emitter.emit((frame, b"last"), 1.0)
    assert not made
    told.emitter.flush(1.0)
    assert told.datagrams() == [[EVENT._replace(name=b"first"), EVENT, EVENT._replace(name=b"last")]]


def test_an_event_that_cannot_be_made_is_lost_and_nothing_else(told: Told) -> None:
    def frame(_late: Late) -> bytes:
        raise ValueError

    told.emitter.emit(EVENT, 1.0)
    told.emitter.emit((frame,), 1.0)
    told.emitter.flush(1.0)
    assert told.lost == [1]
    assert told.datagrams() == [[EVENT]]


def test_many_events_leave_before_the_flush_in_datagrams_that_fit(told: Told) -> None:
    long = EVENT._replace(name=b"x" * 900)
    for _ in range(100):
        told.emitter.emit(long, 1.0)
    told.emitter.flush(1.0)
    found = told.datagrams()
    assert len(found) > 1
    assert [event for datagram in found for event in datagram] == [long] * 100


def test_more_than_the_rate_is_counted_and_told_as_one_number(told: Told) -> None:
    for _ in range(100 * BURST_S + 5):
        told.emitter.emit(EVENT, 1.0)
    told.emitter.flush(1.0)
    assert sum(told.lost) == 5
    found = [event for datagram in told.datagrams() for event in datagram]
    assert found.count(EVENT) == 100 * BURST_S
    told.emitter.flush(2.5)
    told.emitter.flush(9.0)
    assert [*found, *(event for datagram in told.datagrams() for event in datagram)].count(events.Lost(5, b"rate")) == 1
    told.emitter.emit(EVENT, 9.0)  # and it goes on
    told.emitter.flush(9.0)
    assert told.datagrams() == [[EVENT]]


def test_what_the_rate_allows_and_did_not_come_may_come_later(told: Told) -> None:
    told.emitter = Emitter(told.ours, 1, told.lost.append)
    for _ in range(BURST_S - 2):
        told.emitter.emit(EVENT, 1.0)
    told.emitter.flush(1.0)
    told.emitter.emit(EVENT, 1.0)
    told.emitter.emit(EVENT, 1.0)
    assert told.lost == []
    told.emitter.emit(EVENT, 1.5)
    assert told.lost == [1]
    told.emitter.emit(EVENT, 2.0)  # and what came in the meantime counts, though nothing has left
    told.emitter.emit(EVENT, 2.5)
    assert told.lost == [1, 1]
    told.emitter.flush(2.5)
    assert [datagram.count(EVENT) for datagram in told.datagrams()] == [BURST_S - 2, 3]


def test_a_clock_that_went_back_allows_nothing_for_nothing(told: Told) -> None:
    told.emitter = Emitter(told.ours, 1, told.lost.append)
    told.emitter.emit(EVENT, 100.0)
    told.emitter.flush(100.0)
    told.emitter.emit(EVENT, 1.0)
    assert told.lost == [1]


def test_a_full_queue_costs_the_events_and_no_time(told: Told) -> None:
    told.emitter = Emitter(told.ours, 100_000, told.lost.append)
    told_at_all = 0
    while not told.lost:
        told_at_all += 1
        assert told_at_all < 100_000, "the queue never fills"
        told.emitter.emit(EVENT, 1.0)
        told.emitter.flush(1.0)
    assert told.lost == [1]
    assert len(told.datagrams()) == told_at_all - 1
    told.emitter.flush(3.0)
    assert told.datagrams() == [[events.Lost(1, b"queue")]]


def test_a_service_that_is_gone_is_no_error_and_its_successor_hears_how_much_was_lost(told: Told) -> None:
    told.peer.close()
    told.emitter.emit(EVENT, 1.0)
    told.emitter.flush(1.0)
    assert told.lost == [1]
    told.ours, told.peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    told.peer.setblocking(False)
    told.emitter.attach(told.ours)
    told.emitter.emit(EVENT, 3.0)
    told.emitter.flush(3.0)
    assert told.datagrams() == [[events.Lost(1, b"queue"), EVENT]]


def test_without_a_link_nothing_is_told_or_counted() -> None:
    lost: list[int] = []
    emitter = Emitter(None, 1, lost.append)
    assert not emitter.on
    for _ in range(100):
        emitter.emit(EVENT, 1.0)
    emitter.flush(1.0)
    assert lost == []
    ours, peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, peer:
        emitter.attach(ours)
        assert emitter.on
        emitter.emit(EVENT, 1.0)
        emitter.flush(1.0)
        assert framing.split(peer.recv(1000)) == [framing.encode(EVENT)]


def test_an_event_that_cannot_be_encoded_is_lost_and_nothing_else(told: Told) -> None:
    told.emitter.emit(events.Lost(1 << 70), 1.0)
    told.emitter.emit(EVENT, 1.0)
    told.emitter.flush(1.0)
    assert told.lost == [1]
    assert EVENT in told.datagrams()[0]
