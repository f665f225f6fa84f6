"""What fails outside of the appliance while it serves: it goes on serving, says so, and says when it is over."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

import appliance as package
from tests.observe.test_journal import Journal
from tests.support import ROOT, until
from tests.system import running as program
from tests.system.running import Appliance, tftp_read

DAY_S = 86_400
# A copy of the program whose clock we hold: what Python is told of the time, in every process, jailed or not.
CLOCK = """
import mmap, os, struct, time

_file = os.open({path!r}, os.O_RDONLY)
_ahead = mmap.mmap(_file, 8, prot=mmap.PROT_READ)
os.close(_file)
_time, _time_ns = time.time, time.time_ns
time.time = lambda: _time() + struct.unpack("=q", _ahead)[0]
time.time_ns = lambda: _time_ns() + struct.unpack("=q", _ahead)[0] * 10**9
"""


def problems(running: Appliance) -> list[str]:
    return [one["what"] for one in running.status().get("problems", [])]


def history(running: Appliance) -> list[dict[str, Any]]:
    """The lines of the history that are whole."""
    found = []
    for path in sorted((running.home / "state/events").glob("*.jsonl")):
        for line in path.read_bytes().splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
    return found


def faults(running: Appliance, part: str) -> list[bool]:
    """`over` of each fault of this part that is in the history."""
    return [one["over"] for one in history(running) if one["event"] == "fault" and one.get("part") == part]


class Clock:
    """How many seconds the copy's clock is ahead of the real one."""

    def __init__(self, home: Path) -> None:
        self.path = home / "clock"
        self.path.write_bytes(bytes(8))

    def set(self, seconds: int) -> None:
        with self.path.open("r+b") as file:
            file.write(struct.pack("=q", seconds))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for place in (tmp_path.parent.parent, tmp_path.parent, tmp_path):
        place.chmod(0o755)
    return tmp_path


@contextmanager
def with_a_clock(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Appliance, Clock]]:
    copy, clock = home / "copy", Clock(home)
    source = Path(package.__file__).parent
    shutil.copytree(source, copy / "appliance", ignore=shutil.ignore_patterns("__pycache__"))
    with (copy / "appliance/__init__.py").open("a") as file:
        file.write(CLOCK.format(path=str(clock.path)))
    path = ":".join([str(copy), *[entry for entry in sys.path if entry]])
    monkeypatch.setattr(program, "PROGRAM", [*program.PROGRAM[:-1], path])
    made = Appliance(home, workers=1)
    try:
        yield made.start(), clock
    finally:
        made.stop()


class Halfway:
    """A TFTP client that has got the first block of a file of 1,300 bytes."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.settimeout(60)
        self.sock.sendto(b"\0\1three\0octet\0", address)
        self.data, self.peer = self.sock.recvfrom(600)

    def finish(self) -> bytes:
        content = self.data[4:]
        with self.sock:
            for block in (1, 2, 3):
                self.sock.sendto(b"\0\4" + struct.pack("!H", block), self.peer)
                while block < 3 and self.data[2:4] != struct.pack("!H", block + 1):
                    self.data = self.sock.recv(600)
                content += self.data[4:] if block < 3 else b""
        return content


@pytest.mark.slow
def test_a_clock_that_jumps_ends_nothing_and_is_told_and_forgotten(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with with_a_clock(home, monkeypatch) as (running, clock), ExitStack() as closing:
        content = os.urandom(1300)
        (running.tree / "three").write_bytes(content)
        address, before = running.address("tftp"), {name: running.pids(name) for name in ("tftp", "ftp", "events")}
        session = closing.enter_context(running.ftp())
        session.voidcmd("TYPE I")
        for ahead, way in ((400 * DAY_S, "forward"), (-DAY_S, "back"), (3 - int(time.time()), "back")):
            halfway = Halfway(address)
            closing.callback(halfway.sock.close)
            data = closing.enter_context(session.transfercmd("RETR big.bin"))  # more than the kernel's buffers hold
            clock.set(ahead)
            shown = f"clock: it was set {way} by "
            until(lambda shown=shown: any(one.startswith(shown) for one in problems(running)), 60, "it is shown")
            assert halfway.finish() == content
            assert sum(len(piece) for piece in iter(lambda data=data: data.recv(1 << 16), b"")) == 8 << 20
            data.close()
            assert session.voidresp().startswith("226")
            assert tftp_read(address, b"hello.txt") == b"hello, network\n"
        until(
            lambda: "was made" in "".join(one["what"] for one in history(running) if one["event"] == "fault"),
            60,
            "told",
        )
        clock.set(0)
        until(lambda: True in faults(running, "clock"), 60, "its end is told")
        assert session.voidcmd("NOOP").startswith("200")
        assert {name: running.pids(name) for name in before} == before, "nobody was replaced"
        told = history(running)
        assert [one["n"] for one in told] == sorted(one["n"] for one in told)
        assert {one["outcome"] for one in told if one["event"] == "transfer"} == {"done"}
        assert len([one for one in told if one.get("path") == "three"]) == 3
        assert running.log.read_text().count("the clock was set") == 4
        assert "crash" not in running.log.read_text()


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.skipif(not ROOT, reason="needs root: a file system of its own")
def test_a_history_that_cannot_be_written_is_a_fault_for_hooks_too_and_what_is_broken_in_it_is_passed_over(
    home: Path,
) -> None:
    made = Appliance(home, workers=1)
    hooks = json.dumps([{"on": ["fault"], "run": ["/bin/sh", "-c", "cat >> told"]}])
    made.write(made.config.read_text().replace("observe: {log: text}", f"observe: {{log: text, hooks: {hooks}}}"))
    place = home / "state/events"
    place.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=0755", "tmpfs", str(place)], check=True)
    told = home / "state/hooks/told"

    def hook() -> list[tuple[bool, str]]:
        lines = told.read_text().splitlines() if told.exists() else []
        return [(one["over"], one["remedy"][:4]) for one in map(json.loads, lines) if one["part"] == "events"]

    try:
        made.start()
        address = made.address("tftp")
        assert tftp_read(address, b"hello.txt") == b"hello, network\n"
        until(lambda: any(one.get("path") == "hello.txt" for one in history(made)), 60, "it is kept")
        with (place / "filler").open("wb", buffering=0) as file:
            size = 1 << 16
            while size:
                try:
                    file.write(bytes(size))
                except OSError:
                    size //= 2
        sentence = "events: the history cannot be written: No space left on device"

        def served_and_shown() -> bool:
            return tftp_read(address, b"hello.txt") == b"hello, network\n" and sentence in problems(made)

        until(served_and_shown, 60, "it is shown")
        until(lambda: hook() == [(False, "df -")], 60, "the hook hears of it")
        (place / "filler").unlink()

        def served_and_over() -> bool:
            return tftp_read(address, b"hello.txt") == b"hello, network\n" and sentence not in problems(made)

        until(served_and_over, 60, "it is over")
        until(lambda: hook() == [(False, "df -"), (True, "df -")], 60, "the hook hears that too")

        for path in place.glob("*.jsonl"):  # and now it is no text any more
            broken = bytearray(path.read_bytes())
            broken[10:200] = os.urandom(190)
            path.write_bytes(broken)
        (recorder,) = made.pids("events")
        os.kill(recorder, signal.SIGKILL)
        until(lambda: made.pids("events") not in (set(), {recorder}), 60, "another one serves")

        def kept() -> bool:
            tftp_read(address, b"sub/deep.txt")
            return any(one.get("path") == "sub/deep.txt" for one in history(made))

        until(kept, 60, "it is kept again")
        assert tftp_read(address, b"hello.txt") == b"hello, network\n"
        said = made.verb("log", "--json", "--client", "127.0.0.1")
        assert said.returncode == 0, said.stderr
        assert any(json.loads(line).get("path") == "sub/deep.txt" for line in said.stdout.splitlines())
    finally:
        made.stop()
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.exhaustive
def test_a_journal_that_takes_nothing_costs_lines_and_is_shown_until_it_does(home: Path) -> None:
    journald = Journal(home)
    made = Appliance(home, workers=1)
    made.write(made.config.read_text().replace("log: text", "log: journal"))

    def served() -> bool:
        return tftp_read(made.address("tftp"), b"hello.txt") == b"hello, network\n"

    def shown() -> bool:
        return any("lines of the log or the xferlog" in one for one in problems(made))

    def entered() -> bool:
        """Whether the journal gets entries of transfers; it reads what waits, and one more."""
        while select.select([journald.native], [], [], 0)[0]:
            journald.entry()
        assert served()
        return journald.entry().get("FILE") == "hello.txt"

    try:
        argv = [*program.PROGRAM, "run", "-c", str(made.config)]
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
        made.process = subprocess.Popen(argv, stderr=journald.stream.fileno(), **streams)
        until(lambda: made.ready(), 60, "ready")
        assert entered()
        until(lambda: served() and shown(), 60, "it is shown")  # as systemd holds the socket of a journald that ended
        until(lambda: faults(made, "log") == [False], 60, "it is told")
        assert entered(), "as one that has begun again reads"
        until(lambda: entered() and not shown(), 60, "it is over")
        until(lambda: faults(made, "log") == [False, True], 60, "its end is told")
        assert made.pids("tftp")
    finally:
        made.stop()
        journald.close()
