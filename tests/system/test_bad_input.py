"""Garbage, silence, floods and full disks: each costs its sender, and nobody else."""

from __future__ import annotations

import contextlib
import ftplib
import io
import os
import random
import resource
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import ROOT, until
from tests.system.running import Appliance, appliance, tftp_read


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    with appliance(tmp_path_factory.mktemp("bad")) as made:
        yield made


@pytest.fixture(autouse=True)
def _same_processes_before_and_after(running: Appliance) -> Iterator[None]:
    before = {s: running.pids(s) for s in ("tftp", "ftp", "custody", "status")}
    yield
    assert tftp_read(running.address("tftp"), b"hello.txt") == b"hello, network\n"
    client = running.ftp()
    assert "hello.txt" in client.nlst()
    client.quit()
    assert {s: running.pids(s) for s in before} == before
    crashes = [w["crashes"] for s in running.status()["services"].values() for w in s["workers"]]
    assert crashes == [0] * len(crashes)


@pytest.mark.parametrize("index", [0, 1])
def test_empty_tiny_random_and_huge_datagrams_harm_nothing(running: Appliance, index: int) -> None:
    address = running.address("tftp", index)
    noise = random.Random(1)
    with socket.socket(socket.AF_INET6 if index else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for datagram in [b"", b"\0", b"\0\1", b"\0\1a", b"\0\1\0octet\0", b"\xff" * 65000, b"\0\1" + b"a" * 65000]:
            sock.sendto(datagram, address)
        for _ in range(3000):
            sock.sendto(noise.randbytes(noise.randrange(100)), address)
            sock.sendto(b"\0" + bytes([noise.randrange(7)]) + noise.randbytes(noise.randrange(60)), address)


def test_connections_that_say_nothing_do_not_stop_others(running: Appliance) -> None:
    silent = [socket.create_connection(running.address("ftp"), timeout=10) for _ in range(5)]
    client = running.ftp()
    assert client.voidcmd("NOOP").startswith("200")
    client.quit()
    for sock in silent:
        sock.close()


def test_a_thousand_connects_at_once_are_answered_or_refused_with_a_reason(running: Appliance) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))
    address = running.address("ftp")
    socks = []
    try:
        for i in range(1000):
            sock = socket.socket()
            sock.bind((f"127.1.{i // 250}.{i % 250 + 1}", 0))  # a thousand clients, not one
            sock.settimeout(30)
            sock.connect(address)
            socks.append(sock)
        greetings = [sock.recv(200)[:3] for sock in socks]
        assert set(greetings) <= {b"220", b"421"}
        assert greetings.count(b"220") >= 800
    finally:
        for sock in socks:
            sock.close()


def test_one_address_cannot_take_every_session(running: Appliance) -> None:
    address = running.address("ftp")
    socks = [socket.create_connection(address, timeout=20) for _ in range(64)]
    greetings = [sock.recv(200)[:3] for sock in socks]
    assert b"421" in greetings
    other = socket.socket()
    other.bind(("127.2.0.1", 0))
    other.settimeout(20)
    other.connect(address)
    assert other.recv(200).startswith(b"220")
    for sock in [*socks, other]:
        sock.close()


def test_random_commands_end_in_answers(running: Appliance) -> None:
    noise = random.Random(2)
    for _ in range(30):
        with socket.create_connection(running.address("ftp"), timeout=10) as sock:
            sock.recv(200)
            sock.sendall(noise.randbytes(noise.randrange(1, 3000)).replace(b"\n", b" ") + b"\r\n")
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(4096):
                pass


def test_the_status_socket_ignores_what_it_is_told_and_survives_many_askers(running: Appliance) -> None:
    place = str(running.home / "run" / "status.sock")
    askers = []
    for _ in range(300):
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(10)
        sock.connect(place)
        try:
            sock.sendall(b"\xff" * 1000)
        except OSError:
            pass  # the oldest are dropped
        askers.append(sock)
    for sock in askers:
        sock.close()
    assert until(running.ready, 10)


def test_uploads_to_a_full_disk_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    """The drop box on a file system of its own, 4 MiB large."""
    if not ROOT:
        pytest.skip("needs root to mount")
    made = Appliance(tmp_path)
    box = made.tree / "incoming"
    box.mkdir()
    image = tmp_path / "image"
    subprocess.run(["mke2fs", "-q", "-t", "ext4", str(image), "4M"], check=True, capture_output=True)
    mounted = subprocess.run(["mount", "-o", "loop", str(image), str(box)], capture_output=True)
    if mounted.returncode:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(box)], capture_output=True)
    assert mounted.returncode == 0, mounted.stderr
    try:
        made.start()
        client = made.ftp()
        client.voidcmd("TYPE I")
        data = client.transfercmd("STOR incoming/large.bin")
        with contextlib.suppress(ConnectionError):  # the server stops reading: the client's kernel may tell first
            data.sendall(bytes(8 << 20))
        data.close()
        with pytest.raises(ftplib.Error, match=r"^(452|552|426|450)"):
            client.voidresp()
        client.close()
        until(lambda: [n for n in os.listdir(box) if n != "lost+found"] == [], 10, "the partial file is removed")
        client = made.ftp()
        assert client.storbinary("STOR incoming/small.bin", io.BytesIO(b"fits")).startswith("226")
        client.quit()
    finally:
        made.stop()
        subprocess.run(["umount", "-l", str(box)], check=True)


def test_a_full_disk_in_state_and_run_dir_does_not_stop_the_start(tmp_path: Path) -> None:
    if not ROOT:
        pytest.skip("needs root to mount")
    full = tmp_path / "full"
    full.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(full)], check=True)
    made = Appliance(tmp_path)
    made.write(made.config.read_text().replace(f"{tmp_path}/state", f"{full}/state"))
    try:
        (full / "state").mkdir()
        with (full / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(4096)):
                pass
        assert os.statvfs(full).f_bavail == 0
        made.start()
        assert tftp_read(made.address("tftp"), b"hello.txt") == b"hello, network\n"
    finally:
        made.stop()
        subprocess.run(["umount", "-l", str(full)], check=True)
