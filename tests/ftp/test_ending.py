"""ftp.ending: what a transfer was at its end is told when the event leaves, whatever has become of it since."""

from __future__ import annotations

import gc
import socket
import weakref
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from appliance.ftp import ending
from appliance.observe import events, framing
from appliance.observe.emitter import Emitter


class Transfer(SimpleNamespace):
    """What `ending` looks at; a class of its own, because one of C's takes no weak references."""


class Told:
    """A session in a house without a worker, and the other end of its emitter's link."""

    def __init__(self) -> None:
        ours, self.peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.peer.setblocking(False)
        self.ours, self.lost, self.lines = ours, [], []  # type: ignore[var-annotated]
        house = SimpleNamespace(
            now=5.0,
            emitter=Emitter(ours, 100, self.lost.append),
            counters=SimpleNamespace(add=lambda _name, _count=1: None, took=lambda _ms: None),
            log=SimpleNamespace(info=lambda event, **fields: self.lines.append((event, fields))),
            record=SimpleNamespace(on=False),
        )
        layers = SimpleNamespace(release_id=b"20260101-000000-0badcafe")
        self.owner: Any = SimpleNamespace(
            house=house, files=0, bytes=0, client_ip="192.0.2.7", remote_port=40_000, layers=layers
        )

    def transfer(self, cause: str = "", **changes: Any) -> Any:
        """One ends."""
        values = {"number": 3, "size": 1024, "moved": 1024, "verb": "RETR", "path": "/a/b", "layer": b"static"}
        ended: Any = Transfer(**{**values, "started": 0.0, **changes})
        ending.transfer(self.owner, ended, cause)
        return ended

    def events(self) -> list[events.Event]:
        """What leaves when there is time for it."""
        self.owner.house.emitter.pulse(6.0)
        return [framing.decode(frame) for frame in framing.split(self.peer.recv(1 << 16))]


@pytest.fixture
def told() -> Iterator[Told]:
    made = Told()
    yield made
    made.ours.close()
    made.peer.close()


def test_a_transfer_is_told_with_all_that_was_true_at_its_end(told: Told) -> None:
    ended = told.transfer()
    ended.moved, ended.path = 7, "/other"  # later
    told.transfer("stalled", moved=512, layer=b"release", path="/\udcff\u00fc", verb="STOR", size=-1, number=0)
    first, second = told.events()
    assert isinstance(first, events.Ended)
    assert first._replace(ms=0) == events.Ended(
        3, 1024, 1024, 0, 0, 40_000, 0, 0, 1, b"192.0.2.7", b"", b"RETR", b"/a/b", b"/a/b", b"static", b"", b"done"
    )
    assert first.ms == round(told.lines[0][1]["seconds"] * 1000)
    name = b"/\xff\xc3\xbc"
    assert second[:6] == (0, -1, 512, 0, 0, 40_000)
    assert second[7:] == (
        0, 0, b"192.0.2.7", b"", b"STOR", name, name, b"release", b"20260101-000000-0badcafe", b"stalled"
    )  # fmt: skip


def test_a_name_that_is_too_long_is_cut_and_costs_no_event(told: Told) -> None:
    told.transfer(path="/" + "x" * 4000)
    (event,) = told.events()
    assert isinstance(event, events.Ended)
    assert event.path == event.file == b"/" + b"x" * (events.TEXT_MAX - 1)
    assert told.lost == []


def test_an_event_that_waits_keeps_no_transfer(told: Told) -> None:
    """A hundred of them would have the allocator go through memory that no cache holds any more."""
    gone = weakref.ref(told.transfer())
    gc.collect()
    assert gone() is None
    assert len(told.events()) == 1


def test_where_nobody_listens_nothing_is_held(told: Told) -> None:
    told.owner.house.emitter = Emitter(None, 100, told.lost.append)
    told.transfer()
    assert told.owner.house.emitter.due == float("inf")
    assert (told.owner.files, told.owner.bytes, told.lost) == (1, 1024, [])
