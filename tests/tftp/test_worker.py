"""worker: the supervisor's messages, and the end."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from dataclasses import replace

import pytest

from appliance import wire
from appliance.child.context import Channel, Context
from appliance.observe import tables
from appliance.settings import plain
from appliance.tftp import worker
from tests.tftp.client import ack, fetch, rrq, udp
from tests.tftp.server import SETTINGS, Server, listener, until


def put(server: Server, size: int = 100) -> bytes:
    content = os.urandom(size)
    (server.root / "f").write_bytes(content)
    return content


def begin(server: Server, sock: socket.socket) -> tuple:
    """A transfer under way: block 1 is acknowledged, block 2 is here."""
    sock.sendto(rrq("f"), server.address)
    _block, tid = sock.recvfrom(600)
    sock.sendto(ack(1), tid)
    assert sock.recv(600)[:4] == b"\0\3\0\2"
    return tid


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_an_adopted_listener_is_served_until_it_is_given_back(server: Server, host: str) -> None:
    content = put(server)
    with listener(host) as other:
        address = other.getsockname()[:2]
        server.tell(wire.Adopt(3), other.fileno())
        assert fetch(address, "f") == content
        server.tell(wire.Unadopt(3))
        server.tell(wire.Unadopt(3))
        server.tell(wire.Unadopt(9))
        assert fetch(server.address, "f") == content
        until(
            lambda: f"socket:[{os.fstat(other.fileno()).st_ino}]" not in held(server.pid), "the listener to be closed"
        )
        with udp(host) as sock:
            sock.sendto(rrq("f"), address)
            other.settimeout(60)
            assert other.recv(600) == rrq("f")  # nobody else took it


def test_draining_takes_no_new_request_and_finishes_what_runs(server: Server) -> None:
    content = put(server, 1000)
    with udp() as sock:
        tid = begin(server, sock)
        before = len(held(server.pid))
        server.tell(wire.Drain(10_000))
        until(lambda: len(held(server.pid)) == before - 2, "the listeners to be closed")
        assert server.alive()
        sock.sendto(ack(2), tid)
        until(lambda: not server.alive(), "the end")
    assert server.ended == 0
    assert server.first("transfer").endswith("outcome=done")
    assert f"bytes={len(content)} " in server.first("transfer")


def held(pid: int) -> set[str]:
    """The sockets a process holds, as the kernel names them."""
    folder, found = f"/proc/{pid}/fd", set()
    for name in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):  # closed since it was listed
            found.add(os.readlink(f"{folder}/{name}"))
    return found


def test_draining_ends_at_its_deadline_and_tells_the_clients(server: Server) -> None:
    put(server, 5000)
    with udp() as sock:
        begin(server, sock)
        server.tell(wire.Drain(50))
        packet = sock.recv(600)
        while packet[:2] == b"\0\3":
            packet = sock.recv(600)
        assert packet == b"\0\5\0\0Server is stopping\0"
        until(lambda: not server.alive(), "the end")
    assert server.ended == 0


def test_without_transfers_draining_ends_at_once(server: Server) -> None:
    server.tell(wire.Drain(3_600_000))
    until(lambda: not server.alive(), "the end")
    assert server.ended == 0


def test_the_end_of_the_supervisor_is_the_end_of_the_worker(server: Server) -> None:
    server.channel.close()
    until(lambda: not server.alive(), "the end")
    assert server.ended == 0


def test_messages_for_others_are_ignored_and_their_descriptors_closed(server: Server) -> None:
    content = put(server)
    before = len(os.listdir(f"/proc/{server.pid}/fd"))
    with udp() as sock:
        for _ in range(3):
            server.tell(wire.Link(0), sock.fileno())
            server.tell(wire.Reply(7, 0), sock.fileno())
    assert fetch(server.address, "f") == content
    until(lambda: len(os.listdir(f"/proc/{server.pid}/fd")) <= before + 2, "the descriptors to be closed")  # one port


def test_the_loop_turns_at_least_once_a_second(server: Server) -> None:
    ticks = []
    for _ in range(3):
        tick = server.counters["tick"]
        until(lambda tick=tick: server.counters["tick"] != tick, "a turn")
        ticks.append(server.counters["tick"] - tick)
    assert min(ticks) < 1.5e9


def test_no_descriptor_is_lost_in_a_hundred_transfers_and_refusals(server: Server) -> None:
    content = put(server, 2000)
    for _ in range(20):  # ports are kept for later: let them come to their number first
        assert fetch(server.address, "f") == content
    until(lambda: server.counters["active"] == 0, "the end")
    before = len(os.listdir(f"/proc/{server.pid}/fd"))
    for _ in range(100):
        assert fetch(server.address, "f") == content
        with udp() as sock:
            sock.sendto(rrq("missing"), server.address)
            sock.recv(600)
    until(lambda: server.counters["active"] == 0, "the end")
    assert (
        len(os.listdir(f"/proc/{server.pid}/fd")) <= before + 1
    )  # the cache holds a file that it has not read to its end


@pytest.mark.parametrize("form", ["journal", "json", "text"])
def test_records_come_in_the_form_of_the_settings(start, form: str) -> None:
    server = start(log=form)
    put(server)
    fetch(server.address, "f")
    until(lambda: server.log.read_text().endswith("\n"), "the record")
    line = server.log.read_text()
    if form == "json":
        record = json.loads(line)
        assert (record["event"], record["bytes"], record["outcome"]) == ("transfer", 100, "done")
    else:
        assert line.startswith("INFO    tftp[")  # a file is no journal


def test_a_transfer_ends_when_the_memory_of_the_settings_is_used_up(start) -> None:
    limits = replace(SETTINGS.limits, memory=1 << 20)
    server = start(replace(SETTINGS, timeout=5.0, limits=limits))
    (server.root / "f").write_bytes(os.urandom(3_000_000))
    running, errors, before = [], 0, resident(server.pid)
    for _ in range(12):
        sock = udp()
        running.append(sock)
        sock.sendto(rrq("f", {"blksize": 65464, "windowsize": 16}), server.address)
        _oack, tid = sock.recvfrom(600)
        sock.sendto(ack(0), tid)
        errors += sock.recv(70000)[:2] == b"\0\5"
    assert 0 < errors < 12
    assert resident(server.pid) - before < 32 << 20  # the process is a fork of this one, so growth is what counts
    for sock in running:
        sock.close()
    assert server.counters["crashes"] == 0


def test_workers_share_the_budget_for_clients_never_heard_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_ROUTES", (os.devnull, os.devnull))  # near to nobody
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    table = tables.create("test")
    counters = tables.Counters(table)
    for workers, expected in ((1, 8), (4, 2), (16, 1)):
        settings = plain.encode(replace(SETTINGS, limits=replace(SETTINGS.limits, unseen_per_second=8)))
        shape = {"tftp": settings, "log": "text", "workers": workers}
        made = worker.prepare(Context("tftp", 0, shape, Channel(theirs), counters))
        answer = made._engine._admission.answer
        assert sum(answer("192.0.2.1", "192.0.2.1", 100.0) for _ in range(20)) == expected
    os.close(table)
    ours.close()
    theirs.close()


def resident(pid: int) -> int:
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
