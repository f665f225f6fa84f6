"""Seeded clients that say anything, hang up anywhere and abort: nothing crashes, nothing is left behind."""

from __future__ import annotations

import os
import random
import socket
from pathlib import Path

import pytest

from appliance.ftp.policy import FOREIGN, SYNONYMS, VERBS
from tests.ftp.serving import Server, store, until

WORDS = [*VERBS, *SYNONYMS, "XYZZY", "AUTH", ""]
ARGUMENTS = [
    "", "a.txt", "big", "pub", "incoming", "incoming/x", "..", "/", "-la", "*", "I",
    "A", "5", "x" * 300, "\x00", "\xe9",
    "|1|127.0.0.1|5000|", "127,0,0,1,19,136", "anonymous", "UTF8 ON", "MLST size;",
]  # fmt: skip


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def play(running: Server, chance: random.Random) -> None:
    sock = socket.create_connection((running.host, running.port), 5)
    data = None
    try:
        if chance.random() < 0.9:
            sock.sendall(b"USER ftp\r\nPASS x\r\n")
        for _ in range(chance.randrange(12)):
            if chance.random() < 0.05:
                sock.sendall(chance.randbytes(chance.randrange(200)))
            line = f"{chance.choice(WORDS)} {chance.choice(ARGUMENTS)}".rstrip().encode("latin-1")
            sock.sendall(line + chance.choice([b"\r\n", b"\r\n", b"\n"]))
            if chance.random() < 0.3:
                sock.settimeout(0.05)
                try:
                    text = sock.recv(4096)
                except TimeoutError:
                    text = b""
                if b"|||" in text:
                    port = int(text.rsplit(b"|||", 1)[1].split(b"|")[0])
                    data = socket.create_connection((running.host, port), 1)
        if chance.random() < 0.3:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    except OSError:
        pass
    finally:
        sock.close()
        if data is not None:
            data.close()


@pytest.mark.parametrize("seed", range(4))
def test_clients_that_say_anything_leave_nothing_behind(boxed: Server, seed: int) -> None:
    chance = random.Random(seed)
    with boxed.raw() as witness:
        assert boxed.custodian is not None
        store(boxed.ftp(), "incoming/first", b"")  # now everything that stays open is open
        boxed.clients.pop().close()
        until(lambda: boxed.worker.counters()["active"] == 1)
        before = descriptors(boxed.worker.pid), descriptors(boxed.custodian.pid)
        files = {path for path in boxed.root.rglob("*") if path.parent != boxed.box}
        for _ in range(250):
            play(boxed, chance)
        assert witness.ask("NOOP").startswith("200")
        until(lambda: boxed.worker.counters()["active"] == 1)
        until(lambda: not any(name.startswith(".up-") for name in os.listdir(boxed.box)))
        until(lambda: (descriptors(boxed.worker.pid), descriptors(boxed.custodian.pid)) == before)
        assert {path for path in boxed.root.rglob("*") if path.parent != boxed.box} == files


def test_no_word_of_the_fuzz_is_a_verb_of_http() -> None:
    assert not FOREIGN & set(WORDS)


def test_memory_and_descriptors_return_after_many_sessions(served: Server) -> None:
    def memory() -> int:
        return int(Path(f"/proc/{served.worker.pid}/statm").read_text().split()[1]) * 4096

    def sessions(count: int) -> None:
        for _ in range(count):
            with socket.create_connection((served.host, served.port), 5) as sock:
                sock.sendall(b"USER ftp\r\nPASS x\r\nEPSV\r\nNOOP\r\nQUIT\r\n")
                while sock.recv(4096):
                    pass
        until(lambda: served.worker.counters()["active"] == 0)
        assert served.worker.counters()["under_way"] == 0

    sessions(300)
    base, held = memory(), descriptors(served.worker.pid)
    sessions(1500)
    assert descriptors(served.worker.pid) == held
    assert memory() - base < 2 << 20
