"""The FTP client half under TLS (RFC 4217): by AUTH on ftp://, from the first byte on ftps://."""

from __future__ import annotations

import ftplib
import socket
import ssl

from appliance.cli.ftpclient import Session


def context(authorities: str | None) -> ssl.SSLContext:
    """What servers are trusted by: the authorities of this machine, or those in a PEM file. Raises OSError."""
    made = ssl.create_default_context(cafile=authorities)
    made.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)  # a connection that was cut is no end of a file
    return made


class TlsSession(Session, ftplib.FTP_TLS):
    """Logs in, lists and moves data under TLS only. `implicit`: TLS begins with the connection."""

    def __init__(self, trust: ssl.SSLContext, *, implicit: bool, timeout: float, encoding: str) -> None:
        super().__init__(context=trust, timeout=timeout, encoding=encoding)
        self._implicit = implicit

    def reach(self, host: str, port: int) -> None:
        """Connect, under TLS at once if that is agreed beforehand."""
        if not self._implicit:
            super().reach(host, port)
            return
        self.host, self.port = host, port
        plain = socket.create_connection((host, port), self.timeout)
        self.sock = self.context.wrap_socket(plain, server_hostname=host)
        self.af = self.sock.family
        self.file = self.sock.makefile("r", encoding=self.encoding)
        self.welcome = self.getresp()

    def begin(self) -> None:
        """Log in, and have data connections under TLS too."""
        self.login()
        self.prot_p()

    def ntransfercmd(self, cmd: str, rest: int | str | None = None) -> tuple[socket.socket, int | None]:
        """A data connection that resumes the session of the control connection: servers may insist on it."""
        data, size = super(ftplib.FTP_TLS, self).ntransfercmd(cmd, rest)
        session = self.sock.session if isinstance(self.sock, ssl.SSLSocket) else None
        return self.context.wrap_socket(
            data, server_hostname=self.host, session=session, suppress_ragged_eofs=False
        ), size

    def end_data(self, data: socket.socket) -> None:
        """Say that this was all (close_notify), and wait until the server has said the same."""
        if isinstance(data, ssl.SSLSocket):
            data.unwrap().close()

    def agreed(self) -> dict[str, str]:
        """How the data was moved."""
        version = self.sock.version() if isinstance(self.sock, ssl.SSLSocket) else None
        return {**super().agreed(), **({"tls": version} if version else {})}
