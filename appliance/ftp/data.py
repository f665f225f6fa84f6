"""Transfers, and those that send what is made on the way: listings, and RETR of TYPE A.

A transfer lives from the command that asks for it to the one reply that ends it (RFC 959 section 5.4). Its data
connection is made when it wants it, and the first piece is sent at once: a small file costs one accept, one sendfile
and no turn of the loop.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING

from appliance.ftp import ascii
from appliance.ftp.ahead import PIECE, Ahead
from appliance.ftp.connections import Active, Passive
from appliance.ftp.filesystem import OpenFile
from appliance.ftp.loop import WRITE
from appliance.ftp.renderings import Reader

if TYPE_CHECKING:
    from appliance.ftp.rates import Flow
    from appliance.ftp.session import Session
    from appliance.ftp.tls import Shaking, TlsSocket

CUT = "cut without close_notify"  # how a data connection under TLS ends that its client did not end
_TEXT_PIECE = PIECE // 4
_PIECES = 3  # of a stream in one turn, so that a short listing needs no second one
_CONNECT_S = 30.0  # for the data connection to come about


class Transfer:
    """One transfer; `moved` bytes so far. Subclasses move data in `move()` and name their loop event in `events`."""

    events = WRITE

    def __init__(self, session: Session, verb: str, path: str) -> None:
        self.session, self.verb, self.path = session, verb, path
        self.house = session.house
        self.house.counters.add("under_way")
        self.house.under_way += 1
        self.sock: socket.SocketType | None = None
        self.moved = 0
        self.number = 0  # under which it is told of; 0 until it has lasted a while
        self.size = -1  # of the file; unknown
        self.layer = b"static"  # where the file lies
        self.started = self.progress = self.house.now
        self.over = False
        self._said = False
        self._watched = False
        self._flow: Flow | None = None
        self._way: Passive | Active | Shaking | None = None
        self._tls: TlsSocket | None = None  # the same as `sock`, when it is under TLS

    def start(self) -> None:
        """Take the arranged connection, or wait for it."""
        session = self.session
        if session.listener is not None:
            self._way, session.listener = session.listener, None
            sock = self._way.take()
            if sock is None:
                self._say()
                self._way.wait(self)
            else:
                self._way.close()
                self.connected(sock)
        else:
            port, session.target = session.target, 0
            self._way = Active(self, port)

    def connected(self, sock: socket.SocketType, tls: TlsSocket | None = None) -> None:
        """The data connection stands: move what can be moved at once. After PROT P it comes twice, then as `tls`."""
        self._way = None
        if tls is None:
            sock.setblocking(False)
        self.progress = self.house.now
        if self.house.rates is not None and self._flow is None:
            assert self.session.bucket is not None
            self._flow = self.house.rates.join(self.session.client, self.session.bucket, self.house.now, self._go_on)
        self._say()
        if self.session.private and tls is None:
            self._shake(sock)
            return
        self.sock, self._tls = sock, tls
        self.move()
        if not self.over and not self._watched and sock.fileno() >= 0:  # an upload may have ended already
            self._watch(self.events)

    def _shake(self, sock: socket.SocketType) -> None:
        assert self.session.tls is not None
        try:
            self._way = self.session.tls.shake(self, sock)
        except OSError as error:  # it is gone again
            sock.close()
            self.broken(error.errno or errno.EIO)

    def _say(self) -> None:
        if not self._said:
            self._said = True
            self.session.respond(f"150 Data connection for {self.verb}.")

    def _watch(self, events: int) -> None:
        assert self.sock is not None
        if self._watched:
            self.house.loop.modify(self.sock.fileno(), events)
        else:
            self._watched = True
            self.house.loop.register(self.sock.fileno(), self, events)

    def move(self) -> None:
        """Move the next piece."""
        raise NotImplementedError

    def may(self, count: int) -> int:
        """How many of `count` bytes may be moved now; at 0 the transfer leaves the loop until it may move again."""
        if self._flow is None:
            return count
        allowed = self._flow.may(count, self.house.now)
        if not allowed:
            self._watch(0)
        return allowed

    def took(self, count: int) -> None:
        """So many bytes were moved."""
        self.progress = self.house.now
        self.moved += count
        if self._flow is not None:
            self._flow.took(count)

    def _go_on(self) -> None:
        if self.sock is not None:
            self._watch(self.events)

    def pause(self) -> None:
        """Wait for something that is no socket; `resume` goes on. The end of the connection is still noticed."""
        self.events = 0
        if self._watched:
            self._watch(0)

    def resume(self) -> None:
        """Go on where `pause` was called."""
        if self.over:
            return
        self.events = type(self).events
        self.move()
        if not self.over and self._watched:
            self._watch(self.events)

    def complete(self) -> None:
        """All is sent: end, under TLS after close_notify, without which the client cannot tell it from a cut."""
        try:
            said = self._tls is None or self._tls.bye()
        except OSError as error:
            failed(self, error)
            return
        if said:
            self.end("226 Transfer complete.")  # otherwise `move` comes here again, when there is room

    def end(self, reply: str, cause: str = "") -> None:
        """Close the data connection, then reply (RFC 959 section 3.3). `cause` is for the operator; "" is success."""
        if self.over:
            return
        self.close()
        self.session.transfer_over(self, reply, cause)

    def close(self) -> None:
        """Let everything go without a word; may be called twice."""
        if not self.over:
            self.house.counters.add("under_way", -1)
            self.house.under_way -= 1
        self.over = True
        if self._flow is not None:
            self._flow.leave()
            self._flow = None
        if self._way is not None:
            self._way.close()
            self._way = None
        if self.sock is not None:
            if self._watched:
                self.house.loop.unregister(self.sock.fileno())
            self.sock.close()
            self.sock = None
        self.release()

    def release(self) -> None:
        """Let go what the subclass holds; may be called twice."""

    def check(self, now: float) -> None:
        """Once a second: end a transfer that does not move."""
        if self.sock is None:
            if now - self.progress > _CONNECT_S:
                self.end("425 Cannot open data connection.", "no data connection came about")
        elif now - self.progress > self.house.settings.limits.stall_timeout:
            self.end("426 Transfer stalled; aborted.", "stalled")

    # --- what the loop calls

    def handle_read_event(self) -> None:
        self.move()

    def handle_write_event(self) -> None:
        if self._tls is not None:
            self.progress = (
                self.house.now
            )  # there is room: the client reads, though a piece may take long to be counted
        self.move()

    def handle_close(self) -> None:
        self.broken(errno.ECONNRESET)

    def handle_error(self) -> None:
        self.session.handle_error()

    def broken(self, number: int, cause: str = "") -> None:
        """The data connection failed; `cause`, where more is known than the number says."""
        self.end(f"426 Data connection {way(cause)}; transfer aborted.", cause or os.strerror(number))


class Stream(Transfer):
    """Sends what an iterator yields: a listing, or a file of TYPE A. b"": nothing yet, a `Reader` tells when."""

    def __init__(self, session: Session, verb: str, path: str, pieces: Iterator[bytes], file: OpenFile | None) -> None:
        super().__init__(session, verb, path)
        self._pieces, self._file = pieces, file
        self.layer = file.layer.encode() if file else self.layer
        self._left = memoryview(b"")
        self._offset = 0  # in the file
        self._ahead = Ahead(self.house.pool, self.house.memory, file, self.resume, self.handle_error) if file else None

    def move(self) -> None:
        for _ in range(_PIECES):
            if self.over or not (self._left or self._fetch()) or not self._send():
                return

    def _fetch(self) -> bool:
        """Get the next piece; False when there is none now or the transfer has ended."""
        if self._ahead is not None and self._file is not None and self._offset < self._file.size:
            if not self._ahead.ready(self._offset):
                self.pause()
                return False
            self._offset += _TEXT_PIECE
        try:
            self._left = memoryview(next(self._pieces))
        except StopIteration:
            self.complete()
        except EOFError:
            shorter(self)
        except OSError as error:  # from the disk
            self.end("451 Local error; transfer aborted.", os.strerror(error.errno or errno.EIO))
        made = self._pieces
        if not self._left and not self.over and isinstance(made, Reader) and made.wait(self.resume, self.handle_error):
            self.pause()
        return not self.over and bool(self._left)

    def _send(self) -> bool:
        """Send what is left; True when all of it went."""
        count = 0 if self.sock is None else self.may(len(self._left))
        if not count or self.sock is None:
            return False
        try:
            sent = self.sock.send(self._left[:count])
        except BlockingIOError:
            return False
        except OSError as error:
            failed(self, error)
            return False
        self.took(sent)
        self._left = self._left[sent:]
        return not self._left

    def release(self) -> None:
        close = getattr(self._pieces, "close", None)
        if close is not None:
            close()
        if self._ahead is not None:
            self._ahead.close()
        if self._file is not None:
            self._file.close()


def text_of(file: OpenFile) -> Iterator[bytes]:
    """A file in TYPE A, piece by piece. Raises EOFError when it has become shorter meanwhile."""
    offset, after_cr = 0, False
    while piece := os.pread(file.fd, min(_TEXT_PIECE, file.size - offset), offset):
        offset += len(piece)
        yield ascii.to_wire(piece, after_cr)
        after_cr = piece.endswith(b"\r")
    if offset < file.size:
        raise EOFError


def shorter(transfer: Transfer) -> None:
    """End a download whose file was cut while it was sent."""
    transfer.end("451 The file became shorter; transfer aborted.", "the file was cut while it was sent")


def way(cause: str) -> str:
    """What the client is told of how its data connection ended: it can mend the one thing that is its own fault."""
    return cause if cause == CUT else "closed"


def failed(transfer: Transfer, error: OSError) -> None:
    """Tell a broken connection from a broken disk: sendfile reports both."""
    number = error.errno or errno.EIO
    if number in (
        errno.EPIPE,
        errno.ECONNRESET,
        errno.ENOTCONN,
        errno.ETIMEDOUT,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.EPROTO,  # of TLS
    ):
        transfer.broken(number)
    else:
        transfer.end("451 Local error; transfer aborted.", os.strerror(number))
