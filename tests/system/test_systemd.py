"""What systemd sees: notifications, the watchdog, and sockets that it passes."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import until
from tests.system.running import PROGRAM, Appliance, tftp_read


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(30)
        yield sock


def heard(systemd: socket.socket, line: str) -> str:
    """Wait for a message with this line; returns the message."""
    while True:
        message = systemd.recv(4096).decode()
        if line in message.splitlines():
            return message


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    return {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify"), **more}


def test_ready_reloading_and_stopping_are_told(tmp_path: Path, systemd: socket.socket) -> None:
    made = Appliance(tmp_path)
    try:
        made.start(wait=False, env=environment(tmp_path))
        message = heard(systemd, "READY=1")
        assert "STATUS=Serving tftp on 127.0.0.1:" in message
        assert made.ready()
        made.signal(signal.SIGHUP)
        assert "MONOTONIC_USEC=" in heard(systemd, "RELOADING=1")
        heard(systemd, "READY=1")
        made.signal(signal.SIGTERM)
        assert "EXTEND_TIMEOUT_USEC=35000000" in heard(systemd, "STOPPING=1"), "as long as drain_timeout, and a little"
        assert made.wait() == 0
    finally:
        made.stop()


def test_ready_is_told_again_after_a_refused_reload(tmp_path: Path, systemd: socket.socket) -> None:
    made = Appliance(tmp_path)
    try:
        made.start(wait=False, env=environment(tmp_path))
        heard(systemd, "READY=1")
        made.write("tftp: [\n")
        made.signal(signal.SIGHUP)
        heard(systemd, "RELOADING=1")
        heard(systemd, "READY=1")
        assert made.ready()
    finally:
        made.stop()


def test_the_watchdog_is_fed_only_while_every_worker_ticks(tmp_path: Path, systemd: socket.socket) -> None:
    made = Appliance(tmp_path)
    try:
        made.start(env=environment(tmp_path, WATCHDOG_USEC="1000000"))
        for _ in range(3):
            heard(systemd, "WATCHDOG=1")
        os.kill(min(made.pids("ftp")), signal.SIGSTOP)
        fed, gap, end = time.monotonic(), 0.0, time.monotonic() + 30
        while gap < 3.0 and time.monotonic() < end:
            heard(systemd, "WATCHDOG=1")
            gap, fed = max(gap, time.monotonic() - fed), time.monotonic()
        assert gap >= 3.0, "it was fed while a worker stood still"
        assert "worker hangs" in made.log.read_text()
        heard(systemd, "WATCHDOG=1")
    finally:
        made.stop()


def test_the_variables_of_systemd_are_not_passed_on_to_workers(tmp_path: Path, systemd: socket.socket) -> None:
    made = Appliance(tmp_path)
    try:
        made.start(env=environment(tmp_path))
        if os.geteuid() == 0:
            for pid in made.pids("tftp"):
                assert b"NOTIFY_SOCKET" not in Path(f"/proc/{pid}/environ").read_bytes()
    finally:
        made.stop()


LAUNCHER = """
import os, socket, sys
names, socks = [], []
for name, kind in (("ftp", socket.SOCK_STREAM), ("tftp", socket.SOCK_DGRAM)):
    sock = socket.socket(socket.AF_INET, kind)
    sock.bind(("127.0.0.1", 0))
    kind == socket.SOCK_STREAM and sock.listen(64)
    names.append(name), socks.append(os.dup2(sock.fileno(), 100 + len(socks)))
for i, descriptor in enumerate(socks):
    os.dup2(descriptor, 3 + i)
    os.close(descriptor)
os.environ.update(LISTEN_FDS="2", LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES=":".join(names))
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_sockets_that_systemd_passes_are_served_instead_of_listen(tmp_path: Path) -> None:
    made = Appliance(tmp_path)
    made.write(made.config.read_text().replace("127.0.0.1:0", "192.0.2.1:69").replace("[::1]:0", "[2001:db8::1]:69"))
    try:
        with made.log.open("ab") as log:
            import subprocess

            argv = [sys.executable, "-c", LAUNCHER, *PROGRAM, "run", "-c", str(made.config)]
            made.process = subprocess.Popen(argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        until(lambda: made.ready() or made.ended(), 30, "ready")
        assert [made.address(s)[0] for s in ("tftp", "ftp")] == ["127.0.0.1", "127.0.0.1"]
        for _ in range(8):
            assert tftp_read(made.address("tftp"), b"hello.txt") == b"hello, network\n"
            made.ftp().close()
        (first, *_) = made.pids("tftp")
        os.kill(first, signal.SIGKILL)
        until(lambda: len(made.pids("tftp") - {first}) == 2, 10)
        assert tftp_read(made.address("tftp"), b"hello.txt") == b"hello, network\n"
    finally:
        made.stop()
