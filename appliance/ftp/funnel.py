"""From a socket into a file without a detour through Python: splice(2) by way of a pipe. One funnel serves a worker.

Invariant: between two turns of the loop the pipe is empty, so no byte of one upload can ever end up in another.
"""

from __future__ import annotations

import errno
import fcntl
import os

SIZE = 1 << 20  # the most that an ordinary user may give a pipe (/proc/sys/fs/pipe-max-size)
_SOCKET_FLAGS = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK


class Funnel:
    """`fill` from the socket, then `empty` into the file, in the same breath."""

    def __init__(self) -> None:
        self._open()

    def fill(self, sock: int, count: int) -> int:
        """Take up to `count` bytes; 0 is the end of the connection. Raises OSError of the socket."""
        return os.splice(sock, self._in, min(count, SIZE), flags=_SOCKET_FLAGS)

    def empty(self, file: int, count: int) -> int:
        """Write what `fill` took; returns how much that was. Raises OSError of the file, and forgets the rest then."""
        left = count
        try:
            while left:
                left -= self._write(file, left)
        except OSError:
            self.close()
            self._open()
            raise
        return count

    def _write(self, file: int, count: int) -> int:
        try:
            return os.splice(self._out, file, count)
        except OSError as error:
            if error.errno != errno.EINVAL:  # a file system without splice
                raise
            data = os.read(self._out, count)
            written = 0
            while written < len(data):
                written += os.write(file, data[written:])
            return written

    def _open(self) -> None:
        self._out, self._in = os.pipe2(os.O_CLOEXEC)
        try:
            fcntl.fcntl(self._in, fcntl.F_SETPIPE_SZ, SIZE)
        except OSError:
            pass  # smaller pieces, then

    def close(self) -> None:
        """Let the pipe go."""
        os.close(self._out)
        os.close(self._in)
