"""A whole appliance serves what is published: at the start, after `release`, in workers born later, after a reload."""

from __future__ import annotations

import ftplib
import os
import shutil
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.published import trees
from tests.support import until
from tests.system.running import DEFAULTS, Appliance
from tests.tftp.client import Fetch, RefusedError, fetch, udp

_ONE_ROOT = "root: {home}/tree\n  workers: {workers}\n  passive"
TEXT = DEFAULTS.replace(_ONE_ROOT, _ONE_ROOT.replace("tree", "ftp")) + "boot: {{enabled: {boot}}}\n"


class Published(Appliance):
    """An appliance with a tree of its own for each service."""

    clients = 0

    def put(self, number: int, overlay: int) -> None:
        """Make a release and commit it."""
        for root in self.roots:
            files = {name: b"%b %d" % (name.encode(), number) for name in ("kernel", "initrd", "pxelinux.cfg/default")}
            trees.release(root, number, files)
            trees.overlay(root, overlay, {"machine": b"machine %d" % overlay})
        trees.commit(self.home / "state", trees.name(number), overlay)

    @property
    def roots(self) -> list[Path]:
        return [self.tree, self.home / "ftp"]

    def act(self, word: bytes = b"release") -> list[str]:
        """What the supervisor answers to a word."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
            sock.settimeout(10)
            folder = os.open(self.home / "run", os.O_PATH)
            try:
                sock.connect(f"/proc/self/fd/{folder}/act.sock")
            finally:
                os.close(folder)
            sock.send(word)
            return [line.decode() for line in iter(lambda: sock.recv(65536), b"")]

    def both(self, name: str, host: str = "") -> list[bytes]:
        """A file as TFTP and FTP give it to a client at `host`, or to one that was never there before."""
        self.clients += 1
        host = host or f"127.1.{self.clients >> 8}.{self.clients & 255}"
        pieces: list[bytes] = []
        with udp(host) as sock, ftplib.FTP(source_address=(host, 0), timeout=60) as client:
            client.connect(*self.address("ftp"))
            client.login()
            client.retrbinary(f"RETR {name}", pieces.append)
            return [Fetch(self.address("tftp"), name, sock=sock).run(), b"".join(pieces)]

    def releases(self) -> list[tuple[str, int]]:
        services = self.status()["services"]
        return [(services[name]["release"], services[name]["overlay"]) for name in ("tftp", "ftp")]


@pytest.fixture
def appliance(tmp_path: Path) -> Iterator[Published]:
    made = Published(tmp_path, incoming="false", boot="true")
    (tmp_path / "ftp").mkdir()
    made.write(TEXT.format(**made.values))
    yield made
    made.stop()


def test_what_was_published_before_is_served_from_the_first_request(appliance: Published) -> None:
    appliance.put(1, 4)
    appliance.start()
    assert appliance.both("kernel") == [b"kernel 1"] * 2
    assert appliance.both("machine") == [b"machine 4"] * 2
    assert appliance.releases() == [(trees.name(1), 4)] * 2
    assert appliance.status()["services"]["status"]["release"] is None


def test_release_puts_the_next_one_in_force_in_every_worker_and_those_born_later(appliance: Published) -> None:
    appliance.start()
    with pytest.raises(RefusedError, match="1 File not found"):
        fetch(appliance.address("tftp"), "kernel")
    assert appliance.releases() == [(None, None)] * 2
    appliance.put(1, 1)
    assert appliance.act() == [f"in force: {trees.name(1)}, overlay 1", "ok"]
    until(lambda: all(appliance.both("kernel") == [b"kernel 1"] * 2 for _ in range(8)), 10, "release 1 everywhere")
    appliance.put(2, 2)
    appliance.act()
    for service in ("tftp", "ftp"):
        for pid in appliance.pids(service):
            os.kill(pid, signal.SIGKILL)
    until(lambda: len(appliance.workers("tftp")) == len(appliance.workers("ftp")) == 2, 30, "new workers")
    assert [appliance.both("machine") for _ in range(8)] == [[b"machine 2"] * 2] * 8


def test_a_wrong_release_changes_nothing_and_is_told(appliance: Published) -> None:
    appliance.put(1, 1)
    appliance.start()
    appliance.put(2, 2)
    shutil.rmtree(appliance.roots[1] / ".releases" / trees.name(2))
    said = appliance.act()
    assert (said[-1], trees.name(2) in said[0], f"in force: {trees.name(1)}" in said[0]) == ("failed", True, True)
    assert appliance.both("kernel") == [b"kernel 1"] * 2
    (problem,) = [one for one in appliance.status()["problems"] if trees.name(2) in one["what"]]
    assert (problem["severity"], "appliance boot" in problem["remedy"]) == ("error", True)
    appliance.put(2, 2)
    assert appliance.act()[-1] == "ok"
    until(lambda: appliance.both("kernel") == [b"kernel 2"] * 2, 10, "release 2")
    assert [one for one in appliance.status()["problems"] if "release" in one["what"]] == []


def test_a_reload_switches_it_on_and_off(appliance: Published) -> None:
    appliance.put(1, 1)
    appliance.write(TEXT.format(**{**appliance.values, "boot": "false"}))
    appliance.start()
    assert appliance.releases() == [(None, None)] * 2
    with pytest.raises(RefusedError, match="1 File not found"):
        fetch(appliance.address("tftp"), "kernel")
    appliance.write(TEXT.format(**appliance.values))
    assert appliance.verb("reload").returncode == 0
    assert appliance.both("kernel") == [b"kernel 1"] * 2
    appliance.write(TEXT.format(**{**appliance.values, "boot": "false"}))
    assert appliance.verb("reload").returncode == 0
    with pytest.raises(RefusedError, match="1 File not found"):
        fetch(appliance.address("tftp"), f".releases/{trees.name(1)}/kernel")


@pytest.mark.parametrize("first", ["tftp", "ftp"])
def test_who_began_with_a_release_goes_on_with_it_in_both_services_whoever_dies(
    appliance: Published, first: str
) -> None:
    appliance.put(1, 1)
    appliance.start()
    began = appliance.both("kernel", "127.2.0.1")
    assert began == [b"kernel 1"] * 2
    appliance.put(2, 2)
    appliance.act()
    for service in (first, "ftp" if first == "tftp" else "tftp"):
        assert [appliance.both("kernel", "127.2.0.1") for _ in range(4)] == [[b"kernel 1"] * 2] * 4
        for pid in appliance.pids(service):
            os.kill(pid, signal.SIGKILL)
        until(lambda service=service: len(appliance.workers(service)) == 2, 30, "new workers")  # type: ignore[misc]
    assert [appliance.both("kernel", "127.2.0.1") for _ in range(4)] == [[b"kernel 1"] * 2] * 4
    assert [appliance.both("kernel") for _ in range(4)] == [[b"kernel 2"] * 2] * 4
    assert appliance.verb("reload").returncode == 0
    assert appliance.both("kernel", "127.2.0.1") == [b"kernel 1"] * 2


class Machine(threading.Thread):
    """Boots again and again: a configuration, a kernel by TFTP, an initrd by FTP, and the other way round."""

    def __init__(self, appliance: Published, number: int, over: threading.Event) -> None:
        super().__init__()
        self.host, self.over = f"127.4.0.{number}", over
        self.tftp, self.ftp = appliance.address("tftp"), appliance.address("ftp")
        self.boots: list[tuple[bytes, bytes]] = []
        self.cut = 0

    def run(self) -> None:
        while not self.over.is_set():
            ways = [self.by_tftp, self.by_ftp][:: 1 if len(self.boots) % 2 else -1]
            try:
                self.by_tftp("pxelinux.cfg/default")
                self.boots.append((ways[0]("kernel"), ways[1]("initrd")))
            except (OSError, EOFError, AssertionError, ftplib.Error):
                self.cut += 1  # its worker was killed: it begins anew

    def by_tftp(self, name: str) -> bytes:
        with udp(self.host) as sock:
            return Fetch(self.tftp, name, sock=sock).run()

    def by_ftp(self, name: str) -> bytes:
        pieces: list[bytes] = []
        with ftplib.FTP(source_address=(self.host, 0), timeout=60) as client:
            client.connect(*self.ftp)
            client.login()
            client.retrbinary(f"RETR {name}", pieces.append)
        return b"".join(pieces)


def test_a_kernel_and_an_initrd_are_of_one_release_while_others_are_published_and_workers_die(
    appliance: Published,
) -> None:
    appliance.put(1, 1)
    appliance.start()
    over = threading.Event()
    machines = [Machine(appliance, number, over) for number in range(1, 5)]
    for machine in machines:
        machine.start()
    try:
        for number in range(2, 62):
            appliance.put(number, number)
            assert appliance.act()[-1] == "ok"
            if number % 15 == 0:
                os.kill(min(appliance.pids("tftp" if number % 2 else "ftp")), signal.SIGKILL)
    finally:
        over.set()
        for machine in machines:
            machine.join()
    boots = [boot for machine in machines for boot in machine.boots]
    mixed = [boot for boot in boots if boot[0].split()[1] != boot[1].split()[1]]
    assert mixed == []
    assert len({kernel for kernel, _initrd in boots}) > 10 and len(boots) > 50
