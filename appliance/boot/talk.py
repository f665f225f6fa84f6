"""The conversation of the command line with one of its children: JSON values in datagrams, descriptors beside them.

What does not fit a datagram goes in a file without a name whose descriptor is sent.
"""

from __future__ import annotations

import array
import json
import os
import select
import socket
import time
from typing import Any

from appliance.boot.records import BootError

MOST = 60_000  # bytes of a datagram
MOST_FDS = 64


class Talk:
    """One end of a SOCK_SEQPACKET pair."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(True)
        self._sock = sock

    def fileno(self) -> int:
        """The descriptor to poll for reading."""
        return self._sock.fileno()

    def offer(self, value: dict[str, Any]) -> None:
        """Send one value if the other side has room for it now, else nobody hears it. Raises OSError."""
        try:
            self._sock.sendmsg([json.dumps(value).encode()], [], socket.MSG_DONTWAIT)
        except BlockingIOError:
            pass

    def send(self, value: dict[str, Any], fds: tuple[int, ...] = ()) -> None:
        """Send one value. Raises OSError when the other side is gone, BootError when it is too large."""
        text = json.dumps(value).encode()
        if len(text) > MOST:
            raise BootError("a message between the parts of `appliance boot` is too large")
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self._sock.sendmsg([text], ancillary)

    def receive(self, seconds: float | None = None) -> tuple[dict[str, Any], list[int]] | None:
        """One value and its descriptors; None at the end. Raises BootError for nonsense and for silence, OSError."""
        if not self.wait(seconds):
            raise BootError("a part of `appliance boot` does not answer")
        text, fds, _flags, _peer = socket.recv_fds(self._sock, MOST + 1, MOST_FDS, socket.MSG_CMSG_CLOEXEC)
        if not text:
            return None
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            for fd in fds:
                os.close(fd)
            raise BootError("a part of `appliance boot` speaks nonsense")
        return value, fds

    def wait(self, seconds: float | None) -> bool:
        """Whether there is something to be received within this time; None waits for ever."""
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        deadline = None if seconds is None else time.monotonic() + seconds
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
            if poll.poll(left):
                return True
            if deadline is not None and time.monotonic() >= deadline:
                return False

    def close(self) -> None:
        """Say no more; the other side comes to its end."""
        self._sock.close()


def document(content: bytes) -> int:
    """A descriptor of a file without a name with this content, to be sent and closed. Raises OSError."""
    fd = os.memfd_create("document", os.MFD_CLOEXEC)
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(fd, rest) :]
    return fd


def content(fd: int, most: int) -> bytes:
    """What a descriptor holds from its beginning. Raises BootError when that is more than `most`, and OSError."""
    if os.fstat(fd).st_size > most:
        raise BootError(f"a document has more than {most} bytes")
    found = bytearray()
    while block := os.pread(fd, 1 << 20, len(found)):
        found += block
    return bytes(found)
