"""Ask ClamAV's clamd what it thinks of a file: INSTREAM over its Unix socket (clamd(8)), no name and no descriptor."""

from __future__ import annotations

import os
import socket
import struct
import time

from appliance.release import folders, verdict
from appliance.release.verdict import Verdict

_MOST_ANSWER = 4096


def scan(path: str, timeout: float, fd: int, size: int) -> Verdict:
    """The verdict about the first `size` bytes of an open file, after `timeout` seconds at the latest.

    Whatever goes wrong with clamd is a verdict of kind ERROR; raises ReleaseError and OSError for the file alone.
    """
    deadline = time.monotonic() + timeout
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            _patience(sock, deadline)
            sock.connect(path)
            complete = _send(sock, fd, size, deadline)
            return verdict.of_clamd(_answer(sock, deadline), complete=complete)
    except TimeoutError:
        return verdict.error(f"clamd gave no verdict within {timeout:g} s")
    except OSError as error:
        return verdict.error(f"cannot ask clamd at {path}: {error.strerror or error}")


def _send(sock: socket.socket, fd: int, size: int, deadline: float) -> bool:
    """True when it took everything; it breaks off what is larger than its StreamMaxLength, and answers."""
    try:
        sock.sendall(b"zINSTREAM\0")
        for block in folders.blocks(fd, size):
            _patience(sock, deadline)
            sock.sendall(struct.pack("!I", len(block)) + block)
        sock.sendall(bytes(4))
    except (BrokenPipeError, ConnectionResetError):
        return False
    return True


def _answer(sock: socket.socket, deadline: float) -> bytes:
    answer = b""
    while len(answer) <= _MOST_ANSWER and not answer.endswith(b"\0"):
        _patience(sock, deadline)
        try:
            data = sock.recv(_MOST_ANSWER)
        except ConnectionResetError:  # it left without reading all of it; what it said before was read
            break
        if not data:
            break
        answer += data
    return answer


def _patience(sock: socket.socket, deadline: float) -> None:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError(os.strerror(110))
    sock.settimeout(left)
