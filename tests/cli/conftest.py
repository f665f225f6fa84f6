"""What the tests of the command line share: a caller, a configuration, small servers on Unix sockets."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from appliance.cli.main import main

ROOT = str(Path(__file__).parents[2])
PROGRAM = [
    sys.executable,
    "-c",
    f"import sys; sys.path.insert(0, {ROOT!r}); from appliance.cli.main import main; sys.exit(main())",
]


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


Call = Callable[..., Said]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Run one command line in this process."""

    def run(*arguments: object) -> Said:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return run


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A folder for sockets whose path is longer than a socket address can be."""
    folder = tmp_path / ("r" * 120)
    folder.mkdir()
    return folder


@pytest.fixture
def config(tmp_path: Path, run_dir: Path) -> Path:
    """A usable configuration with that run_dir."""
    file = tmp_path / "test.yaml"
    file.write_text(f"run_dir: {run_dir}\nstate_dir: {tmp_path}/state\n")
    return file


@contextmanager
def served(listener: socket.socket, handle: Callable[[socket.socket], None]) -> Iterator[None]:
    """`handle` each connection in turn, in a thread, until the block ends."""
    stop = threading.Event()

    def loop() -> None:
        while not stop.is_set():
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            with connection:
                connection.settimeout(10)
                try:
                    handle(connection)
                except OSError:
                    pass  # the other side has had enough, which is for the test to judge

    listener.settimeout(0.05)
    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(20)
        listener.close()


def bound(folder: Path, name: str, kind: socket.SocketKind) -> socket.socket:
    """A listening Unix socket under a path of any length."""
    listener = socket.socket(socket.AF_UNIX, kind)
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        listener.bind(f"/proc/self/fd/{descriptor}/{name}")
    finally:
        os.close(descriptor)
    listener.listen(8)
    return listener


@contextmanager
def status_server(folder: Path, *answers: bytes) -> Iterator[None]:
    """Answer the questions for the status with `answers` in turn, the last one again and again."""
    left = list(answers)

    def answer(connection: socket.socket) -> None:
        connection.sendall(left[0] if len(left) == 1 else left.pop(0))

    with served(bound(folder, "status.sock", socket.SOCK_STREAM), answer):
        yield


@contextmanager
def act_server(folder: Path, *lines: bytes) -> Iterator[list[bytes]]:
    """Take one word (kept in the list that is the value) and answer with `lines`, one datagram each."""
    heard: list[bytes] = []

    def answer(connection: socket.socket) -> None:
        heard.append(connection.recv(100))
        for line in lines:
            connection.send(line)

    with served(bound(folder, "act.sock", socket.SOCK_SEQPACKET), answer):
        yield heard


def facts(**changes: Any) -> dict[str, Any]:
    """A status document as the supervisor makes it."""
    layers = {
        "level": "full",
        "jail": "chroot",
        "uid": True,
        "capabilities": True,
        "no_new_privs": True,
        "landlock": 5,
        "seccomp": 61,
    }
    worker = {
        "index": 0,
        "pid": 4242,
        "state": "serving",
        "restarts": 1,
        "uid": 64610,
        "gid": 64610,
        "jail": "/srv/appliance/tftp",
        "confinement": layers,
        "transfers": 7,
        "bytes": 3 << 20,
        "active": 2,
    }
    service = {"listen": ["127.0.0.1:6969", "[::]:6969"], "release": None, "state": "ok", "workers": [worker]}
    return {
        "config": "/etc/appliance/appliance.yaml",
        "ready": True,
        "state": "serving",
        "pid": 4200,
        "version": "0.1.0",
        "uptime_s": 93784.2,
        "services": {"tftp": service},
        "problems": [],
        **changes,
    }
