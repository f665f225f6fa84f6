"""Fuzz a running worker: mutated datagrams to its listener and to the ports of its transfers, from many clients.

After each batch a good client fetches a file, so that all that was sent before it was judged: no exit, crash or stall.
"""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from appliance.settings.tftp import TftpSettings
from tests.fuzz.pure import FoundError
from tests.fuzz.seeds import INSIDE, REQUESTS, SEEDS
from tests.tftp import server as servers
from tests.tftp.client import ack, fetch
from tests.tftp.server import Server
from tests.tftp.test_packet import mutated

BATCH = 64  # so many of the largest fit the default buffer of a listener
_CLIENTS = 24
_GOOD = b"good content"
_MIB = 1 << 20
Sent = tuple[bytes, bool]  # a datagram, and whether it went to a transfer's port


@dataclass
class Client:
    """A hostile client: who it talks to, and the block that it heard last."""

    sock: socket.socket
    peer: tuple = ()
    block: int = 0

    def listen(self) -> None:
        """Hear what was answered meanwhile."""
        for _ in range(4):
            try:
                packet, self.peer = self.sock.recvfrom(70000)
            except OSError:
                return
            if packet[:2] == b"\0\3":
                self.block = int.from_bytes(packet[2:4], "big")


@dataclass
class Bench:
    """One server and its clients. `warm_rss`: bytes once everything had its size."""

    folder: Path
    settings: TftpSettings
    source: random.Random
    sabotage: Callable[[], object] = servers.nothing
    clients: list[Client] = field(default_factory=list)
    sent: int = 0
    warm_rss: int = 0

    def __post_init__(self) -> None:
        self.server = self._start("server")
        self.clients = [self._client() for _ in range(_CLIENTS)]

    def _start(self, name: str) -> Server:
        place = self.folder / name
        root = place / "root"
        (root / "dir").mkdir(parents=True)
        for file, content in (("good", _GOOD), ("boot", b"b" * 3000), ("big", b"line\n" * 60_000), ("empty", b"")):
            (root / file).write_bytes(content)
        os.mkfifo(root / "fifo", 0o644)
        return servers.start(place, self.settings, sabotage=self.sabotage)

    def _client(self) -> Client:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        sock.bind((f"127.{self.source.randrange(1, 200)}.{self.source.randrange(256)}.9", 0))
        return Client(sock)

    def batch(self, size: int = BATCH) -> None:
        """Send a batch and look how the server takes it. Raises FoundError."""
        sent = [self._one() for _ in range(size)]
        self.sent += size
        if not healthy(self.server):
            what = "crash" if self.server.alive() else f"exit {self.server.ended}"
            raise FoundError(f"{what} or stall of the worker:\n{self._end_of_log()}", self._regression(sent))

    def _one(self) -> Sent:
        source, client = self.source, self.source.choice(self.clients)
        client.listen()
        inside = bool(client.peer) and source.random() < 0.5
        if source.random() < 0.02:
            client.sock.close()
            self.clients[self.clients.index(client)] = client = self._client()
            inside = False
        if inside:
            lively = source.random() < 0.4
            datagram = ack(client.block) if lively else mutated(source, INSIDE)
        else:
            lively = source.random() < 0.2
            datagram = source.choice(REQUESTS) if lively else mutated(source, SEEDS)
        try:
            client.sock.sendto(datagram, client.peer if inside else self.server.address)
        except OSError:
            client.peer = ()  # nobody is there any more
        return datagram, inside

    def _end_of_log(self) -> str:
        return self.server.log.read_text(errors="replace")[-3000:]

    def _regression(self, sent: list[Sent]) -> str:
        """The one datagram that does it alone to a fresh server, else the whole batch."""
        datagrams = [datagram for datagram, _inside in sent]
        for number, datagram in enumerate(datagrams):
            if self._does_it(number, datagram):
                datagrams = [datagram]
                break
        lines = "".join(f"        {datagram!r},\n" for datagram in datagrams)
        return (
            "def test_these_datagrams_neither_end_nor_stop_the_server(server: Server) -> None:\n"
            f"    put(server, 'boot')\n    datagrams = [\n{lines}    ]\n"
            "    with udp() as sock:\n        for datagram in datagrams:\n"
            "            sock.sendto(datagram, server.address)\n"
            "    assert fetch(server.address, 'boot') == b'content'\n    assert server.counters['crashes'] == 0\n"
        )

    def _does_it(self, number: int, datagram: bytes) -> bool:
        server = self._start(f"again{number}")
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.sendto(datagram, server.address)
            return not healthy(server)
        finally:
            stop(server)

    def rss(self) -> int:
        """Bytes of memory that the worker holds now."""
        with open(f"/proc/{self.server.pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def lost(self) -> int:
        """Datagrams that the kernel dropped at the listener: they were never judged."""
        port = f":{self.server.address[1]:04X}"
        with open("/proc/net/udp", encoding="ascii") as file:
            rows = [line.split() for line in file.readlines()[1:]]
        return sum(int(row[12]) for row in rows if row[1].endswith(port))

    def close(self) -> None:
        """End everything; the server must end as it should, unless it is gone already."""
        for client in self.clients:
            client.sock.close()
        stop(self.server)


def healthy(server: Server) -> bool:
    """Whether the worker lives, serves, and caught no bug."""
    try:
        good = fetch(server.address, "good") == _GOOD
    except (AssertionError, OSError):
        good = False
    return good and server.alive() and server.counters["crashes"] == 0


def stop(server: Server) -> None:
    """End a server that may be gone."""
    if server.alive():
        server.stop()
    else:
        server.channel.close()
        server.reader.close()


def run(bench: Bench, count: int, progress: Callable[[int], None], growth_max: int = 32 * _MIB) -> tuple[int, int]:
    """Send `count` datagrams; returns the memory after a tenth and at the end, bytes. Raises FoundError."""
    warm_at = bench.sent + count // 10
    end = bench.sent + count
    while bench.sent < end:
        bench.batch(min(BATCH, end - bench.sent))
        if not bench.warm_rss and bench.sent >= warm_at:
            bench.warm_rss = bench.rss()
        progress(bench.sent)
    if bench.rss() - bench.warm_rss > growth_max:
        raise FoundError(f"memory grew from {bench.warm_rss} to {bench.rss()} bytes", "")
    return bench.warm_rss, bench.rss()
