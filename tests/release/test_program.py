"""release.program: real scanners written in Python: good ones, broken ones, hostile ones."""

from __future__ import annotations

import hashlib
import os
import socket
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.release import program
from appliance.release.program import Account
from appliance.release.verdict import Kind, Verdict
from tests.support import ROOT, until

ACCOUNT = Account(64614, 64614) if ROOT else None
Scan = Callable[..., Verdict]
PYTHON = "/usr/bin/python3" if os.access("/usr/bin/python3", os.X_OK) else sys.executable


@pytest.fixture
def scan(tmp_path: Path) -> Scan:
    """Let a script look at some bytes."""

    def run(script: str, content: bytes = b"content", timeout: float = 20.0) -> Verdict:
        path = tmp_path / "upload"
        path.write_bytes(content)
        code = "import os, sys, time\n" + textwrap.dedent(script)
        fd = os.open(path, os.O_RDONLY)
        try:
            return program.scan((PYTHON, "-I", "-c", code), ACCOUNT, timeout, fd, len(content))
        finally:
            os.close(fd)

    return run


READ = "data = sys.stdin.buffer.read()\n"


def test_a_scanner_gets_every_byte_and_says_clean(scan: Scan) -> None:
    content = os.urandom(3_000_001)
    code = READ + "import hashlib; print(hashlib.sha256(data).hexdigest())"
    assert scan(code, content) == Verdict(Kind.CLEAN, hashlib.sha256(content).hexdigest().encode())
    assert scan(READ + "sys.exit(len(data))", b"").kind is Kind.CLEAN


def test_a_scanner_that_finds_something_says_what(scan: Scan) -> None:
    found = scan(READ + "print('Eicar FOUND' if b'EICAR' in data else ''); sys.exit(b'EICAR' in data)", b"x EICAR y")
    assert found == Verdict(Kind.INFECTED, b"Eicar FOUND")


@pytest.mark.parametrize(
    ("script", "text"),
    [
        (READ + "sys.exit(2)", b"the scanner ended with 2"),
        (READ + "import ctypes; ctypes.string_at(0)", b"the scanner was ended by signal 11"),
        (READ + "sys.stderr.write('no database'); sys.exit(40)", b"the scanner ended with 40 no database"),
    ],
)
def test_a_scanner_that_fails_gives_no_verdict(scan: Scan, script: str, text: bytes) -> None:
    assert scan(script) == Verdict(Kind.ERROR, text)


def test_a_scanner_that_hangs_is_ended_in_time(scan: Scan) -> None:
    began = time.monotonic()
    assert scan("time.sleep(600)", bytes(1_000_000), 0.5) == Verdict(Kind.ERROR, b"no verdict within 0.5 s")
    assert time.monotonic() - began < 60


def test_a_scanner_that_prints_without_end_is_ended_in_time_and_little_is_kept(scan: Scan) -> None:
    assert scan("while True: os.write(1, b'x' * 65536)", timeout=0.5).kind is Kind.ERROR
    found = scan(READ + "os.write(1, b'y' * 5_000_000); sys.exit(1)")
    assert found.kind is Kind.INFECTED and len(found.text) <= 300


def test_clean_from_one_that_did_not_read_it_all_is_no_verdict(scan: Scan) -> None:
    found = scan("os.read(0, 10)", bytes(5_000_000))
    assert found == Verdict(Kind.ERROR, b"the scanner ended before it had read everything")


@pytest.mark.parametrize("script", ["", "os.close(0)", "os.read(0, 10)", "sys.stdin.read(2)"])
def test_a_small_upload_that_only_the_pipe_took_is_not_clean(scan: Scan, script: str) -> None:
    """Seen: a scanner that ended with 0 before it read anything released whatever fits into a pipe, 64 KiB."""
    found = scan(script, bytes(20_000))
    assert found == Verdict(Kind.ERROR, b"the scanner ended before it had read everything")


def test_one_that_closes_its_output_is_still_waited_for(scan: Scan) -> None:
    assert scan("os.close(1); os.close(2); sys.stdin.buffer.read(); os._exit(1)", bytes(200_000)).kind is Kind.INFECTED


@pytest.mark.parametrize("end", ["pass", "time.sleep(60)"])
def test_whatever_a_scanner_starts_ends_with_it(scan: Scan, end: str) -> None:
    """One that leaves its process group and session too: it could lie in the name of the next scanner."""
    mark = os.urandom(8).hex().encode()
    script = f"""
        data = sys.stdin.buffer.read()
        ours, theirs = os.pipe()
        if not os.fork():
            os.setsid()
            if not os.fork():
                os.write(theirs, b"{mark.decode()}")
                time.sleep(60)
            os._exit(0)
        os.read(ours, 1)
        {end}
    """
    assert scan(script, timeout=1.0).kind is (Kind.CLEAN if end == "pass" else Kind.ERROR)
    until(lambda: not running(mark), what="its processes are gone")


def running(mark: bytes) -> list[str]:
    """Processes with the mark on their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if mark in path.read_bytes():
                found.append(path.parent.name)
        except OSError:
            continue
    return found


def test_a_scanner_has_no_network_no_environment_and_no_name(scan: Scan) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    code = (
        READ
        + f"""
import socket
said = [*os.environ, os.getcwd(), *(os.readlink(f'/proc/self/fd/{{n}}').split(':')[0] for n in (0, 1, 2))]
try:
    socket.create_connection(('127.0.0.1', {listener.getsockname()[1]}), 5)
except OSError as error:
    said.append(error.strerror)
print('|'.join(said), sorted(int(n) for n in os.listdir('/proc/self/fd'))[:4])
"""
    )
    found = scan(code)
    listener.close()
    words = found.text.decode().split("|")
    assert found.kind is Kind.CLEAN, found
    assert [word for word in words if word != "LC_CTYPE"] == ["/", "pipe", "pipe", "pipe",
                                                              "Network is unreachable [0, 1, 2, 3]"]  # fmt: skip


@pytest.mark.root
@pytest.mark.skipif(not ROOT, reason="needs root: another account")
def test_a_scanner_has_an_account_of_its_own_and_no_way_back(scan: Scan) -> None:
    code = (
        READ
        + """
status = dict(line.split(':\\t', 1) for line in open('/proc/self/status').read().splitlines() if ':\\t' in line)
print(os.getresuid(), os.getresgid(), os.getgroups(), status['NoNewPrivs'], int(status['CapPrm'], 16))
"""
    )
    assert scan(code).text == b"(64614, 64614, 64614) (64614, 64614, 64614) [] 1 0"


def test_a_program_that_is_not_there_gives_no_verdict() -> None:
    found = program.scan(("/nonexistent/scanner",), ACCOUNT, 5.0, 0, 0)
    assert found == Verdict(Kind.ERROR, b"the scanner cannot be started: No such file or directory")


def test_one_that_cannot_be_confined_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from appliance.confine import libc

    def refuse(_flags: int) -> None:
        raise PermissionError(1, "not permitted")

    monkeypatch.setattr(libc, "unshare", refuse)
    witness = tmp_path / "ran"
    found = program.scan(("/bin/sh", "-c", f"touch {witness}"), ACCOUNT, 5.0, 0, 0)
    assert found.kind is Kind.ERROR and b"cannot be confined" in found.text
    assert not witness.exists()


def test_nothing_is_left_behind(scan: Scan) -> None:
    scan(READ)
    before = len(os.listdir("/proc/self/fd"))
    for script in (READ, "time.sleep(60)", "os.close(0)"):
        scan(script, bytes(300_000), 0.5)
    assert len(os.listdir("/proc/self/fd")) == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
