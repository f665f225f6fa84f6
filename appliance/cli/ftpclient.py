"""The FTP client half: ftplib, anonymous, passive by EPSV (RFC 2428) and so over IPv4 and IPv6 alike."""

from __future__ import annotations

import ftplib
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

from appliance.cli.progress import Moved
from appliance.cli.transfer import Finding, Local, Moving, TransferError
from appliance.cli.urls import Target
from appliance.observe.text import printable

_PIECE = 1 << 18


class FtpClient:
    """Gives up after `timeout` seconds of silence. With `trust` only under TLS. See `transfer.Client`."""

    def __init__(self, timeout: float, trust: ssl.SSLContext | None = None) -> None:
        self._timeout, self._trust = timeout, trust

    def probe(self, target: Target) -> Finding:
        """Log in; for a file fetch its first byte, for a folder (an empty last part) only enter it."""
        begun = time.monotonic()
        with self._session(target) as ftp:
            if not target.basename:
                ftp.cwd(_name(target) or "/")
                return Finding(None, None, ftp.agreed())
            ftp.voidcmd("TYPE I")
            size = ftp.size_if_told(_name(target))
            with closing(ftp.transfercmd(f"RETR {_name(target)}")) as data:
                data.recv(1)
            found = Finding(size, round((time.monotonic() - begun) * 1000, 3), ftp.agreed())
            ftp.last_words()
        return found

    def fetch(self, target: Target, sink: Local, moved: Moved) -> Moving:
        """Fetch the file; it must have the size that SIZE told (RFC 3659 section 4)."""
        begun = time.monotonic()
        with self._session(target) as ftp:
            ftp.voidcmd("TYPE I")
            size = ftp.size_if_told(_name(target))
            count = 0
            with closing(ftp.transfercmd(f"RETR {_name(target)}")) as data:
                while piece := data.recv(_PIECE):
                    sink.write(piece)
                    count += len(piece)
                    moved(count, size)
            ftp.voidresp()
            if size is not None and size != count:
                raise TransferError(f"{count} bytes came where {size} were announced", reached=True)
            return Moving(count, time.monotonic() - begun, ftp.agreed())

    def send(self, target: Target, source: Local, size: int | None, moved: Moved) -> Moving:
        """Send the file; it is there only when the server says so after the last byte."""
        begun = time.monotonic()
        with self._session(target) as ftp:
            ftp.voidcmd("TYPE I")
            with closing(ftp.transfercmd(f"STOR {_name(target)}")) as data:
                count = _pour(source, data, size, moved)
                if count is not None:
                    ftp.end_data(data)
            ftp.voidresp()
            if count is None:
                raise TransferError("the server stopped reading", reached=True)
            return Moving(count, time.monotonic() - begun, ftp.agreed())

    @contextmanager
    def _session(self, target: Target) -> Iterator[Session]:
        """A logged-in session. Everything that can go wrong becomes TransferError, the server's own words first."""
        # latin-1: names and replies are bytes, and ftplib wants text
        ftp = self._new(implicit=target.scheme == "ftps")
        try:
            with closing(ftp):
                ftp.reach(target.host, target.port)
                ftp.begin()
                yield ftp
                ftp.bye()
        except ftplib.Error as error:
            raise TransferError(f"the server refuses: {_shown(error)}", reached=True) from error
        except EOFError as error:
            raise TransferError("the server closed the connection", reached=ftp.reached) from error
        except TimeoutError as error:
            raise TransferError(f"silence for {self._timeout:g} s", reached=ftp.reached) from error
        except ConnectionRefusedError as error:
            raise TransferError(f"nothing listens on {target.host} port {target.port}", reached=False) from error
        except ssl.SSLCertVerificationError as error:
            why = f"{error.verify_message} (name a file with the certificate that is to be trusted: --cacert FILE)"
            raise TransferError(f"the certificate of {target.host} is refused: {why}", reached=True) from error
        except ssl.SSLError as error:
            why = (error.reason or "broken").lower().replace("_", " ")
            raise TransferError(f"TLS with {target.host} failed: {why}", reached=True) from error
        except (OSError, ValueError) as error:  # ValueError: a reply that is none
            why = getattr(error, "strerror", None) or str(error)
            raise TransferError(f"cannot talk to {target.host}: {why}", reached=ftp.reached) from error

    def _new(self, *, implicit: bool) -> Session:
        if self._trust is None:
            return Session(timeout=self._timeout, encoding="latin-1")
        from appliance.cli.ftpsclient import TlsSession

        return TlsSession(self._trust, implicit=implicit, timeout=self._timeout, encoding="latin-1")


class Session(ftplib.FTP):
    """ftplib with EPSV for both families, and endings that do not hide what happened before."""

    _passive = ""

    def reach(self, host: str, port: int) -> None:
        """Connect, and hear the greeting."""
        self.connect(host, port)

    def begin(self) -> None:
        """Log in."""
        self.login()

    def end_data(self, data: socket.socket) -> None:
        """Say that this was all; without TLS closing the connection does."""

    @property
    def reached(self) -> bool:
        """The server has greeted."""
        return bool(self.welcome)

    def makepasv(self) -> tuple[str, int]:
        """EPSV; over IPv4 PASV when the server does not know it."""
        try:
            assert self.sock is not None
            # anonymous and in the clear is what this protocol is
            address = ftplib.parse229(self.sendcmd("EPSV"), self.sock.getpeername())  # noqa: S321
            self._passive = "EPSV"
        except ftplib.error_perm:
            if self.af != socket.AF_INET:
                raise
            address = super().makepasv()
            self._passive = "PASV"
        return str(address[0]), int(address[1])

    def agreed(self) -> dict[str, str]:
        """How the data was moved."""
        return {"type": "I", "passive": self._passive} if self._passive else {}

    def size_if_told(self, name: str) -> int | None:
        """The size of a file; None when the server does not tell."""
        try:
            return self.size(name)
        except ftplib.error_perm:
            return None

    def last_words(self) -> None:
        """Take the reply to a transfer that we ended ourselves, whatever it says."""
        try:
            self.voidresp()
        except ftplib.Error:
            pass

    def bye(self) -> None:
        """QUIT; what was asked for is done by then, so nothing that goes wrong here matters."""
        try:
            self.quit()
        except (*ftplib.all_errors,):
            pass


def _pour(source: Local, data: socket.socket, size: int | None, moved: Moved) -> int | None:
    """Send all of `source`; None when the server does not take it: its reply tells why."""
    count = 0
    while piece := source.read(_PIECE):
        try:
            data.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            return None
        count += len(piece)
        moved(count, size)
    return count


def _name(target: Target) -> str:
    return target.path.decode("latin-1")


def _shown(error: Exception) -> str:
    return printable(str(error).replace("\n", " ").encode("latin-1", "replace"))
