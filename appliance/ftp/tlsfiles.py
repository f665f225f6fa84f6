"""Certificate and key from their files to a context that handshakes; what is wrong with them, with its remedy.

Used by a worker before it is locked in, and by `check`, so that both judge alike.
"""

from __future__ import annotations

import os
import ssl
import stat
import time
from dataclasses import dataclass
from typing import Protocol

from appliance.ftp import validity

# Of TLS 1.2 only what keeps its secrets when the key is lost later, and no CBC; TLS 1.3 has nothing else.
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
_LARGEST = 1 << 20
_DAY = 86400


class Pair(Protocol):
    """Settings that name a certificate, and a key where that is not in the same file."""

    @property
    def certificate(self) -> str | None: ...
    @property
    def key(self) -> str | None: ...


class Unusable(Exception):
    """A file cannot be used: which setting, what is wrong, what mends it."""

    def __init__(self, key: str, what: str, remedy: str) -> None:
        super().__init__(f"{key}: {what} ({remedy})")
        self.key, self.what, self.remedy = key, what, remedy


@dataclass(frozen=True, slots=True)
class Loaded:
    """A context for the server's side, and from when until when its certificate holds."""

    context: ssl.SSLContext
    valid: validity.Validity

    def outdated(self) -> str:
        """Why a client would refuse the certificate now, "" when it holds."""
        now = time.time()
        if now > self.valid.ends:
            return f"the certificate expired on {day(self.valid.ends)}"
        return f"the certificate holds from {day(self.valid.begins)} only" if now < self.valid.begins else ""


def day(seconds: float) -> str:
    """A time as a day, UTC."""
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


def days_left(valid: validity.Validity) -> int:
    """Whole days until the certificate expires."""
    return int((valid.ends - time.time()) // _DAY)


def load(tls: Pair, where: str = "ftp.tls") -> Loaded:
    """Read both files, whose settings are at `where`. Raises Unusable."""
    certificate = tls.certificate or ""
    pem = _read(f"{where}.certificate", certificate)
    try:
        valid = validity.of(pem)
    except ValueError as error:
        remedy = f"openssl x509 -in {certificate} -noout -text shows what it is"
        raise Unusable(f"{where}.certificate", f"{certificate}: {error}", remedy) from error
    holder = f"{where}.key" if tls.key else f"{where}.certificate"
    key = tls.key or certificate
    if b"PRIVATE KEY-----" not in (_read(holder, key) if tls.key else pem):
        raise Unusable(
            holder, f"{key}: there is no private key in it", f"name the file with the private key: {where}.key"
        )
    context = _context(holder, certificate, key)
    try:
        _handshake(context)
    except ssl.SSLError as error:
        what = f"{key}: no client can use it: {_reason(error)}"
        raise Unusable(holder, what, "appliance tls self-signed --name HOST makes one that clients know") from error
    return Loaded(context, valid)


def key_is_open(tls: Pair) -> str:
    """The file of the private key when every user of the machine can read or write it, "" otherwise. Raises OSError."""
    path = tls.key or tls.certificate or ""
    return path if os.stat(path).st_mode & (stat.S_IROTH | stat.S_IWOTH) else ""


def open_key(tls: Pair, where: str) -> tuple[str, str, str] | None:
    """Which setting, what is wrong and what mends it, where everybody can have the private key. Raises OSError."""
    readable = key_is_open(tls)
    if not readable:
        return None
    what = f"{readable} holds the private key, and every user of this machine can read or write it"
    return f"{where}.key" if tls.key else f"{where}.certificate", what, f"chmod o-rwx {readable}"


def _context(holder: str, certificate: str, key: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    # Python has OpenSSL 3 take a cut connection for an orderly end; then a forged FIN would make an upload complete
    context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    context.set_ciphers(_CIPHERS)
    look = f"openssl pkey -in {key} -noout; openssl x509 -in {certificate} -noout -text"
    try:
        context.load_cert_chain(certificate, key, password=_no_passphrase)
    except _Encrypted:
        remedy = f"openssl pkey -in {key} -out NEW writes it without; keep NEW at mode 0600"
        raise Unusable(holder, f"{key} needs a passphrase, and nobody is there to type it", remedy) from None
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            remedy = "name the two files that were made together"
            raise Unusable(holder, f"{key} is not the key of {certificate}", remedy) from error
        what = f"{certificate} with {key} cannot be used: {_reason(error)}"
        raise Unusable(holder, what, f"{look} tell more") from error
    except OSError as error:  # it was changed since it was read
        raise Unusable(holder, f"{key} cannot be read: {error.strerror}", "try again") from error
    return context


def _handshake(context: ssl.SSLContext) -> None:
    """One of each version, in memory: the key is tried, and what OpenSSL loads at the first one is there afterwards."""
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
        client.minimum_version = client.maximum_version = version
        here, there = ssl.MemoryBIO(), ssl.MemoryBIO()
        ours = context.wrap_bio(there, here, server_side=True)
        theirs = client.wrap_bio(here, there)
        for side in (theirs, ours) * 3:
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
        theirs.write(b"x")
        ours.read(1)
        ours.version()


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or "not what it should be").lower().replace("_", " ")


class _Encrypted(Exception):
    """OpenSSL asked for a passphrase; unanswered it would ask the terminal."""


def _no_passphrase() -> str:
    raise _Encrypted


def _read(key: str, path: str) -> bytes:
    try:
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise Unusable(key, f"{path} is no regular file", "name a PEM file")
            return file.read(_LARGEST)
    except FileNotFoundError as error:
        remedy = "name the file, or make one: appliance tls self-signed --name HOST"
        raise Unusable(key, f"there is no file {path}", remedy) from error
    except OSError as error:
        raise Unusable(key, f"{path} cannot be read: {error.strerror}", f"namei -l {path} shows why") from error
