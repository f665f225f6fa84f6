"""paced: transfers that keep a rate, on real sockets."""

from __future__ import annotations

import mmap
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from appliance.settings.tftp import TftpNetwork
from tests.tftp.client import Fetch, ack, fetch, rrq, udp
from tests.tftp.server import SETTINGS, Server, start, until

RATE = 256 << 10
Start = Callable[..., Server]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Start]:
    """Starts one server with these limits; ends it afterwards."""
    made: list[Server] = []

    def begin(networks: tuple[TftpNetwork, ...] = (), **limits: int) -> Server:
        found = replace(SETTINGS.limits, **limits)
        made.append(start(tmp_path, replace(SETTINGS, limits=found, networks=networks)))
        return made[0]

    yield begin
    for server in made:
        assert server.stop() == 0
        assert "Traceback" not in server.log.read_text()


def put(server: Server, size: int) -> bytes:
    content = os.urandom(size)
    (server.root / "f").write_bytes(content)
    return content


def line_of_the_transfer(server: Server) -> str:
    until(lambda: server.lines("transfer"), "the line of the transfer")
    return server.first("transfer")


def seconds(action: Callable[[], object]) -> float:
    begun = time.monotonic()
    action()
    return time.monotonic() - begun


@pytest.mark.parametrize("window", [1, 8, 64])
def test_a_client_gets_its_rate_and_the_whole_file_and_nothing_is_sent_twice(serve: Start, window: int) -> None:
    server = serve(rate_per_client=RATE)
    content = put(server, RATE)
    options = {"blksize": 1024, "windowsize": window}
    took = seconds(lambda: None if fetch(server.address, "f", options) == content else pytest.fail("other bytes"))
    assert took >= (len(content) - 0.25 * RATE - 0.125 * RATE) / RATE - 0.05
    assert f" retransmits=0 blksize=1024 windowsize={window} outcome=done" in line_of_the_transfer(server)


def test_a_window_that_waits_for_longer_than_the_timeout_is_no_silence(serve: Start) -> None:
    server = serve(rate_per_client=8 << 10)  # the window of 23 kB takes two and a half seconds, the timeout is one
    content = put(server, 24 << 10)
    assert fetch(server.address, "f", {"blksize": 1428, "windowsize": 16}) == content
    assert " retransmits=0 " in line_of_the_transfer(server)


def test_clients_share_the_rate_of_all_evenly_whatever_their_windows_and_transfers(serve: Start) -> None:
    server = serve(rate_total=RATE)
    put(server, 8 * RATE)
    got = {"127.0.0.1": 0, "127.0.0.2": 0}
    stop = threading.Event()
    plan = [("127.0.0.1", 32), ("127.0.0.1", 8), ("127.0.0.1", 8), ("127.0.0.2", 4)]
    threads = [threading.Thread(target=count, args=(server, host, window, got, stop)) for host, window in plan]
    for thread in threads:
        thread.start()
    until(lambda: sum(got.values()) >= 3 * RATE, "three seconds' worth of bytes")
    taken = dict(got)
    stop.set()
    for thread in threads:
        thread.join()
    assert taken["127.0.0.2"] >= 0.3 * sum(taken.values()), taken


def count(server: Server, host: str, window: int, got: dict[str, int], stop: threading.Event) -> None:
    """Acknowledge whole windows and count what comes."""
    with udp(host) as sock:
        sock.sendto(rrq("f", {"blksize": 1024, "windowsize": window}), server.address)
        _oack, peer = sock.recvfrom(2000)
        sock.sendto(ack(0), peer)
        block = 0
        while not stop.is_set():
            if not select.select([sock], [], [], 0.1)[0]:
                continue
            data = sock.recv(2000)
            if data[:2] == b"\0\3" and int.from_bytes(data[2:4], "big") == block + 1:
                block += 1
                got[host] += len(data) - 4
                if block % window == 0:
                    sock.sendto(ack(block), peer)


def test_the_rate_of_all_is_kept_over_clients(serve: Start) -> None:
    server = serve(rate_total=RATE)
    content = put(server, RATE // 2)
    found: list[bytes] = []

    def one(host: str) -> None:
        with udp(host) as sock:
            found.append(Fetch(server.address, "f", {"blksize": 1024, "windowsize": 8}, sock=sock).run())

    threads = [threading.Thread(target=one, args=(f"127.0.0.{n}",)) for n in range(1, 5)]

    def everybody() -> None:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert seconds(everybody) >= (2 * RATE - 0.4 * RATE) / RATE - 0.05
    assert found == [content] * 4


def test_the_rate_of_a_network_concerns_its_clients_alone(serve: Start) -> None:
    server = serve(networks=(TftpNetwork("127.0.0.2/32", rate=RATE // 4),))
    content = put(server, RATE)
    options = {"blksize": 1024, "windowsize": 8}
    with udp("127.0.0.2") as sock:
        slow = threading.Thread(target=Fetch(server.address, "f", options, sock=sock).run)
        slow.start()
        assert fetch(server.address, "f", options) == content
        assert slow.is_alive()  # for two and a half seconds at least
        slow.join()


@pytest.mark.parametrize("size", [0, 1, 1024, 5000, 60_000])
def test_netascii_ends_where_it_ends(serve: Start, size: int) -> None:
    server = serve(rate_per_client=RATE)
    content = (b"line\n" * (size // 5 + 1))[:size]
    (server.root / "f").write_bytes(content)
    options = {"blksize": 1024, "windowsize": 16}
    assert fetch(server.address, "f", options, mode="netascii") == content.replace(b"\n", b"\r\n")
    assert fetch(server.address, "f", options) == content


def test_losses_are_mended_under_a_rate(serve: Start) -> None:
    server = serve(rate_per_client=4 * RATE)
    content = put(server, RATE)
    options = {"blksize": 1024, "windowsize": 16}
    assert fetch(server.address, "f", options, lose=lambda block, times: times == 1 and block % 37 == 0) == content


def test_an_impatient_client_that_repeats_its_ack_does_not_get_more_than_its_rate(serve: Start) -> None:
    server = serve(rate_per_client=RATE)
    put(server, 8 * RATE)
    with udp() as sock:
        sock.sendto(rrq("f", {"blksize": 1024, "windowsize": 32}), server.address)
        _oack, peer = sock.recvfrom(2000)
        begun, got, block = time.monotonic(), 0, 0
        sock.settimeout(0.02)
        while time.monotonic() < begun + 2.0:
            sock.sendto(ack(block), peer)
            try:
                data = sock.recv(2000)
            except TimeoutError:
                continue
            got += len(data)
            if data[:2] == b"\0\3" and int.from_bytes(data[2:4], "big") == block + 1:
                block += 1
    assert got <= RATE * (2.0 + 0.25 + 0.125) * 1.05


def test_forged_requests_take_nothing_from_the_rate_of_the_client_whose_address_they_bear(serve: Start) -> None:
    slow = 4 << 10
    server = serve(rate_per_client=slow, rate_total=slow)
    put(server, 8 * slow)
    forged = [udp() for _ in range(60)]  # 60 blocks of 512 bytes would be the rate of seven seconds
    begun = time.monotonic()
    for sock in forged:
        sock.sendto(rrq("f"), server.address)
        assert sock.recv(600)[:4] == b"\0\3\0\1"
    with udp() as good:
        good.sendto(rrq("f", {"blksize": 1024, "windowsize": 4}), server.address)
        _oack, peer = good.recvfrom(2000)
        good.sendto(ack(0), peer)
        for block in range(1, 5):
            assert good.recv(2000)[:4] == b"\0\3\0" + bytes([block])
    assert time.monotonic() - begun < 5.0
    for sock in forged:
        sock.close()


def test_a_client_that_goes_away_while_it_waits_leaves_nothing_behind(serve: Start) -> None:
    server = serve(rate_per_client=16 << 10)
    put(server, 1 << 20)
    with udp() as sock:
        sock.sendto(rrq("f", {"blksize": 1428, "windowsize": 64}), server.address)
        _oack, peer = sock.recvfrom(2000)
        sock.sendto(ack(0), peer)
        assert sock.recv(2000)[:4] == b"\0\3\0\1"
        sock.sendto(b"\0\5\0\3enough\0", peer)
        until(lambda: server.counters["active"] == 0, "the end of the transfer")
    assert line_of_the_transfer(server).endswith('outcome="aborted by the client"')


def test_a_full_socket_buffer_delays_a_paced_window_and_loses_nothing(tmp_path: Path) -> None:
    def sabotage() -> None:
        real, calls = socket.socket.send, [0]

        def send(self: socket.socket, data: bytes, *more: int) -> int:
            calls[0] += 1
            if calls[0] % 5 == 0:
                raise BlockingIOError(11, "full")
            return real(self, data, *more)

        socket.socket.send = send  # type: ignore[method-assign]

    limits = replace(SETTINGS.limits, rate_per_client=4 * RATE)
    server = start(tmp_path, replace(SETTINGS, limits=limits), sabotage=sabotage)
    content = put(server, RATE)
    assert fetch(server.address, "f", {"blksize": 1024, "windowsize": 64}) == content
    assert server.stop() == 0


def test_transfers_of_a_network_are_capped_in_silence_and_the_log_says_why(serve: Start) -> None:
    server = serve(networks=(TftpNetwork("127.0.0.0/30", transfers=2),))
    put(server, 5000)
    with udp("127.0.0.1") as one, udp("127.0.0.2") as two, udp("127.0.0.3") as three, udp("127.0.0.4") as other:
        for sock in (one, two):
            sock.sendto(rrq("f"), server.address)
            _data, peer = sock.recvfrom(600)
            sock.sendto(ack(1), peer)
            assert sock.recv(600)[:4] == b"\0\3\0\2"
        three.sendto(rrq("f"), server.address)
        other.sendto(rrq("f"), server.address)
        assert other.recv(600)[:4] == b"\0\3\0\1"
        assert not select.select([three], [], [], 0)[0]
        line = server.only("dropped")
        assert "client=127.0.0.3:" in line and line.endswith('cause="too many transfers of this network"')


def test_a_paced_window_is_read_once_and_not_again_for_every_piece(tmp_path: Path) -> None:
    memory = mmap.mmap(-1, 8)

    def sabotage() -> None:
        real = os.preadv

        def preadv(*arguments: Any) -> int:
            memory[0] += 1
            return real(*arguments)

        os.preadv = preadv

    limits = replace(SETTINGS.limits, rate_per_client=RATE)
    server = start(tmp_path, replace(SETTINGS, limits=limits), sabotage=sabotage)
    content = put(server, RATE)
    assert fetch(server.address, "f", {"blksize": 1024, "windowsize": 60}) == content
    assert server.stop() == 0
    assert memory[0] <= 2 * len(content) // (60 << 10), "a window at a time"
