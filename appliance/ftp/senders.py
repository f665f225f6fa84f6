"""Threads that send long files to clients that take them fast: one call of the kernel where the loop needs hundreds.

Invariants: a transfer has its socket and its file to itself while a thread sends, the loop only looks at them; a thread
has descriptors of its own, which outlive the transfer; it comes back when it has sent what it was given, when the
client takes nothing for `PATIENCE_S`, when it is called back, or when the connection is shut down.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable

from appliance.ftp.pool import Job, Pool

THREADS = 4  # of one worker; further transfers are moved by the loop
LONG = 16 << 20  # bytes; with less than this left the loop is as good
FAST = 32 << 20  # bytes a second; below, the loop has time between two of its calls
WINDOW = 8 << 20  # bytes over which the speed of a client is measured: twice what may lie in its socket
SPAN_S = 1.0  # of what a thread is given at once, at the speed that was measured
PATIENCE_S = 1  # without room in the socket; then the loop waits for it
_MOST = 1 << 30
_TIMEVAL = struct.Struct("@ll")
_INFO, _ACKED = 128, struct.Struct("=Q")  # bytes of struct tcp_info that are asked for; tcpi_bytes_acked are the last
_ACKED_AT = 120


def worth(count: int, seconds: float, left: int) -> int:
    """How many of `left` bytes a thread should send to a client that took `count` in `seconds`; 0: the loop goes on."""
    if left < LONG or count < seconds * FAST:
        return 0
    return min(left, _MOST, int(count / seconds * SPAN_S) if seconds > 0 else _MOST)


def acknowledged(sock: socket.SocketType) -> int:
    """Bytes that the client has confirmed on this connection; 0 when the kernel does not tell."""
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO)
    except OSError:
        return 0
    return int(_ACKED.unpack_from(info, _ACKED_AT)[0]) if len(info) >= _INFO else 0


class Senders:
    """The threads of one worker; the loop watches `pool`."""

    def __init__(self) -> None:
        self.pool = Pool(THREADS)
        self.free = THREADS

    def send(
        self, way: tuple[socket.SocketType, int, int], count: int, then: Callable[[Job], None], wall: Callable[[], None]
    ) -> bool:
        """Have `count` bytes sent; `then` is called with how many went as `value`, or the error. False: not now.

        `way`: the socket, the file, and the offset in it.
        """
        if not self.free:
            return False
        sock, file, offset = way
        fds: list[int] = []
        try:
            fds.append(os.dup(sock.fileno()))
            fds.append(os.dup(file))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEVAL.pack(PATIENCE_S, 0))
            sock.setblocking(True)
        except OSError:  # no descriptor is left, or the connection is gone, which the loop will notice
            _close(fds)
            return False
        self.free -= 1

        def over(job: Job) -> None:
            self.free += 1
            then(job)

        self.pool.submit(lambda _job: _send(fds, offset, count), over, wall)
        return True


def _send(fds: list[int], offset: int, count: int) -> int:
    """In a thread: one call, which waits for room by itself. Raises OSError when not a byte went."""
    try:
        return os.sendfile(fds[0], fds[1], offset, count)
    finally:
        _close(fds)


def _close(fds: list[int]) -> None:
    while fds:
        os.close(fds.pop())
