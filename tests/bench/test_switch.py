"""bench.switch: a process that is measured tells the events service, or does not, as it is told by a signal."""

from __future__ import annotations

import os
import signal
import socket

import pytest

from appliance.child.context import Channel, Context
from appliance.observe import events, framing
from appliance.observe.tables import Counters, create
from bench import switch

EVENT = events.Stored(1, 2, b"192.0.2.1", b"name")


def test_a_signal_takes_the_link_away_and_another_brings_it_back() -> None:
    before = {number: signal.getsignal(number) for number in (switch.ON, switch.OFF)}
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    channel, peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    table = create("bench")
    with ours, theirs, channel, peer:
        context = Context("ftp", 0, {"events_per_second": 9}, Channel(channel), Counters(table), links={"events": ours})
        os.close(table)
        theirs.setblocking(False)
        try:
            emitter = switch._switched(context)
            emitter.emit(EVENT, 1.0)
            switch.switch(os.getpid(), switch.OFF)
            assert not emitter.on
            assert framing.decode(framing.split(theirs.recv(1 << 16))[0]) == EVENT  # nothing of "on" costs "off"
            emitter.emit(EVENT, 1.0)
            emitter.flush(2.0)
            with pytest.raises(BlockingIOError):
                theirs.recv(1 << 16)
            switch.switch(os.getpid(), switch.ON)
            assert emitter.on
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
