"""ftp.filesystem: what opens, and what does not exist."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from appliance.ftp import filesystem

NOW = 0.0  # a clock behind every time stamp: nothing is shared
NS = 1_600_000_000_123_456_789


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_only_regular_files_open_and_nothing_leaks(inside: Path) -> None:
    os.mkfifo("fifo")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind("socket")
    before = open_descriptors()
    for path in ("/pub", "/fifo", "/socket", "/nothing", "/", "/a.txt/x"):
        with pytest.raises(OSError):  # noqa: PT011  any errno is the same to a client
            filesystem.open_file(path)
    assert open_descriptors() == before
    file = filesystem.open_file("/a.txt")
    assert (file.size, os.read(file.fd, 3)) == (15, b"one")
    file.close()
    file.close()
    assert open_descriptors() == before


def test_a_folder_that_may_not_be_searched_cannot_be_entered(inside: Path) -> None:
    with pytest.raises(NotADirectoryError):
        filesystem.enter("/a.txt")
    with pytest.raises(FileNotFoundError):
        filesystem.enter("/nothing")
