"""custody.link: answers wait their turn, and a descriptor goes with its own message or not at all."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator

import pytest

from appliance.custody import wire
from appliance.custody.ledger import Upload
from appliance.custody.link import Link, Work
from appliance.custody.store import Partial
from appliance.errors import WireError


class Deaf:
    """A socket that takes nothing, for the reason given."""

    def __init__(self, number: int) -> None:
        self.number = number

    def sendmsg(self, *_arguments: object) -> int:
        raise OSError(self.number, "planted")

    def close(self) -> None:
        pass


@pytest.fixture
def pair() -> Iterator[tuple[Link, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    theirs.settimeout(60)
    link = Link(ours, 0)
    yield link, theirs
    link.close()
    theirs.close()


def opened() -> int:
    return os.open("/dev/null", os.O_RDONLY)


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_a_file_goes_along_with_its_message_and_is_closed_here(pair: tuple[Link, socket.socket]) -> None:
    link, theirs = pair
    fd = opened()
    link.say(wire.Opened(1, 7), fd)
    assert not is_open(fd)
    datagram, (got,), _flags, _peer = socket.recv_fds(theirs, 100, 4)
    assert wire.parse_from_custodian(datagram) == wire.Opened(1, 7)
    os.close(got)


def test_what_waits_keeps_its_order_and_its_descriptor(pair: tuple[Link, socket.socket]) -> None:
    link, theirs = pair
    real, fd = link.sock, opened()
    link.sock = Deaf(errno.EAGAIN)  # type: ignore[assignment]
    link.say(wire.Opened(1, 7), fd)
    link.say(wire.Done(2))
    assert link.behind and is_open(fd)
    link.sock = real
    link.flush()
    assert not link.behind and not is_open(fd)
    first = socket.recv_fds(theirs, 100, 4)
    assert (wire.parse_from_custodian(first[0]), len(first[1])) == (wire.Opened(1, 7), 1)
    second = socket.recv_fds(theirs, 100, 4)
    assert (wire.parse_from_custodian(second[0]), second[1]) == (wire.Done(2), [])
    os.close(first[1][0])


def test_a_grant_of_an_upload_that_was_aborted_meanwhile_is_not_sent(pair: tuple[Link, socket.socket]) -> None:
    link, theirs = pair
    link.works[2] = Work(Upload(b"a", "c"), Partial(b".up-x", opened()), 0.0, None)
    link.say(wire.Granted(1, 5))
    link.say(wire.Granted(2, 5))
    datagram, (got,), _flags, _peer = socket.recv_fds(theirs, 100, 4)
    assert wire.parse_from_custodian(datagram) == wire.Granted(2, 5)
    os.close(got)
    link.works[2].partial.close()


def test_a_worker_that_lets_descriptors_pile_up_loses_its_link() -> None:
    fd = opened()
    link = Link(Deaf(errno.ETOOMANYREFS), 0)  # type: ignore[arg-type]
    with pytest.raises(WireError, match="takes no descriptors"):
        link.say(wire.Opened(1, 7), fd)
    link.close()
    assert not is_open(fd)


def test_a_worker_that_reads_no_answers_loses_its_link() -> None:
    link = Link(Deaf(errno.EAGAIN), 0)  # type: ignore[arg-type]
    for number in range(4096):
        link.say(wire.Done(number))
    with pytest.raises(WireError, match="reads no answers"):
        link.say(wire.Done(4096))
