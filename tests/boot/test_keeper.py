"""boot.keeper: the one in its jail, over its real channel and link: what it hears, keeps, and says of it."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from appliance import wire
from appliance.boot import armed, arming, keeper
from appliance.boot.armed import Armed
from appliance.boot.oneshot import ALL, ANSWERS, NOTHING
from appliance.child.context import Channel, Context
from appliance.observe import events, framing, tables
from tests.support import until

KEY, OTHER = "0123456789abcdef", "f" * 16
CONFIG, KERNEL, INITRD, DONE = "pxelinux.cfg/01-aa", "d/linux", "d/initrd", "done/web-1"
ARMED = Armed(KEY, "web-1", "debian", 7, (CONFIG,), (KERNEL, INITRD), 1 << 31, DONE)
RELEASE = {"now": [1, "20260101-000000-00000000", 7]}
SAYS = {ALL: "all", ANSWERS: "answers", NOTHING: "nothing"}


class Running:
    """A keeper in a thread of this process, whose jail is the working directory."""

    def __init__(self, log: Path, release: dict[str, Any] | None) -> None:
        self.channel, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel.settimeout(60)
        table = tables.create("keeper")
        self.counts = tables.Reader(table)
        settings = {"log": "text", "release": release}
        context = Context("keeper", 0, settings, Channel(self._theirs), tables.Counters(table))
        os.close(table)
        self.link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.link.settimeout(60)
        context.links[keeper.EVENTS] = theirs
        self.made = keeper.prepare(context)
        self.thread = threading.Thread(target=self.made.run)
        self.thread.start()

    def says(self, key: str = KEY) -> str:
        """The next thing that it says of a one-shot boot, to the supervisor."""
        message = wire.parse(self.channel.recv(wire.MAX_MESSAGE), from_child=True)
        assert isinstance(message, wire.Used) and message.key == int(key, 16)
        return SAYS[message.serves]

    def release(self, overlay: int = 7) -> None:
        self.channel.send(wire.pack(wire.Release(1, overlay, "20260101-000000-00000000")))

    def hears(self, *told: events.Event, source: str = "tftp.0") -> None:
        records = [events.Record(number, 0, source, event) for number, event in enumerate(told)]
        for datagram in framing.join(map(framing.encode_record, records)):
            self.link.send(datagram)

    def fetched(self, *names: str, client: bytes = b"192.0.2.7", **more: Any) -> None:
        """A client was sent these, whole."""
        fields: dict[str, Any] = {"client": client, "outcome": b"done", "acknowledged": 1, **more}
        for name in names:
            layer = fields.get("layer", b"once" if name == CONFIG else b"release")
            self.hears(events.Ended(**{**fields, "layer": layer, "path": name.encode()}))

    def relink(self) -> None:
        """The events service died; the supervisor brings a link to the next one."""
        self.link.close()
        self.link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.link.settimeout(60)
        message = wire.pack(wire.Link(0, keeper.EVENTS))
        socket.send_fds(self.channel, [message], [theirs.fileno()])
        theirs.close()

    def stop(self) -> None:
        self.channel.send(wire.pack(wire.Drain(0)))
        self.gone()

    def gone(self) -> None:
        self.thread.join(60)
        assert not self.thread.is_alive()
        assert self.counts.snapshot()["crashes"] == 0
        for sock in (self.channel, self._theirs, self.link):
            sock.close()
        for sock in (self.made._link, self.made._emitter._link):
            if sock is not None:
                sock.close()
        self.counts.close()


@pytest.fixture
def jail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "armed"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


Start = Callable[..., Running]


@pytest.fixture
def start(jail: Path, tmp_path: Path) -> Iterator[Start]:
    """Start one keeper after the other; the last one is ended."""
    running: list[Running] = []

    def begin(release: dict[str, Any] | None = RELEASE) -> Running:
        for one in running:
            one.stop()
        running[:] = [Running(tmp_path / "log", release)]
        return running[0]

    yield begin
    for one in running:
        one.stop()


def arm(jail: Path, shot: Armed = ARMED, name: str = "") -> None:
    (jail / "new").write_bytes(armed.encode(shot))
    os.rename(jail / "new", jail / (name or armed.file_of(shot.key)))


def stage(jail: Path, key: str = KEY) -> str:
    told = arming.told(str(jail.parent))
    return told[key][0] if key in told else ""


def test_from_armed_to_confirmed_by_what_the_machine_fetched(jail: Path, start: Start) -> None:
    arm(jail)
    running = start()
    assert running.says() == "all" and stage(jail) == "armed"
    running.fetched(CONFIG, KERNEL)
    running.fetched(KERNEL, INITRD, client=b"192.0.2.8")  # another one
    running.fetched(INITRD, acknowledged=0)
    running.fetched(INITRD, outcome=b"timeout")
    running.fetched(INITRD)
    assert running.says() == "answers" and stage(jail) == "loaded"
    running.fetched(DONE, layer=b"once")
    assert running.says() == "nothing" and stage(jail) == "confirmed"


def test_an_operators_word_confirms_and_is_used_up(jail: Path, start: Start) -> None:
    arm(jail)
    running = start()
    assert running.says() == "all"
    arming.confirm(str(jail.parent), KEY)
    arming.confirm(str(jail.parent), KEY)  # said twice before it was heard
    running.release()
    assert running.says() == "nothing" and stage(jail) == "confirmed"
    until(lambda: not (jail / f"{KEY}.confirm").exists(), 60, "the word is taken away")


def test_an_operators_word_that_was_given_while_no_keeper_ran_is_heard_at_its_birth(jail: Path, start: Start) -> None:
    arm(jail)
    arming.confirm(str(jail.parent), KEY)
    running = start()
    assert (running.says(), running.says()) == ("all", "nothing") and stage(jail) == "confirmed"


def test_nothing_of_an_overlay_that_is_not_in_force_yet_is_served(jail: Path, start: Start) -> None:
    arm(jail, replace(ARMED, overlay=8))
    running = start()
    running.release(7)
    running.release(8)
    assert running.says() == "all"  # the first thing it says


def test_before_the_first_publication_nothing_is_served(jail: Path, start: Start) -> None:
    arm(jail)
    running = start(None)
    until(lambda: stage(jail) == "armed", 60, "armed")
    running.release()
    assert running.says() == "all"


def test_what_is_taken_back_is_served_no_more_and_forgotten(jail: Path, start: Start) -> None:
    arm(jail)
    running = start()
    assert running.says() == "all"
    (jail / armed.file_of(KEY)).unlink()
    running.release()
    assert running.says() == "nothing"
    until(lambda: os.listdir(jail) == [], 60, "nothing left")


@pytest.mark.parametrize("gap", ["lost", "worker", "link", "keeper"])
def test_after_a_gap_a_machine_that_had_begun_counts_as_loaded_and_no_other(jail: Path, start: Start, gap: str) -> None:
    arm(jail)
    arm(jail, replace(ARMED, key=OTHER, machine="web-2", configs=("pxelinux.cfg/01-bb",)))
    running = start()
    assert {running.says(), running.says(OTHER)} == {"all"}
    running.fetched(CONFIG, KERNEL)
    until(lambda: json.loads((jail / f"{KEY}.state").read_text())["got"] == [KERNEL], 60, "begun")
    if gap == "lost":
        running.hears(events.Lost(3, b"queue"))
    elif gap == "worker":
        running.hears(events.Worker(service=b"custody", state=b"died"), events.Worker(service=b"tftp", state=b"died"))
    elif gap == "link":
        running.relink()
    else:
        running = start()
        assert (running.says(), running.says(OTHER)) == ("answers", "all")
        assert (stage(jail), stage(jail, OTHER)) == ("loaded", "armed")
        return
    assert running.says() == "answers"
    assert (stage(jail), stage(jail, OTHER)) == ("loaded", "armed")


@pytest.mark.parametrize(
    ("left", "says"), [("armed", "answers"), ("loaded", "answers"), ("confirmed", "nothing"), ("unbegun", "all")]
)
def test_what_the_keeper_before_wrote_until_a_reload_was_done_is_caught_up_with(
    jail: Path, start: Start, left: str, says: str
) -> None:
    """A machine that began while both ran, heard by the old one alone, would have installed for ever."""
    arm(jail)
    running = start()
    assert running.says() == "all"
    client = "" if left == "unbegun" else "192.0.2.7"
    at = int(time.time())
    state = {"stage": left.replace("unbegun", "armed"), "client": client, "got": [], "at": at}
    (jail / "other").write_text(json.dumps(state))
    os.rename(jail / "other", jail / f"{KEY}.state")
    running.release()
    if says != "all":
        assert running.says() == says
    else:
        arm(jail, replace(ARMED, key=OTHER))
        running.release()
        assert running.says(OTHER) == "all"  # of the first one nothing new was said
    assert stage(jail) == {"armed": "loaded", "unbegun": "armed"}.get(left, left)


def test_what_it_wrote_itself_is_no_gap(jail: Path, start: Start) -> None:
    arm(jail)
    running = start()
    assert running.says() == "all"
    running.fetched(CONFIG, KERNEL)
    until(lambda: json.loads((jail / f"{KEY}.state").read_text())["got"] == [KERNEL], 60, "begun")
    arm(jail, replace(ARMED, key=OTHER, machine="web-2"))
    running.release()
    assert running.says(OTHER) == "all" and stage(jail) == "armed"


def test_time_ends_what_never_began_and_no_other(jail: Path, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(keeper, "time", SimpleNamespace(time=lambda: clock[0], monotonic=time.monotonic))
    arm(jail, replace(ARMED, expires=2000))
    arm(jail, replace(ARMED, key=OTHER, machine="web-2", configs=("pxelinux.cfg/01-bb",), expires=2001))
    running = start()
    assert {running.says(), running.says(OTHER)} == {"all"}
    clock[0] = 2000.9
    assert running.says() == "nothing" and stage(jail) == "expired"
    assert stage(jail, OTHER) == "armed"


def test_one_that_loaded_and_whose_time_is_over_stays_unconfirmed_and_is_served_nothing(
    jail: Path, start: Start
) -> None:
    arm(jail, replace(ARMED, expires=1000))
    (jail / f"{KEY}.state").write_text(json.dumps({"stage": "loaded", "client": "a", "got": [], "at": 900}))
    running = start()
    arm(jail, replace(ARMED, key=OTHER))
    running.release()
    assert running.says(OTHER) == "all"  # of the first one nothing was ever said
    assert stage(jail) == "loaded"


def test_what_ended_long_ago_is_forgotten(jail: Path, start: Start) -> None:
    arm(jail)
    (jail / f"{KEY}.state").write_text(json.dumps({"stage": "confirmed", "client": "a", "got": [], "at": 900}))
    start()
    until(lambda: os.listdir(jail) == [], 60, "nothing left")


@pytest.mark.parametrize(
    "state", ["", "[]", "{", '{"stage": "elsewhere", "client": "", "got": [], "at": 1}', '{"stage": "armed"}']
)
def test_a_state_that_cannot_be_read_begins_anew(jail: Path, start: Start, state: str) -> None:
    arm(jail)
    (jail / f"{KEY}.state").write_text(state)
    assert start().says() == "all"


def test_what_is_no_arming_is_left_out_and_told_once(
    jail: Path, start: Start, capfd: pytest.CaptureFixture[str]
) -> None:
    (jail / f"{KEY}.json").write_text("{}")
    arm(jail, ARMED, f"{'a' * 16}.json")  # another key than its name
    os.mkfifo(jail / f"{'b' * 16}.json")
    (jail / f"{'c' * 16}.json").symlink_to(jail / f"{KEY}.json")
    (jail / "d.json").write_text("{}")
    arm(jail, replace(ARMED, key=OTHER))
    running = start()
    assert running.says(OTHER) == "all"
    running.release()
    arm(jail, replace(ARMED, key="e" * 16))
    running.release()
    assert running.says("e" * 16) == "all"
    said = capfd.readouterr().err
    assert [said.count(f"file={name}.json") for name in (KEY, "a" * 16, "b" * 16, "c" * 16, "d")] == [1, 1, 1, 1, 0]


def test_a_datagram_of_nonsense_is_counted_and_the_next_one_is_heard(jail: Path, start: Start) -> None:
    arm(jail)
    running = start()
    assert running.says() == "all"
    running.link.send(b"nonsense")
    running.fetched(CONFIG, KERNEL, INITRD)
    assert running.says() == "answers"
    assert running.counts.snapshot()["dropped"] == 1


def test_a_folder_that_cannot_be_written_keeps_nothing_and_goes_on(
    jail: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    arm(jail)
    running = start()
    assert running.says() == "all"
    with monkeypatch.context() as broken:
        broken.setattr(keeper.os, "rename", full)
        running.fetched(CONFIG, KERNEL, INITRD)
        assert running.says() == "answers"
    assert stage(jail) == "armed"  # what is on disk


def test_it_tells_of_each_step(jail: Path, start: Start) -> None:
    arm(jail)
    running = start()
    assert running.says() == "all"
    running.fetched(CONFIG, KERNEL, INITRD)
    assert running.says() == "answers"
    told: list[Any] = []
    while len(told) < 2:
        told += [framing.decode(frame) for frame in framing.split(running.link.recv(framing.DATAGRAM_MAX))]
    assert [(one.machine, one.state, one.client) for one in told] == [
        (b"web-1", b"armed", b""),
        (b"web-1", b"loaded", b"192.0.2.7"),
    ]


def test_it_ends_with_the_supervisor(jail: Path, tmp_path: Path) -> None:
    running = Running(tmp_path / "log", None)
    running.channel.shutdown(socket.SHUT_RDWR)
    running.gone()
