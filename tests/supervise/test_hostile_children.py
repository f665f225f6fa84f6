"""A child that was taken over talks to the supervisor: too much, without listening, with lies."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance import wire
from appliance.errors import StartError
from appliance.observe import events
from appliance.observe.log import Log
from appliance.supervise import reading
from appliance.supervise.reading import BadConfiguration, Reading
from appliance.supervise.service import Service
from appliance.supervise.slot import MUTE_S, WorkerSlot
from appliance.supervise.states import Do, Event, Slot
from tests.supervise.test_service import plain


class Watcher:
    """The supervisor as a slot sees it; writes down what it is told."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.watched: set[socket.socket] = set()
        self.messages = 0
        self.told: list[events.Event] = []

    def watch(self, sock: socket.socket, _callback: Callable[[], None]) -> None:
        assert sock not in self.watched
        self.watched.add(sock)

    def unwatch(self, sock: socket.socket) -> None:
        self.watched.discard(sock)

    def links_for(self, _slot: WorkerSlot) -> list[tuple[str, socket.socket]]:
        return []

    def table_for(self, _slot: WorkerSlot) -> list[int]:
        return []

    def record_for(self, _slot: WorkerSlot) -> list[int]:
        return []

    def tell(self, event: events.Event) -> None:
        self.told.append(event)

    def took_step(self, slot: WorkerSlot, event: Event, actions: tuple[Do, ...]) -> None:
        pass

    def received(self, slot: WorkerSlot, _message: wire.Message, _fds: list[int]) -> None:
        self.messages += 1
        slot.send(wire.Facts(b"x" * 1000))


class Talk:
    """A slot that serves, and the child's end of its channel."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "log"
        self._file = self.log.open("wb")
        self.host = Watcher(Log("test", descriptor=self._file.fileno()))
        service: Service = reading.service.decode(plain())[0]
        self.slot = WorkerSlot(self.host, service, 0, [], serial=1, drain_s=0)
        ours, self.child = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        self.child.setblocking(False)
        self.slot._channel, self.slot.state = ours, Slot.SERVING
        self.channel = ours
        self.host.watch(ours, self.slot._receive)

    def turns(self, count: int) -> None:
        for _ in range(count):
            if self.channel in self.host.watched:
                self.slot._receive()

    def close(self) -> None:
        self.channel.close()
        self.child.close()
        self._file.close()


@pytest.fixture
def talk(tmp_path: Path) -> Iterator[Talk]:
    made = Talk(tmp_path)
    yield made
    made.close()


def test_a_child_that_talks_without_end_is_not_listened_to_for_a_moment(talk: Talk) -> None:
    def flood() -> None:
        for _ in range(5):
            try:
                talk.child.send(b"f")
            except BlockingIOError:
                return

    turns = 0
    while talk.slot.muted_until is None and turns < 20_000:
        flood()
        talk.turns(1)
        turns += 1
    assert talk.channel not in talk.host.watched
    assert talk.host.messages < 10_000
    assert talk.slot.muted_until is not None
    talk.slot.unmute(talk.slot.muted_until - MUTE_S / 2)
    assert talk.channel not in talk.host.watched
    talk.slot.unmute(talk.slot.muted_until)
    assert talk.channel in talk.host.watched
    assert talk.slot.muted_until is None


def test_a_child_that_does_not_read_its_answers_fills_no_log(talk: Talk) -> None:
    while talk.slot.send(wire.Facts(b"x" * 1000)):
        pass
    for _ in range(100):
        talk.child.send(b"f")
        talk.turns(1)
    assert talk.log.read_text().count("worker does not listen") == 1


@pytest.mark.parametrize("unread", [b"", b"f"])  # the kernel says EPIPE, or ECONNRESET
def test_a_child_that_is_dead_and_not_reaped_yet_is_not_called_deaf(talk: Talk, unread: bytes) -> None:
    if unread:
        assert talk.slot.send(wire.Facts(unread))
    talk.child.close()
    assert not talk.slot.send(wire.Facts(b"x"))
    assert not talk.slot.send(wire.Facts(b"x"))
    assert talk.log.read_text() == ""


def test_after_a_broken_message_nothing_more_is_read(talk: Talk) -> None:
    for _ in range(20):
        talk.child.send(b"?nonsense")
    talk.turns(20)
    assert talk.log.read_text().count("broke the protocol") == 1
    assert talk.channel not in talk.host.watched


def test_descriptors_of_a_child_are_never_inherited_by_another(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []

    def received(_slot: WorkerSlot, _message: wire.Message, fds: list[int]) -> None:
        seen.extend(os.get_inheritable(descriptor) for descriptor in fds)

    monkeypatch.setattr(talk.host, "received", received)
    socket.send_fds(talk.child, [wire.pack(wire.Request(1, 1, 2000))], [0, 1])
    talk.turns(1)
    assert seen == [False, False]


# -- the settings reader


def answered(services: list[dict[str, Any]], **more: Any) -> Reading:
    """A reading whose reader has said this."""
    made = object.__new__(Reading)
    text = {"problems": [], "warnings": [], "run_dir": "/run/x", "state_dir": "/var/x", "drain_s": 1.0,
            "groups": [0, 0], "log": "text",
            "required": True, "services": services, **more}  # fmt: skip
    made._answer = bytearray(json.dumps(text).encode())
    return made


def test_an_honest_answer_is_taken() -> None:
    own = {"kind": "unix", "host": "/run/x/status.sock", "port": 0}
    assert answered(plain(listen=[own]), drain_s=30).result().drain_s == 30.0


@pytest.mark.parametrize("place", ["/etc/passwd", "/run/x/lock", "/run/x/../y/status.sock", "status.sock"])
def test_a_socket_over_another_file_is_not_made(place: str) -> None:
    """A Unix socket is made by root, over what has its name."""
    with pytest.raises(StartError):
        answered(plain(listen=[{"kind": "unix", "host": place, "port": 0}])).result()


@pytest.mark.parametrize("drain", [float("nan"), float("inf"), -1, 1e300, "often", None, [1]])
def test_a_drain_time_that_is_none_is_refused(drain: object) -> None:
    with pytest.raises(StartError):
        answered([], drain_s=drain).result()


@pytest.mark.parametrize("groups", [None, [1], [1, 2, 3], [-1, 0], [1 << 31, 0], ["adm", 0], [True, 0]])
def test_groups_that_are_none_are_refused(groups: object) -> None:
    with pytest.raises(StartError):
        answered(plain(), groups=groups).result()


def test_an_answer_that_is_nested_too_deep_is_refused() -> None:
    made = answered([])
    made._answer = bytearray(b"[" * 200_000)
    with pytest.raises(StartError):
        made.result()


def folders_of_readers() -> set[Path]:
    return set(Path(reading.tempfile.gettempdir()).glob("appliance-reader-*"))


def test_a_configuration_that_cannot_be_opened_leaves_nothing_behind(tmp_path: Path) -> None:
    before, descriptors = folders_of_readers(), len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(BadConfiguration):
            Reading(str(tmp_path / "missing.yaml"), "")
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert folders_of_readers() <= before


def test_a_reader_that_cannot_be_started_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no process")

    (tmp_path / "a.yaml").write_text("")
    before, descriptors = folders_of_readers(), len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(reading, "spawn", refuse)
    with pytest.raises(OSError, match="no process"):
        Reading(str(tmp_path / "a.yaml"), "")
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert folders_of_readers() <= before


def test_a_reader_that_does_not_leave_by_itself_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.yaml").write_text("")
    monkeypatch.setattr(Reading, "_send", lambda *_: None)  # so it waits for its start message
    made = Reading(str(tmp_path / "a.yaml"), "")
    keep = made.child.channel.dup()  # and its channel stays open
    made.close()
    ended: list[int] = []
    waiter = threading.Thread(target=lambda: ended.append(os.waitpid(made.child.pid, 0)[1]), daemon=True)
    waiter.start()
    waiter.join(10)
    keep.close()
    assert [os.waitstatus_to_exitcode(status) for status in ended] == [-9]


def test_a_reader_that_was_reaped_is_closed_without_a_signal_to_anybody(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("drain_timeout: 1s\n")
    made = Reading(str(tmp_path / "a.yaml"), "")
    deadline = time.monotonic() + 30
    while not made.feed():
        assert time.monotonic() < deadline
    os.waitpid(made.child.pid, 0)
    made.close()
