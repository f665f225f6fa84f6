"""TLS on the server's side of control and data connections (RFC 4217): sockets that handshake step by step in the loop.

Invariant: a TlsSocket raises what a plain non-blocking socket would, and ends with b"" only when the client has said
so (close_notify). A connection that was cut is an error: an upload that somebody cut short must never count as whole.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
from typing import TYPE_CHECKING, Any, ClassVar

from appliance.ftp.data import CUT
from appliance.ftp.downloads import Download
from appliance.ftp.loop import READ, WRITE

if TYPE_CHECKING:
    from appliance.ftp.data import Transfer

PIECE = 256 << 10  # bytes that are encrypted at a time
_PIECES = 4  # of a file in one turn, so that one fast client leaves the others their share
_BUFFER = memoryview(bytearray(PIECE))  # one for the whole worker, however many clients are slow


class TlsSocket(ssl.SSLSocket):
    """One connection. Made by `Tls.wrap`; `shake` it until that is done, then use it like a plain one."""

    def shake(self) -> int:
        """Go on with the handshake; what to wait for (READ, WRITE), 0 when it is done. Raises OSError: it failed."""
        try:
            self.do_handshake()
        except ssl.SSLWantReadError:
            return READ
        except ssl.SSLWantWriteError:
            return WRITE
        except ssl.SSLError as error:
            raise _plain(error) from error
        return 0

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """As of a plain socket; with flags (MSG_PEEK) what has come, still encrypted."""
        if flags:
            return socket.socket.recv(self, buflen, flags)
        try:
            return super().recv(buflen)
        except ssl.SSLZeroReturnError:
            return b""
        except ssl.SSLError as error:
            raise _plain(error) from error

    def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:
        """As of a plain socket; at most one record, 16 KiB."""
        try:
            return super().recv_into(buffer, nbytes, flags)
        except ssl.SSLZeroReturnError:
            return 0
        except ssl.SSLError as error:
            raise _plain(error) from error

    def send(self, data: Any, flags: int = 0) -> int:
        """As of a plain socket; at most 256 KiB. After BlockingIOError the next call must begin with the same bytes."""
        with memoryview(data) as whole, whole[:PIECE] as piece:
            try:
                return super().send(piece, flags)
            except ssl.SSLError as error:
                raise _plain(error) from error

    def bye(self) -> bool:
        """Send close_notify; False when there is no room for it now. Raises OSError when the connection is broken."""
        try:
            self.unwrap()
        except ssl.SSLWantReadError:
            return True  # ours is sent; nobody waits for theirs
        except ssl.SSLWantWriteError:
            return False
        except ssl.SSLError as error:
            raise _plain(error) from error
        except ValueError:  # it was said before
            return True
        return True


def _plain(error: ssl.SSLError) -> OSError:
    """What a plain socket would have raised; its text is of OpenSSL's constants."""
    if isinstance(error, (ssl.SSLWantReadError, ssl.SSLWantWriteError)):
        return BlockingIOError(errno.EAGAIN, "not now")
    if isinstance(error, ssl.SSLEOFError) or error.reason == "UNEXPECTED_EOF_WHILE_READING":
        return ConnectionResetError(errno.ECONNRESET, CUT)
    return OSError(errno.EPROTO, (error.reason or "TLS failed").lower().replace("_", " "))


class Tls:
    """What all sessions of one worker share: the context with certificate, key, and the keys of its session tickets."""

    def __init__(self, context: ssl.SSLContext, *, reuse: bool) -> None:
        self._context, self._reuse = context, reuse
        self.download = TlsDownload
        context.sslsocket_class = TlsSocket

    def wrap(self, sock: socket.SocketType, *, tickets: bool = True) -> TlsSocket:
        """Take over a plain connection; `sock` is empty afterwards. Raises OSError when it is broken."""
        # A client that uploads reads nothing: tickets of TLS 1.3 would lie unread when it closes, and its kernel would
        # send a reset instead of the end. The number is taken over when the connection is made.
        self._context.num_tickets = 2 if tickets else 0
        try:
            made = self._context.wrap_socket(
                sock,  # type: ignore[arg-type]  # it needs no more of it
                server_side=True,
                do_handshake_on_connect=False,
                suppress_ragged_eofs=False,
            )
        except ssl.SSLError as error:
            raise _plain(error) from error
        assert isinstance(made, TlsSocket)
        return made

    def accepts(self, sock: TlsSocket) -> bool:
        """False for a data connection without the session reuse that is required."""
        return bool(sock.session_reused) or not self._reuse

    def shake(self, transfer: Transfer, sock: socket.SocketType) -> Shaking:
        """Begin the handshake of a data connection."""
        return Shaking(self, transfer, sock)


class Shaking:
    """The handshake of a data connection; `Transfer.connected` gets it when it is done. A way as Passive and Active."""

    def __init__(self, tls: Tls, transfer: Transfer, sock: socket.SocketType) -> None:
        """Raises OSError when the connection is broken already."""
        self._tls, self._transfer, self._loop = tls, transfer, transfer.house.loop
        self._sock: TlsSocket | None = tls.wrap(sock, tickets=False)
        self._events = READ
        self._loop.register(self._sock.fileno(), self, READ)

    def handle_read_event(self) -> None:
        sock = self._sock
        if sock is None:
            return
        try:
            events = sock.shake()
        except OSError as error:
            self._transfer.end("522 TLS negotiation failed on the data connection.", f"TLS: {error.strerror}")
            return
        if events:
            if events != self._events:
                self._events = events
                self._loop.modify(sock.fileno(), events)
        elif self._tls.accepts(sock):
            self._loop.unregister(sock.fileno())
            self._sock = None  # from here on it is the transfer's
            self._transfer.connected(sock, sock)
        else:
            reply = "522 The data connection must resume the TLS session of the control connection."
            self._transfer.end(reply, "TLS session not resumed")

    handle_write_event = handle_read_event

    def handle_close(self) -> None:
        self.handle_read_event()

    def handle_error(self) -> None:
        self._transfer.session.handle_error()

    def close(self) -> None:
        """Give the connection up; may be called twice."""
        if self._sock is not None:
            self._loop.unregister(self._sock.fileno())
            self._sock.close()
            self._sock = None


class TlsDownload(Download):
    """RETR of TYPE I under TLS, through the one buffer: what found no room is read again if others used it since."""

    threads = False  # OpenSSL sends, from memory
    _filled: ClassVar[tuple[TlsDownload, int] | None] = None  # whose piece lies in the buffer, from which offset
    _count: ClassVar[int] = 0

    def move(self) -> None:
        for _ in range(_PIECES):
            before = self.moved
            super().move()
            if self.over or self.moved == before:
                return

    def _piece(self, count: int) -> int:
        assert self.sock is not None
        if TlsDownload._filled != (self, self._offset):
            TlsDownload._filled = None
            TlsDownload._count = os.preadv(self._file.fd, [_BUFFER[: min(PIECE, count)]], self._offset)
            TlsDownload._filled = (self, self._offset)
        ready = min(count, TlsDownload._count)
        return self.sock.send(_BUFFER[:ready]) if ready else 0

    def release(self) -> None:
        super().release()
        if TlsDownload._filled and TlsDownload._filled[0] is self:
            TlsDownload._filled = None
