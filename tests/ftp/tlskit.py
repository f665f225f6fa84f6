"""Certificates, TLS clients and servers for the tests of FTP over TLS."""

from __future__ import annotations

import ftplib
import io
import socket
import ssl
import subprocess
from pathlib import Path
from typing import Any

from appliance.settings.ftp import FtpSettings, TlsSettings
from tests.ftp.serving import SECONDS, Raw, Server, settings


def openssl(*words: str, cwd: Path) -> None:
    subprocess.run(["openssl", *words], cwd=cwd, check=True, capture_output=True, timeout=60)


def certificate(folder: Path, name: str = "one", *, days: int = 30, more: tuple[str, ...] = ()) -> tuple[Path, Path]:
    """A new self-signed certificate for 127.0.0.1 and its key."""
    made = (folder / f"{name}.crt", folder / f"{name}.key")
    openssl(
        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", f"/CN={name}",
        "-days", str(days), "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", *more,
        "-keyout", str(made[1]), "-out", str(made[0]), cwd=folder,
    )  # fmt: skip
    return made


def expired(folder: Path, name: str = "one") -> tuple[Path, Path]:
    """As `certificate`, of the year 2020."""
    made = certificate(folder, name)
    (folder / "ca.cnf").write_text(
        "[ca]\ndefault_ca=us\n[us]\ndatabase=ca.db\nnew_certs_dir=.\nrand_serial=yes\ndefault_md=sha256\npolicy=any\n"
        "x509_extensions=names\n[any]\ncommonName=supplied\n[names]\nsubjectAltName=IP:127.0.0.1\n"
    )
    (folder / "ca.db").touch()
    openssl("req", "-new", "-key", str(made[1]), "-subj", f"/CN={name}", "-out", "request", cwd=folder)
    words = ["-config", "ca.cnf", "-keyfile", str(made[1]), "-in", "request", "-out", str(made[0]), "-notext"]
    dates = ["-startdate", "20200101000000Z", "-enddate", "20201231000000Z"]
    openssl("ca", "-batch", "-selfsign", *words, *dates, cwd=folder)
    return made


def secured(pair: tuple[Path, Path], *, tls: dict[str, Any] | None = None, **changes: Any) -> FtpSettings:
    """Settings with TLS; `mode` may be given, and other keys of the section as `tls`."""
    keys = {"mode": changes.pop("mode", "optional"), "certificate": str(pair[0]), "key": str(pair[1])}
    return settings(tls=TlsSettings(**{**keys, **(tls or {})}), **changes)


def trusting(pair: tuple[Path, Path], version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    """A client's context that accepts this certificate and no other."""
    context = ssl.create_default_context(cafile=str(pair[0]))
    context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)  # a cut connection is an error, not an end
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


class Client(ftplib.FTP_TLS):
    """ftplib over TLS that resumes the session of the control connection, and can begin with TLS."""

    resume = True
    implicit = False

    def connect(self, *words: Any, **named: Any) -> str:
        if not self.implicit:
            return super().connect(*words, **named)
        self.host, self.port = words
        self.sock = self.context.wrap_socket(
            socket.create_connection(words, timeout=SECONDS), server_hostname="127.0.0.1"
        )
        self.af = self.sock.family
        self.file = self.sock.makefile("r", encoding=self.encoding)
        self.welcome = self.getresp()
        return self.welcome

    def ntransfercmd(self, cmd: str, rest: Any = None) -> tuple[socket.socket, int | None]:
        data, size = ftplib.FTP.ntransfercmd(self, cmd, rest)
        if self._prot_p:  # type: ignore[attr-defined]
            session = self.sock.session if self.resume else None  # type: ignore[union-attr]
            data = self.context.wrap_socket(data, server_hostname="127.0.0.1", session=session)
        return data, size


def client(running: Server, context: ssl.SSLContext, *, private: bool = True, port: int = 0, **marks: Any) -> Client:
    """Logged in under TLS, data connections too."""
    made = Client(context=context, timeout=SECONDS, encoding="latin-1")
    for name, value in marks.items():
        setattr(made, name, value)
    running.clients.append(made)
    made.connect(running.host, port or running.port)
    made.login(secure=not made.implicit)
    if private:
        made.prot_p()
    return made


class TlsRaw(Raw):
    """A control connection by hand that begins in the clear and turns to TLS."""

    def turn(self, context: ssl.SSLContext, *, session: ssl.SSLSession | None = None) -> None:
        assert self.ask("AUTH TLS").startswith("234")
        self.handshake(context, session=session)

    def handshake(self, context: ssl.SSLContext, *, session: ssl.SSLSession | None = None) -> None:
        self.file.close()
        sealed = context.wrap_socket(
            self.sock, server_hostname="127.0.0.1", session=session, do_handshake_on_connect=False
        )
        self.sock = sealed  # before it shakes: a failure leaves it to `close`
        sealed.do_handshake()
        self.file = sealed.makefile("rb")

    def closed(self) -> bool:
        try:
            return super().closed()
        except ssl.SSLError:
            return True

    def log_in(self, *, private: bool = True) -> None:
        assert self.ask("USER anonymous").startswith("331")
        assert self.ask("PASS me@example.org").startswith("230")
        if private:
            assert self.ask("PBSZ 0").startswith("200")
            assert self.ask("PROT P").startswith("200")


def fetched(made: ftplib.FTP, command: str) -> bytes:
    """The data of a command, in TYPE I."""
    got = io.BytesIO()
    made.retrbinary(command, got.write)
    return got.getvalue()


def refusal(made: ftplib.FTP, command: str) -> str:
    """The reply to a transfer whose data connection is ended by the server."""
    try:
        fetched(made, command)
    except ftplib.Error as error:
        return str(error)
    except OSError:  # the data connection told it first
        return made.getmultiline()
    return ""
