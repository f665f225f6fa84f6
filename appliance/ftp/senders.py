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
PAGE = 4096  # bytes; one more that does not lie evenly costs a fragment of each segment
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
        errand = Errand(offset, count)
        try:
            errand.hold(sock, file)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEVAL.pack(PATIENCE_S, 0))
            sock.setblocking(True)
        except OSError:  # no descriptor is left, or the connection is gone, which the loop will notice
            errand.close()
            return False
        self.free -= 1

        def over(job: Job) -> None:
            self.free += 1
            then(job)

        self.pool.submit(lambda _job: errand.run(), over, wall)
        return True


class Errand:
    """What a thread is to send, with descriptors of its own."""

    def __init__(self, offset: int, count: int) -> None:
        self._offset, self._count = offset, count
        self._fds: list[int] = []

    def hold(self, sock: socket.SocketType, file: int) -> None:
        """Keep both open, whatever becomes of the transfer. Raises OSError."""
        self._fds.append(os.dup(sock.fileno()))
        self._fds.append(os.dup(file))

    def run(self) -> int:
        """In a thread: how many bytes went. Raises OSError when not one did.

        Only whole segments leave meanwhile (TCP_CORK), and after the first the file's pages lie in them as they lie in
        memory: a fifth more a second, at the same cost.
        """
        try:
            with socket.socket(fileno=os.dup(self._fds[0])) as sock:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
                try:
                    return self._send()
                finally:
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
        finally:
            self.close()

    def _send(self) -> int:
        sock, file = self._fds
        odd = min(-self._offset % PAGE, self._count)
        sent = os.sendfile(sock, file, self._offset, odd) if odd else 0
        if sent < odd or odd == self._count:
            return sent
        try:
            return sent + os.sendfile(sock, file, self._offset + sent, self._count - sent)
        except OSError:
            if not sent:
                raise
            return sent  # the next call meets it again

    def close(self) -> None:
        """Let both go; may be called twice."""
        while self._fds:
            os.close(self._fds.pop())
