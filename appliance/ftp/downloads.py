"""RETR of TYPE I: a small file in one go, a long one by the loop, and to a fast client by a thread."""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING

from appliance.ftp import senders
from appliance.ftp.ahead import PIECE, REACH, Ahead
from appliance.ftp.data import Transfer, failed, shorter
from appliance.ftp.filesystem import OpenFile
from appliance.ftp.pool import Job

if TYPE_CHECKING:
    from appliance.ftp.session import Session
    from appliance.ftp.tls import TlsSocket

_SMALL = 64 << 10  # bytes; with one send: the buffer of a socket has room for a quarter of it at least
_BUFFER = memoryview(bytearray(_SMALL))  # one for the whole worker: filled and sent in the same breath
_MORE = socket.MSG_DONTWAIT | socket.MSG_MORE  # the end of the connection follows at once, and leaves with the bytes


class Download(Transfer):
    """RETR of TYPE I: the kernel sends the file itself. Exactly what the file held when it was opened is sent.

    A long file is sent to a fast client by a thread (`senders`), a second's worth at a time, where no rate is to be
    kept. Meanwhile `moved` is what the client has confirmed.
    """

    threads = True

    def __init__(self, session: Session, path: str, file: OpenFile, offset: int) -> None:
        super().__init__(session, "RETR", path)
        self._file, self._offset, self.size = file, offset, file.size
        self.layer = file.layer.encode()
        self._ahead: Ahead | None = None
        self._mark = self.house.now, 0  # from when and how many bytes on its speed is measured
        self._lent: tuple[float, int, int] | None = None  # to a thread: since when, bytes moved before, and given

    def connected(self, sock: socket.SocketType, tls: TlsSocket | None = None) -> None:
        left = self._file.size - self._offset
        if left > _SMALL or self.session.private or self.house.rates is not None or not self._sent_whole(sock, left):
            super().connected(sock, tls)

    def _sent_whole(self, sock: socket.SocketType, left: int) -> bool:
        """Send a small file with one read, one send and one close, which leave as one segment; false: go on as ever.

        5 system calls and half of the time less than by way of the loop. Whatever hinders it is met again and told by
        that way: a disk that would have to be waited for, a client that takes no more, a connection that is broken.
        """
        flags = 0 if self._file.device in self.house.memory else os.RWF_NOWAIT
        try:
            count = os.preadv(self._file.fd, [_BUFFER[:left]], self._offset, flags) if left else 0
            sent = sock.send(_BUFFER[:count], _MORE) if count else 0
        except OSError:
            return False
        self.took(sent)
        self._offset += sent
        if sent < left:
            return False
        self._way = None
        self._say()
        sock.close()
        self.end("226 Transfer complete.")
        return True

    def move(self) -> None:
        left = self._file.size - self._offset
        if left and self.sock is not None:
            if self._lent is not None or self._lend(left):
                return
            if self._ahead is None:
                house = self.house
                self._ahead = Ahead(house.pool, house.memory, self._file, self.resume, self.handle_error)
            ready = self._ahead.ready(self._offset)
            if not ready:
                self.pause()
                return
            count = self.may(min(ready, max(PIECE, REACH // self.house.under_way)))
            if not count:
                return
            try:
                sent = self._piece(count)
            except BlockingIOError:
                return
            except OSError as error:
                failed(self, error)
                return
            if not sent:
                shorter(self)
                return
            self.took(sent)
            self._offset += sent
            left -= sent
        if not left:
            self.complete()

    def _piece(self, count: int) -> int:
        """Send the next `count` bytes; how many of them went. 0: there is nothing left in the file."""
        assert self.sock is not None
        return os.sendfile(self.sock.fileno(), self._file.fd, self._offset, count)

    def _lend(self, left: int) -> bool:
        """Have a thread send what comes next, if that is worth it and one is free."""
        since, before = self._mark
        if self.moved - before < senders.WINDOW or not self.threads or self._flow is not None or self.sock is None:
            return False
        now = self.house.now
        self._mark = now, self.moved
        count = senders.worth(self.moved - before, now - since, left)
        if not count:
            return False
        way = self.sock, self._file.fd, self._offset
        if not self.house.senders.send(way, count, self._returned, self.handle_error):
            return False
        self._lent = now, self.moved, count
        self.pause()
        return True

    def _returned(self, job: Job) -> None:
        """The thread is back: what it sent counts, and the loop goes on."""
        if self.over or self._lent is None or self.sock is None:
            return
        (_since, before, _count), self._lent = self._lent, None
        self.sock.setblocking(False)
        sent: int = job.value or 0
        self._offset += sent
        self.moved = before
        self.took(sent)
        self._mark = self.house.now, self.moved
        if job.error is not None and job.error.errno != errno.EAGAIN:
            failed(self, job.error)
        elif self._offset < self._file.size and not sent and job.error is None:
            shorter(self)
        else:
            self.resume()

    def _look(self, now: float) -> None:
        """What the client has confirmed while a thread sends; one that got slow is the loop's again."""
        if self._lent is None or self.sock is None:
            return
        since, before, count = self._lent
        moved = min(senders.acknowledged(self.sock), before + count)
        if moved > self.moved:
            self.moved, self.progress = moved, now
        if now - since > 2 * senders.SPAN_S:
            self.sock.setblocking(False)  # its call looks at that for every piece, and ends

    def check(self, now: float) -> None:
        self._look(now)
        super().check(now)

    def close(self) -> None:
        if self._lent is not None and self.sock is not None:
            self._look(self.house.now)
            try:
                self.sock.shutdown(socket.SHUT_RDWR)  # the thread has it open, too, and may be waiting for room
            except OSError:
                pass  # the client was first
        super().close()

    def release(self) -> None:
        if self._ahead is not None:
            self._ahead.close()
        self._file.close()
