"""release.clamd against a small server that speaks INSTREAM, well and badly, and against the real clamd where it is."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from appliance.release import clamd
from appliance.release.verdict import Kind, Verdict
from tests.support import until

CLAMD = shutil.which("clamd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def ask(path: Path, content: bytes, timeout: float = 10.0) -> Verdict:
    fd = os.memfd_create("upload")
    try:
        os.write(fd, content)
        return clamd.scan(str(path), timeout, fd, len(content))
    finally:
        os.close(fd)


@contextmanager
def served(path: Path, handle: Callable[[socket.socket], None]) -> Iterator[Path]:
    """Handle one connection on a Unix socket, in a thread."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(1)
    listener.settimeout(20)

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(20)
            try:
                handle(connection)
            except OSError:
                pass  # the client has had enough, which is for the test to judge

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield path
    finally:
        thread.join(30)
        listener.close()


def take(connection: socket.socket) -> bytes:
    """What is sent with INSTREAM, to its end."""
    with connection.makefile("rb") as file:
        assert file.read(10) == b"zINSTREAM\0"
        content = b""
        while size := struct.unpack("!I", file.read(4))[0]:
            content += file.read(size)
    return content


def answering(answer: bytes, seen: list[bytes] | None = None) -> Callable[[socket.socket], None]:
    def handle(connection: socket.socket) -> None:
        content = take(connection)
        if seen is not None:
            seen.append(content)
        connection.sendall(answer)

    return handle


def test_every_byte_is_sent_and_ok_is_clean(tmp_path: Path) -> None:
    content, seen = os.urandom(2_500_000), list[bytes]()
    with served(tmp_path / "s", answering(b"stream: OK\0", seen)) as path:
        assert ask(path, content) == Verdict(Kind.CLEAN)
    assert seen == [content]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"stream: Test.Thing FOUND\0", Verdict(Kind.INFECTED, b"Test.Thing")),
        (b"stream: FOUND\0", Verdict(Kind.ERROR, b"stream: FOUND")),
        (b"UNKNOWN COMMAND\0", Verdict(Kind.ERROR, b"UNKNOWN COMMAND")),
        (b"stream: O", Verdict(Kind.ERROR, b"stream: O")),
        (b"", Verdict(Kind.ERROR, b"clamd closed the connection without an answer")),
    ],
)
def test_what_it_answers_is_the_verdict(tmp_path: Path, answer: bytes, expected: Verdict) -> None:
    with served(tmp_path / "s", answering(answer)) as path:
        assert ask(path, b"") == expected


def test_an_answer_without_end_is_cut(tmp_path: Path) -> None:
    with served(tmp_path / "s", answering(b"x" * 10_000_000)) as path:
        found = ask(path, b"content")
    assert found.kind is Kind.ERROR and len(found.text) == 300


def test_one_that_breaks_off_gives_no_verdict_whatever_it_says(tmp_path: Path) -> None:
    def too_large(connection: socket.socket) -> None:
        connection.recv(100_000)
        connection.sendall(b"stream: OK\0")

    with served(tmp_path / "s", too_large) as path:
        assert ask(path, bytes(8_000_000)).kind is Kind.ERROR


def test_one_that_hangs_is_given_up_in_time(tmp_path: Path) -> None:
    done = threading.Event()
    for content in (b"", bytes(8_000_000)):  # while it is waited for, and while it is sent to
        done.clear()
        with served(tmp_path / f"s{len(content)}", lambda _connection: (done.wait(120), None)[1]) as path:
            began = time.monotonic()
            assert ask(path, content, 0.5) == Verdict(Kind.ERROR, b"clamd gave no verdict within 0.5 s")
            assert time.monotonic() - began < 60
            done.set()


def test_one_that_is_not_there_gives_no_verdict(tmp_path: Path) -> None:
    assert ask(tmp_path / "none", b"").text.endswith(b"none: No such file or directory")
    (tmp_path / "file").touch()
    assert ask(tmp_path / "file", b"").kind is Kind.ERROR
    assert ask(Path("/" + "x" * 200), b"").kind is Kind.ERROR  # longer than a socket address


@pytest.mark.skipif(CLAMD is None, reason="needs clamd (apt-get install clamav-daemon)")
def test_real_clamd_finds_what_the_signature_says_and_nothing_else(tmp_path: Path) -> None:
    assert CLAMD is not None
    bad = b"a file that only this test calls bad\n" * 100
    database = tmp_path / "database"
    database.mkdir()
    digest = hashlib.md5(bad).hexdigest()
    (database / "test.hdb").write_text(f"{digest}:{len(bad)}:Test.Of.The.Appliance\n")
    config = tmp_path / "clamd.conf"
    config.write_text(f"Foreground yes\nDatabaseDirectory {database}\nLocalSocket {tmp_path}/s\nStreamMaxLength 1M\n")
    process = subprocess.Popen([CLAMD, "-c", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: ask(tmp_path / "s", b"x", 5.0).kind is not Kind.ERROR, 60, "clamd answers")
        found = ask(tmp_path / "s", bad)
        assert found.kind is Kind.INFECTED and found.text.startswith(b"Test.Of.The.Appliance")
        assert ask(tmp_path / "s", bad + b"x") == Verdict(Kind.CLEAN)
        assert ask(tmp_path / "s", bytes(3 << 20)).kind is Kind.ERROR  # beyond StreamMaxLength: held, not released
    finally:
        process.kill()
        process.wait()
    assert ask(tmp_path / "s", b"x").kind is Kind.ERROR
