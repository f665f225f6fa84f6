"""singleport: transfers that leave from the listener's own port, on real sockets."""

from __future__ import annotations

import os
import select
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from appliance import wire
from appliance.settings.tftp import TftpNetwork
from appliance.tftp import sockets
from appliance.tftp.singleport import Gate, Shared
from tests.tftp.client import Fetch, RefusedError, ack, fetch, options_of, rrq, udp
from tests.tftp.server import SETTINGS, Server, listener, until
from tests.tftp.test_packet import KILLERS
from tests.tftp.test_real_clients import commands
from tests.tftp.test_worker import held

Start = Callable[..., Server]
ALLOWED = replace(SETTINGS, single_port=True, allow=("127.0.0.0/8", "::1"))
OPTIONS: dict[str, object] = {"blksize": 1400, "windowsize": 16, "tsize": 0}


@pytest.fixture
def server(start: Start) -> Server:
    return start(ALLOWED)


def put(server: Server, size: int, name: str = "f") -> bytes:
    content = os.urandom(size)
    (server.root / name).write_bytes(content)
    return content


def begin(server: Server, sock: socket.socket, name: str = "f") -> None:
    """A transfer under way: block 1 is acknowledged, block 2 is here."""
    sock.sendto(rrq(name), server.address)
    assert sock.recvfrom(600)[1] == server.address
    sock.sendto(ack(1), server.address)
    assert sock.recv(600)[:4] == b"\0\3\0\2"


def rest(server: Server, sock: socket.socket, block: int) -> bytes:
    """The blocks after `block`, lock-step."""
    content = b""
    while True:
        packet, peer = sock.recvfrom(600)
        assert peer == server.address
        if packet[:4] != b"\0\3" + (block + 1).to_bytes(2, "big"):
            sock.sendto(ack(block), server.address)  # our last one was lost
            continue
        block, content = block + 1, content + packet[4:]
        sock.sendto(ack(block), server.address)
        if len(packet) < 516:
            return content


@pytest.mark.parametrize("options", [{}, {"blksize": 1400}, OPTIONS, {"blksize": 65464, "windowsize": 8}])
@pytest.mark.parametrize("family", ["address", "address6"])
def test_every_packet_leaves_from_the_port_that_was_asked(server: Server, family: str, options: dict) -> None:
    content = put(server, 300_000)
    address = getattr(server, family)
    download = Fetch(address, "f", options)
    assert download.run() == content
    assert download.tid[:2] == address
    assert download.blocks > len(content) // int(download.agreed.get("blksize", 512))


@pytest.mark.parametrize("family", ["address", "address6"])
@pytest.mark.parametrize("client", commands("", 0, Path()))
def test_real_clients_get_the_exact_bytes_through_one_port(
    start: Start, tmp_path: Path, client: str, family: str
) -> None:
    if not shutil.which(client.split()[0]):
        pytest.skip(f"{client} is not installed")
    server = start(replace(ALLOWED, timeout=1.0))
    host, port = getattr(server, family)
    for size in (1, 512, 700_000):
        content = put(server, size)
        out = tmp_path / f"got{size}"
        command = commands(host, port, out)[client]
        done = subprocess.run(command, capture_output=True, timeout=30, check=False, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, done.stderr
        assert out.read_bytes() == content
    assert server.counters["crashes"] == server.counters["failed"] == 0


def test_a_lossy_path_costs_time_and_nothing_else(server: Server) -> None:
    content = put(server, 100_000)
    for options in ({}, OPTIONS):
        assert fetch(server.address, "f", options, lose=lambda block, times: block % 97 == 3 and times == 1) == content


def test_replies_leave_from_the_address_that_was_asked(start: Start) -> None:
    server = start(ALLOWED, host="0.0.0.0")
    content = put(server, 100_000)
    for host in ("127.0.0.1", "127.0.0.2", "127.9.9.9"):
        assert Fetch((host, server.address[1]), "f", OPTIONS).run() == content


def test_an_ipv4_client_of_a_dual_stack_listener_is_served(server: Server) -> None:
    content = put(server, 50_000)
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as both:
        both.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        both.bind(("::", 0))
        server.tell(wire.Adopt(2), both.fileno())
        for host in ("127.0.0.1", "::1"):
            assert fetch((host, both.getsockname()[1]), "f", OPTIONS) == content


# -- who may have what


def test_without_a_list_of_clients_windows_are_one_block_and_uploads_are_refused(start: Start) -> None:
    networks = (TftpNetwork("127.0.0.0/8", windowsize_max=32),)
    server = start(replace(SETTINGS, single_port=True, networks=networks))
    content = put(server, 20_000)
    for address in (server.address, server.address6):
        download = Fetch(address, "f", OPTIONS)
        assert download.run() == content
        assert download.agreed == {"blksize": "1400", "windowsize": "1", "tsize": "20000"}
    with udp() as sock:
        sock.sendto(rrq("up", opcode=2), server.address)
        assert sock.recv(600) == b"\0\5\0\2uploads are not accepted here\0"
    assert "upload over single_port without allow" in server.first("refused")


def test_caps_count_through_one_port_too(start: Start) -> None:
    limits = replace(SETTINGS.limits, per_client=2)
    server = start(replace(ALLOWED, limits=limits))
    put(server, 5000)
    with udp() as first, udp() as second, udp() as third:
        begin(server, first)
        begin(server, second)
        third.sendto(rrq("f"), server.address)
        until(lambda: server.lines("dropped"), "the cap")
        assert "too many transfers of this client" in server.first("dropped")
        third.setblocking(False)
        with pytest.raises(BlockingIOError):
            third.recv(600)


def test_the_oldest_half_open_request_gives_way(start: Start) -> None:
    limits = replace(SETTINGS.limits, transfers=3)
    server = start(replace(ALLOWED, timeout=5.0, give_up_after=25.0, limits=limits))
    content = put(server, 3000)
    clients = [udp() for _ in range(5)]
    for sock in clients:
        sock.sendto(rrq("f"), server.address)
        assert sock.recv(600)[:4] == b"\0\3\0\1"
    until(lambda: server.counters["active"] == 3, "the eviction")
    clients[0].sendto(ack(1), server.address)
    clients[4].sendto(ack(1), server.address)
    assert rest(server, clients[4], 1) == content[512:]
    clients[0].setblocking(False)
    with pytest.raises(BlockingIOError):
        clients[0].recv(600)
    for sock in clients:
        sock.close()


# -- which transfer a datagram belongs to


def test_several_files_from_one_port_one_after_the_other(server: Server) -> None:  # lpxelinux
    contents = {f"f{number}": put(server, 3000 + number, f"f{number}") for number in range(8)}
    with udp() as sock:
        for name, content in contents.items():
            assert Fetch(server.address, name, OPTIONS, sock=sock).run() == content


def test_the_next_request_from_a_port_replaces_a_transfer_that_only_lacks_its_last_ack(server: Server) -> None:
    put(server, 100, "a")
    content = put(server, 700, "b")
    with udp() as sock:
        sock.sendto(rrq("a"), server.address)
        sock.recv(600)
        assert Fetch(server.address, "b", sock=sock).run() == content


def test_a_request_between_the_blocks_waits_until_the_running_transfer_is_silent(server: Server) -> None:
    put(server, 2000)
    other = put(server, 100, "other")
    with udp() as sock:
        begin(server, sock)
        sock.sendto(rrq("other"), server.address)  # forged, or a client that changed its mind
        sock.sendto(ack(2), server.address)
        assert sock.recv(600)[:4] == b"\0\3\0\3"
        sock.settimeout(0.05)
        packets = [b""]
        for _ in range(100):
            sock.sendto(rrq("other"), server.address)
            try:
                packets.append(sock.recv(600))
            except TimeoutError:
                continue
            if packets[-1] == b"\0\3\0\1" + other:
                break
        assert packets[-1][4:] == other
        until(lambda: any("replaced" in line for line in server.lines("transfer")), "the end of the first")


def test_strangers_and_garbage_disturb_nothing_and_get_no_answer(server: Server) -> None:
    content = put(server, 20_000)
    with udp() as sock, udp() as stranger, udp("127.0.0.9") as foreigner:

        def disturb(block: int, tries: int) -> bool:
            for other in (stranger, foreigner):
                for packet in (ack(block), ack(block + 1), b"\0\5\0\0end\0", b"\0\3\0\1x", *KILLERS[:5]):
                    other.sendto(packet, server.address)
            for packet in KILLERS:
                if packet[:2] not in (b"\0\5", b"\0\1", b"\0\2"):
                    sock.sendto(packet, server.address)
            return False

        assert Fetch(server.address, "f", sock=sock, lose=disturb).run() == content
        for other in (stranger, foreigner):
            other.setblocking(False)
            with pytest.raises(BlockingIOError):
                other.recv(600)
    assert server.counters["crashes"] == 0
    assert server.counters["dropped"] > 100


def test_the_same_client_at_another_of_our_addresses_is_a_stranger(start: Start) -> None:
    server = start(ALLOWED, host="0.0.0.0")
    content = put(server, 2000)
    server.address = ("127.0.0.1", server.address[1])
    with udp("127.0.0.1") as sock:
        begin(server, sock)
        sock.sendto(b"\0\5\0\0end\0", ("127.0.0.2", server.address[1]))
        sock.sendto(ack(2), server.address)
        assert rest(server, sock, 2) == content[1024:]


def test_an_error_of_the_client_ends_its_transfer(server: Server) -> None:
    put(server, 5000)
    with udp() as sock:
        begin(server, sock)
        sock.sendto(b"\0\5\0\0enough\0", server.address)
        until(lambda: server.lines("transfer"), "the end")
    assert server.first("transfer").endswith('outcome="aborted by the client"')


def test_a_client_that_never_answers_gets_three_packets_and_no_descriptor_is_lost(start: Start) -> None:
    server = start(replace(ALLOWED, timeout=0.2))
    put(server, 5000)
    before = len(os.listdir(f"/proc/{server.pid}/fd"))
    for number in range(20):
        with udp() as sock:
            sock.sendto(rrq("f" if number else "missing"), server.address)
            sock.recv(600)
    with udp() as sock:
        sock.sendto(rrq("f"), server.address)
        for _ in range(3):
            assert sock.recv(600)[:4] == b"\0\3\0\1"
        until(lambda: server.counters["active"] == 0, "the end")
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.recv(600)
    assert len(os.listdir(f"/proc/{server.pid}/fd")) <= before + 1  # the cache may hold the file


# -- behind a translator of addresses


class Translator:
    """A NAT for one client: replies come through only from the address and port that were asked."""

    def __init__(self, server: tuple[str, int]) -> None:
        self.inside, self.outside = udp(), udp()
        self.outside.connect(server)
        self.address: tuple[str, int] = self.inside.getsockname()
        self._stop, self._stopped = socket.socketpair()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        client = None
        while True:
            ready, _, _ = select.select([self.inside, self.outside, self._stopped], [], [])
            if self._stopped in ready:
                return
            if self.inside in ready:
                packet, client = self.inside.recvfrom(70000)
                self.outside.send(packet)
            if self.outside in ready and client:
                self.inside.sendto(self.outside.recv(70000), client)

    def close(self) -> None:
        self._stop.send(b"x")
        self._thread.join()
        for sock in (self.inside, self.outside, self._stop, self._stopped):
            sock.close()


@pytest.fixture
def behind() -> Iterator[Callable[[tuple[str, int]], Translator]]:
    made: list[Translator] = []
    yield lambda server: made.append(Translator(server)) or made[-1]
    for translator in made:
        translator.close()


@pytest.mark.parametrize("client", commands("", 0, Path()))
def test_real_clients_behind_a_translator_of_addresses_are_served(
    start: Start, behind: Callable[[tuple[str, int]], Translator], tmp_path: Path, client: str
) -> None:
    if not shutil.which(client.split()[0]):
        pytest.skip(f"{client} is not installed")
    server = start(replace(ALLOWED, timeout=1.0))
    content, out = put(server, 150_000), tmp_path / "got"
    command = commands(*behind(server.address).address, out)[client]
    done = subprocess.run(command, capture_output=True, timeout=30, check=False, stdin=subprocess.DEVNULL)
    assert (done.returncode, out.read_bytes()) == (0, content), done.stderr


def test_an_ordinary_server_is_not_heard_through_that_translator(
    start: Start, behind: Callable[[tuple[str, int]], Translator]
) -> None:
    server = start()
    put(server, 100)
    with udp() as sock:
        sock.sendto(rrq("f"), behind(server.address).address)
        until(lambda: server.lines("unanswered"), "the end")
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.recv(600)


# -- drain, and a listener that goes back to its owner


def test_a_drained_worker_finishes_its_transfers_and_takes_no_request(server: Server) -> None:
    content = put(server, 3000)
    with udp() as sock, udp() as late:
        begin(server, sock)
        before = len(held(server.pid))
        server.tell(wire.Drain(10_000))
        until(lambda: len(held(server.pid)) == before - 1, "the listener that nothing runs through to be closed")
        late.sendto(rrq("f"), server.address)
        sock.sendto(ack(2), server.address)
        assert rest(server, sock, 2) == content[1024:]
        until(lambda: not server.alive(), "the end")
        late.setblocking(False)
        with pytest.raises(BlockingIOError):
            late.recv(600)
    assert server.ended == 0


def test_old_and_new_worker_on_one_listener_each_get_what_is_theirs(start: Start, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    old = start(replace(ALLOWED, give_up_after=20.0))
    content = put(old, 200_000)
    with listener("127.0.0.1") as shared, udp() as running:
        address = shared.getsockname()
        old.tell(wire.Adopt(0), shared.fileno())
        until(lambda: f"socket:[{os.fstat(shared.fileno()).st_ino}]" in held(old.pid), "the listener to be taken")
        assert fetch(address, "f", OPTIONS) == content
        running.sendto(rrq("f"), address)
        assert running.recvfrom(600)[1] == address
        running.sendto(ack(1), address)
        new = start_in(tmp_path / "new", content)
        try:
            new.tell(wire.Adopt(0), shared.fileno())
            until(lambda: f"socket:[{os.fstat(shared.fileno()).st_ino}]" in held(new.pid), "the listener to be taken")
            assert fetch(new.address, "f", OPTIONS) == content  # it has begun to read what both read
            old.tell(wire.Drain(20_000))
            old.address = address
            for _ in range(5):
                assert fetch(address, "f", OPTIONS) == content
            assert rest(old, running, 1) == content[512:]
            until(lambda: not old.alive(), "the end of the old one")
            until(lambda: old.lines("transfer"), "the record of the old one")
            record = old.lines("transfer")[-1]
            assert int(record.partition("retransmits=")[2].split()[0]) <= 20, record  # each reader losing half: 200
            assert new.counters["transfers"] == 6
        finally:
            assert new.stop() == 0


def start_in(folder: Path, content: bytes) -> Server:
    from tests.tftp import server as servers

    (folder / "root").mkdir()
    (folder / "root" / "f").write_bytes(content)
    return servers.start(folder, ALLOWED)


# -- its parts


@pytest.fixture
def ours() -> Iterator[socket.socket]:
    with listener("127.0.0.1") as sock:
        sockets.tell_destination(sock)
        yield sock


def test_fragments_are_allowed_for_one_transfer_and_not_for_the_listener(ours: socket.socket) -> None:
    with udp() as client, Shared(ours, sockets.Local("127.0.0.1"), client.getsockname()) as line:
        sockets.allow_fragments(line)
        assert line.send(b"x" * 60_000) == 60_000
        assert len(client.recv(65536)) == 60_000
        assert ours.getsockopt(socket.IPPROTO_IP, 10) == 1


def test_segments_are_one_transfers_own(ours: socket.socket) -> None:
    with udp() as client, Shared(ours, sockets.Local("127.0.0.1"), client.getsockname()) as line:
        assert sockets.segment(line, 100) > 1
        line.send(b"a" * 250)
        assert [len(client.recv(600)) for _ in range(3)] == [100, 100, 50]
        sockets.segment_no_more(line)
        line.send(b"a" * 250)
        assert len(client.recv(600)) == 250
        assert ours.getsockopt(socket.IPPROTO_UDP, 103) == 0


def test_what_was_put_is_received_once(ours: socket.socket) -> None:
    with Shared(ours, sockets.Local("127.0.0.1"), ("127.0.0.1", 9)) as line:
        line.put(b"12345")
        assert line.recv(3) == b"123"
        with pytest.raises(BlockingIOError):
            line.recv(3)
        line.put(b"12345")
        buffer = bytearray(8)
        assert line.recv_into(memoryview(buffer)) == 5
        line.put(b"67890")
        assert line.recv_into(memoryview(buffer), 2) == 2
        assert buffer == b"67345\0\0\0"


def test_nothing_is_taken_from_the_listener_past_the_gate(ours: socket.socket) -> None:
    with udp() as client, Shared(ours, sockets.Local("127.0.0.1"), client.getsockname()) as line:
        client.sendto(b"of somebody else", ours.getsockname())
        for receive in (lambda: line.recv(100), lambda: line.recv_into(bytearray(100))):
            with pytest.raises(BlockingIOError):
                receive()
        assert ours.recv(100) == b"of somebody else"


def test_what_is_anothers_is_left_for_a_moment_and_not_for_ever(ours: socket.socket) -> None:
    gate = Gate(ours, {}, {}, 100.0)
    with udp() as client:
        now = 100.0
        for number in range(8):
            client.sendto(ack(number), ours.getsockname())
            assert gate.receive(now) is None
            assert gate.receive(now + 0.01) is None
            found = gate.receive(now + 0.03)
            assert found is not None and found.payload == ack(number)
            now += 1
        client.sendto(ack(8), ours.getsockname())  # nobody ever took one: there is no other reader
        assert gate.receive(now) is not None


def test_a_reader_that_takes_what_was_left_keeps_the_other_polite(ours: socket.socket) -> None:
    gate = Gate(ours, {}, {}, 100.0)
    with udp() as client:
        for number in range(30):
            client.sendto(ack(number), ours.getsockname())
            assert gate.receive(100.0 + 10 * number) is None
            ours.recv(600)
    with pytest.raises(BlockingIOError):
        gate.receive(400.0)


def test_options_are_answered_by_the_path(start: Start) -> None:
    server = start(replace(ALLOWED, windowsize_max=8))
    put(server, 10)
    with udp() as sock:
        sock.sendto(rrq("f", {"blksize": 65464, "windowsize": 64}), server.address)
        assert options_of(sock.recv(600)) == {"blksize": "65464", "windowsize": "8"}


def test_a_refusal_comes_from_the_listener_as_ever(server: Server) -> None:
    with pytest.raises(RefusedError, match="1 File not found"):
        fetch(server.address, "missing")
