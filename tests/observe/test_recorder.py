"""observe.recorder: what workers tell is kept and passed on; nobody holds it up, and a bad disk costs history only."""

from __future__ import annotations

import errno
import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance import wire
from appliance.child.context import Channel, Context, take_listener
from appliance.observe import events, framing, history, recorder, tables
from appliance.observe.macs import Macs
from tests.support import until

STORED = events.Stored(1, 2, b"192.0.2.1", b"name")
ENDED = events.Ended(client=b"192.0.2.1", file=b"f", outcome=b"done")


class Running:
    """A recorder in a thread of this process, in the working directory."""

    def __init__(self, folder: Path, limit: int = 1 << 20) -> None:
        self.folder = folder
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.place = str(folder / "events.sock")
        listener.bind(self.place)
        listener.listen(100)
        table = tables.create("events")
        self.counts = tables.Reader(table)
        context = Context("events", 0, {"log": "text", "history": limit}, Channel(theirs), tables.Counters(table))
        context.listeners.append(take_listener(listener.detach()))
        self.ours = [theirs, *context.listeners]
        os.close(table)
        self.recorder = recorder.prepare(context)
        self.neighbours = b""  # not those of the machine that the test runs on
        self.recorder._macs = Macs(lambda: self.neighbours)
        self.thread = threading.Thread(target=self.recorder.run)
        self.thread.start()
        self.links: list[socket.socket] = []

    def link(self, source: str) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(10)
        socket.send_fds(self.channel, [wire.pack(wire.Link(1, source))], [theirs.fileno()])
        theirs.close()
        self.links.append(ours)
        return ours

    def reader(self) -> tuple[socket.socket, bytes]:
        """A connection, and the history that it was handed."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.settimeout(10)
        sock.connect(self.place)
        self.links.append(sock)
        data, fds, _flags, _peer = socket.recv_fds(sock, 65536, 253)
        assert int(data) == len(fds)
        text = b""
        for descriptor in fds:
            text += os.pread(descriptor, 1 << 24, 0)
            os.close(descriptor)
        return sock, text

    def count(self, name: str) -> int:
        return self.counts.snapshot()[name]

    def told(self, number: int) -> None:
        until(lambda: self.count("transfers") >= number, 10, f"{number} events")

    def stop(self) -> None:
        self.channel.send(wire.pack(wire.Drain(0)))
        self.thread.join(20)
        assert not self.thread.is_alive()
        assert self.count("crashes") == 0
        self.channel.close()
        for sock in [*self.links, *self.ours]:
            sock.close()
        self.counts.close()


def tell(link: socket.socket, *told: events.Event) -> None:
    for datagram in framing.join(map(framing.encode, told)):
        link.send(datagram)


def lines(text: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    jail = tmp_path / "jail"
    jail.mkdir()
    monkeypatch.chdir(jail)
    made = Running(tmp_path)
    yield made
    made.stop()


def test_what_workers_tell_is_kept_numbered_and_sent_to_who_follows(running: Running) -> None:
    first, second = running.link("tftp.0"), running.link("ftp.1")
    tell(first, ENDED)
    running.told(1)
    sock, text = running.reader()
    (kept,) = lines(text)
    assert (kept["n"], kept["room"], kept["worker"], kept["event"]) == (1, "tftp", 0, "transfer")
    tell(second, ENDED, ENDED)
    found = lines(sock.recv(65536))
    assert [(one["n"], one["room"], one["worker"]) for one in found] == [(2, "ftp", 1), (3, "ftp", 1)]
    assert len(lines(running.reader()[1])) == 3


def test_subscribers_are_passed_every_record_and_others_nothing(running: Running) -> None:
    board, worker = running.link("board.0"), running.link("tftp.0")
    tell(worker, ENDED)
    (frame,) = framing.split(board.recv(65536))
    record = framing.decode_record(frame)
    assert (record.number, record.source, record.event) == (1, "tftp.0", ENDED)
    worker.setblocking(False)
    with pytest.raises(BlockingIOError):
        worker.recv(100)


def test_the_mac_of_a_client_is_added_from_the_neighbours_our_dhcp_or_a_name_it_asked_for(running: Running) -> None:
    board, worker, dhcp = running.link("board.0"), running.link("tftp.0"), running.link("dhcp.0")
    running.neighbours = b"IP HW Flags MAC Mask Device\n192.0.2.1 0x1 0x2 52:54:00:00:00:01 * br0\n"
    mac_of: list[bytes] = []

    def hear(number: int) -> None:
        while len(mac_of) < number:
            for frame in framing.split(board.recv(65536)):
                mac_of.append(framing.decode_record(frame).event.mac)  # type: ignore[union-attr]

    tell(worker, ENDED)
    tell(worker, events.Refused(client=b"192.0.2.2", file=b"pxelinux.cfg/01-52-54-00-00-00-02"))
    tell(worker, events.Started(client=b"192.0.2.2", file=b"vmlinuz"))
    tell(worker, events.Ended(client=b"192.0.2.3", file=b"vmlinuz", mac=b"aa:aa:aa:aa:aa:aa"))
    hear(4)
    tell(dhcp, events.Dhcp(1, b"52:54:00:00:00:03", b"192.0.2.3", b"DHCPACK"))
    hear(5)
    tell(worker, events.Unanswered(client=b"192.0.2.3", file=b"pxelinux.0"))
    tell(worker, events.Unanswered(client=b"192.0.2.4", file=b"\xff\x00"))
    hear(7)
    ends = [b"01", b"02", b"02", None, b"03", b"03", b""]
    wanted = [b"52:54:00:00:00:" + end if end else end for end in ends]
    assert mac_of == [b"aa:aa:aa:aa:aa:aa" if mac is None else mac for mac in wanted]


def test_a_worker_cannot_tell_what_is_not_its_own(running: Running) -> None:
    worker, stranger = running.link("ftp.0"), running.link("tftp-imposter.0")
    tell(worker, events.Ban(60, b"192.0.2.1", b"ftp"))
    tell(stranger, ENDED)
    tell(worker, events.Worker(service=b"tftp", state=b"died"))
    tell(worker, ENDED)
    running.told(1)
    until(lambda: running.count("dropped") == 3, 10, "the lies are counted")
    assert [one["event"] for one in lines(running.reader()[1])] == ["transfer"]


def test_the_supervisor_tells_by_its_channel(running: Running) -> None:
    running.channel.send(wire.pack(wire.Tell(framing.encode(events.Ban(60, b"192.0.2.1", b"ftp")))))
    running.told(1)
    (found,) = lines(running.reader()[1])
    assert (found["room"], found["event"], found["seconds"]) == ("supervisor", "ban", 60)


def test_nonsense_is_counted_and_in_the_end_closes_its_link_alone(running: Running) -> None:
    bad, good = running.link("tftp.0"), running.link("tftp.1")
    for number in range(200):
        try:
            bad.send(os.urandom(40 + number))
        except OSError:
            break
    until(lambda: running.count("dropped") > 100, 10, "it is counted")
    tell(good, ENDED)
    running.told(1)
    until(lambda: _gone(bad), 10, "its link is closed")


def _gone(link: socket.socket) -> bool:
    try:
        link.send(b"x")
    except OSError:
        return True
    return False


def test_a_reader_who_does_not_read_loses_and_is_told_how_much(running: Running) -> None:
    sock, _text = running.reader()
    worker = running.link("tftp.0")
    long = ENDED._replace(file=b"x" * 900, path=b"y" * 900)
    for number in range(1500):
        tell(worker, long)
        running.told(number + 1) if number % 50 == 0 else None
    running.told(1500)
    tell(running.link("tftp.1"), ENDED)  # nobody else was held up
    running.told(1501)
    found: list[dict[str, Any]] = []
    while not any(one["event"] == "lost" for one in found):
        found += lines(sock.recv(1 << 20))
        tell(worker, ENDED)
    lost = next(one for one in found if one["event"] == "lost")
    assert (lost["cause"], lost["room"]) == ("queue", "events")
    assert lost["events"] > 0


def test_more_readers_than_there_is_room_for_push_out_the_oldest(running: Running) -> None:
    first, _text = running.reader()
    socks = [running.reader()[0] for _ in range(recorder.READERS_MAX)]
    assert first.recv(100) == b""
    tell(running.link("tftp.0"), ENDED)
    assert lines(socks[-1].recv(65536))[0]["event"] == "transfer"


def test_a_reader_who_speaks_is_shown_the_door(running: Running) -> None:
    sock, _text = running.reader()
    sock.send(b"GET / HTTP/1.0\r\n\r\n")
    with pytest.raises(ConnectionResetError):
        sock.recv(100)


def test_a_full_disk_costs_history_is_shown_and_is_over_when_there_is_room(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "_RETRY_S", 0.05)
    follower, _text = running.reader()
    worker = running.link("tftp.0")

    def full(_self: object, _lines: bytes) -> None:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as broken:
        broken.setattr(history.History, "append", full)
        tell(worker, ENDED)
        running.told(1)
        until(lambda: running.count("fault") == errno.ENOSPC, 10, "it is shown")
        assert lines(follower.recv(65536))[0]["n"] == 1  # who follows is told all the same
        assert running.count("events_lost") == 1
    number = 1

    def mended() -> bool:
        nonlocal number
        number += 1
        tell(worker, ENDED)
        running.told(number)
        return running.count("fault") == 0

    until(mended, 10, "it is over")
    assert lines(running.reader()[1])[-1]["event"] == "transfer"


def test_what_was_told_before_the_end_is_kept(running: Running) -> None:
    worker = running.link("custody.0")
    for _ in range(300):
        tell(worker, STORED)
    worker.close()
    running.channel.send(wire.pack(wire.Drain(0)))
    running.thread.join(20)
    text = b"".join(place.read_bytes() for place in sorted(Path.cwd().iterdir()))
    assert len(lines(text)) == 300


def test_the_numbers_go_on_where_the_last_process_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jail = tmp_path / "jail"
    jail.mkdir()
    monkeypatch.chdir(jail)
    for life in range(2):
        (tmp_path / str(life)).mkdir()
        made = Running(tmp_path / str(life))
        tell(made.link("tftp.0"), ENDED)
        made.told(1)
        text = made.reader()[1]
        made.stop()
    assert [one["n"] for one in lines(text)] == [1, 2]
