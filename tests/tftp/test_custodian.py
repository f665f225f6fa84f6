"""custodian: the link to it, and what a peer is told."""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from appliance.custody import wire
from appliance.custody.wire import Reason
from appliance.tftp.custodian import Custodian, refusal_of


@dataclass
class Told:
    """A journal that remembers."""

    lines: list[tuple[str, int]] = field(default_factory=list)

    def custodian_gone(self, reason: str, lost: int) -> None:
        self.lines.append((reason, lost))


@dataclass
class Linked:
    """A link whose other end the test holds."""

    custodian: Custodian
    peer: socket.socket
    journal: Told
    watched: dict[int, Any]

    def turn(self) -> None:
        for handler in list(self.watched.values()):
            handler(0.0)


@pytest.fixture
def linked() -> Iterator[Linked]:
    journal, watched = Told(), {}
    custodian = Custodian(journal, watched.__setitem__, watched.pop)  # type: ignore[arg-type]
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    custodian.attach(ours)
    theirs.setblocking(False)
    yield Linked(custodian, theirs, journal, watched)
    custodian.lose("end of the test")
    theirs.close()


def nobody(_message: wire.FromCustodian | None, _descriptors: list[int]) -> None:
    """Wants no answer."""


def test_every_reason_has_a_constant_text_without_a_path() -> None:
    for reason in Reason:
        assert refusal_of(reason).text.isascii()
        assert "/" not in refusal_of(reason).text


def test_answers_go_to_who_asked_and_only_while_wanted(linked: Linked) -> None:
    heard: list[wire.FromCustodian | None] = []
    number = linked.custodian.ask(lambda message, _fds: heard.append(message), 5, "192.0.2.1", b"f")
    assert wire.parse_from_worker(linked.peer.recv(600)) == wire.Ask(number, 5, "192.0.2.1", b"f")
    for _ in range(2):
        linked.peer.send(wire.pack(wire.More(number, 7)))
        linked.turn()
        linked.custodian.forget(number)
    assert heard == [wire.More(number, 7)]


def test_a_descriptor_nobody_takes_is_closed(linked: Linked) -> None:
    before = len(os.listdir("/proc/self/fd"))
    number = linked.custodian.reserve(nobody, 0, "192.0.2.1", b"f")
    read_end, write_end = os.pipe()
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [write_end]))]
    for which in (number, number + 1):
        linked.peer.sendmsg([wire.pack(wire.Granted(which, 7))], rights)
    os.close(write_end)
    linked.turn()
    assert os.read(read_end, 1) == b""  # no copy of the other end is left
    os.close(read_end)
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_the_link_cannot_take_waits_and_keeps_its_order(linked: Linked) -> None:
    linked.peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    for number in range(3000):
        linked.custodian.say(wire.Abort(number))
    assert linked.custodian.behind
    got = []
    while len(got) < 3000:
        try:
            got.append(wire.parse_from_worker(linked.peer.recv(600)))
        except BlockingIOError:
            linked.custodian.flush()
    assert got == [wire.Abort(number) for number in range(3000)]
    assert not linked.custodian.behind


def test_a_custodian_that_reads_nothing_is_given_up_and_who_waits_is_told(linked: Linked) -> None:
    heard: list[wire.FromCustodian | None] = []
    linked.custodian.fetch(lambda message, _fds: heard.append(message), "192.0.2.1", b"f")
    for number in range(100_000):
        linked.custodian.say(wire.Abort(number))
        if not linked.custodian.here:
            break
    assert heard == [None]
    assert linked.journal.lines == [("it reads nothing", 1)]
    assert linked.watched == {}
    linked.custodian.say(wire.Abort(1))  # to nobody


@pytest.mark.parametrize("datagram", [b"?", b"G", b"X" + bytes(4) + b"\xff"])
def test_nonsense_ends_the_link(linked: Linked, datagram: bytes) -> None:
    linked.peer.send(datagram)
    linked.turn()
    assert not linked.custodian.here


def test_a_new_link_takes_the_place_of_the_old_one(linked: Linked) -> None:
    heard: list[wire.FromCustodian | None] = []
    linked.custodian.ask(lambda message, _fds: heard.append(message), 0, "192.0.2.1", b"f")
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    linked.custodian.attach(ours)
    assert heard == [None]
    linked.custodian.say(wire.Abort(9))
    assert wire.parse_from_worker(theirs.recv(600)) == wire.Abort(9)
    theirs.close()
