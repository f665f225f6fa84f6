"""ftp.funnel: bytes pass unchanged, and a failure leaves nothing for the next upload."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from appliance.ftp import funnel as module
from appliance.ftp.funnel import Funnel


def test_bytes_pass_unchanged_and_the_end_is_zero(tmp_path: Path) -> None:
    funnel = Funnel()
    content = os.urandom(300_000)
    ours, theirs = socket.socketpair()
    fd = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    with ours, theirs:
        ours.setblocking(False)
        with pytest.raises(BlockingIOError):
            funnel.fill(ours.fileno(), 10)
        theirs.setblocking(False)
        sent = 0
        while sent < len(content):
            sent += theirs.send(content[sent : sent + 50_000])
            count = funnel.fill(ours.fileno(), 1 << 20)
            assert funnel.empty(fd, count) == count
        theirs.close()
        assert funnel.fill(ours.fileno(), 10) == 0
    os.close(fd)
    funnel.close()
    assert (tmp_path / "file").read_bytes() == content


def test_no_more_is_taken_than_asked(tmp_path: Path) -> None:
    funnel = Funnel()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(b"12345")
        assert funnel.fill(ours.fileno(), 3) == 3
        assert ours.recv(10) == b"45"
    funnel.close()


def test_a_file_that_cannot_be_written_forgets_what_was_in_the_pipe(tmp_path: Path) -> None:
    funnel = Funnel()
    ours, theirs = socket.socketpair()
    with ours, theirs, open(tmp_path / "read-only", "wb"), open(tmp_path / "read-only", "rb") as file:
        theirs.send(b"secret")
        count = funnel.fill(ours.fileno(), 100)
        with pytest.raises(OSError, match="Bad file descriptor"):
            funnel.empty(file.fileno(), count)
        theirs.send(b"next")
        fd = os.open(tmp_path / "next", os.O_WRONLY | os.O_CREAT)
        funnel.empty(fd, funnel.fill(ours.fileno(), 100))
        os.close(fd)
    funnel.close()
    assert (tmp_path / "next").read_bytes() == b"next"


def test_a_file_system_without_splice_is_written_to_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.splice

    def splice(src: int, dst: int, count: int, **options: int) -> int:
        if "flags" not in options:
            raise OSError(errno.EINVAL, "planted")
        return real(src, dst, count, **options)

    monkeypatch.setattr(module.os, "splice", splice)
    funnel = Funnel()
    ours, theirs = socket.socketpair()
    fd = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    with ours, theirs:
        theirs.send(b"content")
        assert funnel.empty(fd, funnel.fill(ours.fileno(), 100)) == 7
    os.close(fd)
    funnel.close()
    assert (tmp_path / "file").read_bytes() == b"content"
