"""Caps hold over all workers together, and what a dead worker had given out is free again."""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import until
from tests.system.running import Appliance, appliance
from tests.tftp.client import ack, rrq

CAP = 8  # ftp.limits.sessions_per_client


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Appliance]:
    with appliance(tmp_path) as made:
        yield made


def sessions(running: Appliance, tries: int) -> list[socket.socket]:
    """As many sessions of one client as are admitted."""
    admitted = []
    for _ in range(tries):
        sock = socket.create_connection(running.address("ftp"), 20)
        if sock.recv(200).startswith(b"220"):
            admitted.append(sock)
        else:
            sock.close()
    return admitted


def by_worker(running: Appliance, service: str) -> dict[int, int]:
    return {worker["pid"]: worker["active"] for worker in running.workers(service)}


def test_sessions_of_one_client_are_capped_over_all_workers(running: Appliance) -> None:
    held = sessions(running, 40)  # so many that the kernel gives each worker more than half of the cap
    assert len(held) == CAP
    until(lambda: sum(by_worker(running, "ftp").values()) == CAP, 10, "every worker counts")
    held.pop().close()
    held += until(lambda: sessions(running, 1), 10, "the seat is free")
    assert sessions(running, 10) == []
    for sock in held:
        sock.close()


def test_the_sessions_of_a_killed_worker_are_free_again_and_its_successor_counts_with_the_others(
    running: Appliance,
) -> None:
    held = sessions(running, 40)
    until(lambda: sum(by_worker(running, "ftp").values()) == CAP, 10, "every worker counts")
    counts = by_worker(running, "ftp")
    victim = max(counts, key=lambda pid: counts[pid])
    os.kill(victim, signal.SIGKILL)
    until(lambda: len(running.pids("ftp") - {victim}) == 2, 10, "it is replaced")

    def full_again() -> bool:
        held.extend(sessions(running, 1))
        return sum(by_worker(running, "ftp").values()) == CAP

    until(full_again, 20, "the seats of the dead worker are given again")
    assert sessions(running, 20) == []
    assert sum(by_worker(running, "ftp").values()) == CAP
    for sock in held:
        sock.close()


def test_sessions_of_a_generation_that_drains_count_beside_the_new_one(running: Appliance) -> None:
    before = running.pids("ftp")
    client = running.ftp()
    client.voidcmd("TYPE I")
    data = client.transfercmd("RETR big.bin")  # a session that transfers is left to finish
    running.write(running.config.read_text().replace("{sessions: 900}", "{sessions: 900, sessions_per_client: 3}"))
    assert running.verb("reload").returncode == 0
    until(lambda: len(running.pids("ftp") - before) == 2, 20, "the new generation")
    held = until(lambda: sessions(running, 5), 10, "sessions in the new generation")
    assert len(held) == 2
    data.close()
    client.close()
    for sock in held:
        sock.close()


def test_transfers_are_capped_over_all_workers(tmp_path: Path) -> None:
    made = Appliance(tmp_path)
    made.write(made.config.read_text().replace("\nftp:\n", "\n  limits: {per_client: 4}\nftp:\n"))
    socks = [socket.socket(type=socket.SOCK_DGRAM) for _ in range(20)]
    try:
        made.start()
        address, begun = made.address("tftp"), 0
        for sock in socks:
            sock.settimeout(60 if begun < 4 else 0.2)  # over the cap nothing is answered
            sock.sendto(rrq("big.bin"), address)
            try:
                _data, peer = sock.recvfrom(600)
            except TimeoutError:
                continue
            sock.settimeout(60)
            for block in (1, 2):  # block 2 leaves just before the transfer is counted, block 3 after that
                sock.sendto(ack(block), peer)
                while sock.recv(600)[:4] != b"\0\3\0" + bytes([block + 1]):  # the one before, again
                    pass
            begun += 1
        assert begun == 4
        assert sum(by_worker(made, "tftp").values()) == 4
        assert 'cause="too many transfers of this client"' in made.said("too many transfers of this client")
    finally:
        for sock in socks:
            sock.close()
        made.stop()


def test_a_rate_of_all_is_one_rate_over_the_workers(tmp_path: Path) -> None:
    rate, seconds = 512 << 10, 4.0
    made = Appliance(tmp_path)
    made.write(made.config.read_text().replace("\nftp:\n", "\n  limits: {rate_total: 512KiB}\nftp:\n"))
    socks = [socket.socket(type=socket.SOCK_DGRAM) for _ in range(12)]
    blocks = dict.fromkeys(socks, 0)
    try:
        made.start()
        for sock in socks:
            sock.sendto(rrq("big.bin", {"blksize": 1024, "windowsize": 4}), made.address("tftp"))
            sock.settimeout(60)
            sock.connect(sock.recvfrom(2000)[1])
            sock.send(ack(0))
        until_then = time.monotonic() + seconds
        while (left := until_then - time.monotonic()) > 0:
            for sock in select.select(socks, [], [], left)[0]:
                if int.from_bytes(sock.recv(2000)[2:4], "big") == blocks[sock] + 1:
                    blocks[sock] += 1
                    if blocks[sock] % 4 == 0:
                        sock.send(ack(blocks[sock]))
        assert min(by_worker(made, "tftp").values()) > 0, "one worker had all clients"
        # above the rate: what each worker saved, and the moment until each knows of the other
        assert 0.5 * seconds <= sum(blocks.values()) * 1024 / rate <= seconds + 1.3
    finally:
        for sock in socks:
            sock.close()
        made.stop()
