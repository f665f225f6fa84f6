"""observe.subscribed: what a subscriber takes from its link in one turn."""

from __future__ import annotations

import socket

from appliance.observe import events, framing
from appliance.observe.subscribed import datagrams, records_of


def test_what_is_there_is_taken_and_nobody_is_waited_for() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    with ours, theirs:
        for word in (b"one", b"two"):
            theirs.send(word)
        assert list(datagrams(ours)) == [b"one", b"two"]
        assert list(datagrams(ours)) == []


def test_one_who_tells_without_end_gets_a_turn_and_no_more() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    with ours, theirs:
        for _ in range(70):
            theirs.send(b"x")
        assert (len(list(datagrams(ours))), len(list(datagrams(ours)))) == (64, 6)


def test_a_service_that_is_gone_or_has_broken_off_is_told_last() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    with ours:
        theirs.send(b"last words")
        theirs.close()
        assert list(datagrams(ours)) == [b"last words", b""]
    assert list(datagrams(ours)) == [b""]  # closed: no descriptor, as after a broken connection


def test_a_datagram_of_the_events_service_is_its_records() -> None:
    record = events.Record(3, 4, "tftp.0", events.Stored(name=b"x"))
    assert records_of(framing.join([framing.encode_record(record)])[0]) == [record]
