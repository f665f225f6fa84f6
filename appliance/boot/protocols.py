"""Download by HTTP, HTTPS, FTP and TFTP into a `Part`. Runs in a thread of the fetcher.

What is worth another try raises Again, what is not raises Refused, TooLarge, TooSlow or Failed.
"""

from __future__ import annotations

import ftplib
import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import unquote, unquote_to_bytes, urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError, NewConnectionError
from urllib3.util import Timeout

from appliance import __version__
from appliance.boot import journey
from appliance.boot.journey import Refused
from appliance.boot.part import Part
from appliance.cli.tftpclient import TftpClient
from appliance.cli.transfer import Local, TransferError
from appliance.cli.urls import Target

_CHUNK = 1 << 18
_AGENT = f"appliance/{__version__}"
_LATER = (408, 425, 429, 500, 502, 503, 504)


class Failed(Exception):
    """The server will not give it; the text says why."""


class Again(Exception):
    """It may work another time. `after`: seconds to wait, where the server said so."""

    def __init__(self, why: str, after: float = 0.0) -> None:
        super().__init__(why)
        self.after = after


@dataclass(frozen=True, slots=True)
class Job:
    """One download. `known`: validators of what is in the store already. `hosts`: listed for redirects."""

    id: int
    url: str
    name: str
    most: int
    hosts: tuple[str, ...] = ()
    known: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Terms:
    """How all of them are made."""

    stall_s: float
    min_rate: int
    tries: int
    proxies: Mapping[str, str]
    tls: ssl.SSLContext


@dataclass(frozen=True, slots=True)
class Got:
    """How it went. `unchanged`: the store has it already. `known`: validators of what was downloaded."""

    unchanged: bool
    final: str
    known: Mapping[str, str]


def get(job: Job, part: Part, terms: Terms) -> Got:
    """Download what is missing. Raises Again, Failed, Refused, TooLarge, TooSlow and OSError."""
    scheme = urlsplit(job.url).scheme
    if scheme in ("http", "https"):
        return _Web(job, part, terms).get()
    return _ftp(job, part, terms) if scheme == "ftp" else _tftp(job, part, terms)


# --- HTTP


class _Web:
    def __init__(self, job: Job, part: Part, terms: Terms) -> None:
        self._job, self._part, self._terms = job, part, terms
        self._first = journey.origin(job.url)[0]

    def get(self) -> Got:
        url = self._job.url
        for _ in range(journey.MOST_REDIRECTS + 1):
            try:
                answer = self._ask(url)
            except HTTPError as error:
                raise _cause(error) from error
            try:
                if answer.status in (301, 302, 303, 307, 308):
                    url = journey.redirect(url, answer.headers.get("Location", ""))
                    continue
                return self._take(url, answer)
            except HTTPError as error:
                raise Again(f"the download broke off: {_words(error)}") from error
            finally:
                answer.close()
        raise Refused(f"more than {journey.MOST_REDIRECTS} redirects, one after the other")

    def _ask(self, url: str) -> urllib3.BaseHTTPResponse:
        headers = {"User-Agent": _AGENT, "Accept-Encoding": "identity", "Accept": "*/*"}
        known = self._part.known
        if self._part.size and (validator := known.get("etag") or known.get("modified")):
            headers |= {"Range": f"bytes={self._part.size}-", "If-Range": validator}
        elif self._job.known.get("etag"):
            headers["If-None-Match"] = self._job.known["etag"]
        elif self._job.known.get("modified"):
            headers["If-Modified-Since"] = self._job.known["modified"]
        pool, target = self._pool(url)
        answer: urllib3.BaseHTTPResponse = pool.urlopen(
            "GET",
            target,
            headers=headers,
            redirect=False,
            retries=False,
            preload_content=False,
            decode_content=False,
            assert_same_host=False,
        )
        return answer

    def _pool(self, url: str) -> tuple[Any, str]:
        """What the request is made with, and how it names the file."""
        parts = urlsplit(url)
        host, port = journey.origin(url)
        patience = Timeout(connect=self._terms.stall_s, read=self._terms.stall_s)
        more: dict[str, Any] = {"timeout": patience, "maxsize": 1, "block": False}
        proxy = self._terms.proxies.get(parts.scheme)
        if proxy and not proxy_bypass_environment(host, dict(self._terms.proxies)):
            if journey.is_public(host) is False and _is_address(host):
                journey.judge(host, host, self._first, self._job.hosts)
            return urllib3.ProxyManager(proxy, ssl_context=self._terms.tls, **more), url
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        guard = _Guard(host, self._first, self._job.hosts)
        if parts.scheme == "https":
            secure = HTTPSConnectionPool(host, port, ssl_context=self._terms.tls, **more)
            secure.ConnectionCls = guard.of(HTTPSConnection)
            return secure, target
        plain = HTTPConnectionPool(host, port, **more)
        plain.ConnectionCls = guard.of(HTTPConnection)
        return plain, target

    def _take(self, url: str, answer: urllib3.BaseHTTPResponse) -> Got:
        part, headers = self._part, answer.headers
        known = {"etag": headers.get("ETag", ""), "modified": headers.get("Last-Modified", ""), "url": self._job.url}
        if known["etag"].startswith("W/"):
            known["etag"] = ""  # weak: it does not speak of bytes (RFC 9110 section 8.8.1)
        if answer.status == 304:
            return Got(True, url, self._job.known)
        if answer.status == 416 and part.size:
            part.begin({})
            raise Again("the server has another file than before")
        if answer.status == 206:
            whole = _range(headers.get("Content-Range", ""), part.size)
            if whole is None:
                part.begin({})
                raise Again("the server sent another piece than the one that was asked for")
        elif answer.status == 200:
            length = headers.get("Content-Length", "")
            whole = int(length) if length.isascii() and length.isdigit() else None
            part.begin(known)
        elif answer.status in _LATER:
            after = headers.get("Retry-After", "")
            raise Again(f"the server answered {answer.status}", float(after) if after.isdigit() else 0.0)
        else:
            raise Failed(f"the server answered {answer.status} {str(answer.reason or '')[:60]!a}")
        part.expect(whole if whole is not None and whole >= 0 else None)
        for data in answer.stream(_CHUNK):
            part.write(data)
        if part.whole is not None and part.size != part.whole:
            raise Again(f"{part.size} bytes came where {part.whole} were announced")
        return Got(False, url, part.known)


def _range(text: str, start: int) -> int | None:
    """The whole size by a Content-Range that begins at `start`, -1 when it is not told; None for another piece."""
    unit, _, rest = text.partition(" ")
    span, _, whole = rest.partition("/")
    if unit != "bytes" or not span.startswith(f"{start}-"):
        return None
    return int(whole) if whole.isascii() and whole.isdigit() else -1


class _Guard:
    """Connections to an address that was looked at: the name is not asked for again in between."""

    def __init__(self, host: str, first: str, listed: Sequence[str]) -> None:
        self._host, self._first, self._listed = host, first, listed

    def of(self, kind: type[Any]) -> type[Any]:
        """A kind of connection that is made here."""
        guard = self

        class Guarded(kind):  # type: ignore[misc]
            def _new_conn(self) -> socket.socket:
                timeout = self.timeout if isinstance(self.timeout, (int, float)) else None
                try:
                    return guard.connect(self._dns_host.strip("[]"), self.port, timeout)
                except OSError as error:
                    raise NewConnectionError(self, f"{error.strerror or error}") from error

        return Guarded

    def connect(self, host: str, port: int, timeout: float | None) -> socket.socket:
        """Raises OSError, and Refused where every address is one that a redirect may not lead to."""
        last: OSError | Refused | None = None
        for family, kind, protocol, _name, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            sock = None
            try:
                journey.judge(self._host, str(address[0]), self._first, self._listed)
                sock = socket.socket(family, kind, protocol)
                sock.settimeout(timeout)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.connect(address)
                return sock
            except (OSError, Refused) as error:
                last = error
                if sock is not None:
                    sock.close()
        raise last or OSError(f"{host} has no address")


def _is_address(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdigit()


def _cause(error: HTTPError) -> Exception:
    """What stands behind an error of urllib3: certificates do not get better by trying again."""
    cause: BaseException | None = error
    for _ in range(6):
        if isinstance(cause, Refused):
            return cause
        if isinstance(cause, ssl.SSLCertVerificationError):
            return Failed(f"the certificate of the server is not good: {cause.verify_message[:200]!a}")
        inner = [getattr(cause, "reason", None), *getattr(cause, "args", ()), getattr(cause, "__cause__", None)]
        cause = next((one for one in inner if isinstance(one, BaseException)), None)
    return Again(f"the server cannot be reached: {_words(error)}")


def _words(error: BaseException) -> str:
    text = str(error)
    return ascii((text.rpartition("): ")[2] or text or type(error).__name__)[:200])[1:-1]


# --- FTP (RFC 959, RFC 3659)


def _ftp(job: Job, part: Part, terms: Terms) -> Got:
    host, port = journey.origin(job.url)
    path = unquote(urlsplit(job.url).path)
    if any(char in path for char in "\r\n\0"):
        raise Failed("the address has a line break")
    try:
        with ftplib.FTP(timeout=terms.stall_s) as ftp:  # noqa: S321  the manifest asks for it
            ftp.connect(host, port)
            ftp.login()
            ftp.voidcmd("TYPE I")
            known = {"url": job.url, "size": _told(ftp, f"SIZE {path}"), "modified": _told(ftp, f"MDTM {path}")}
            if known["modified"] and job.known == known:
                return Got(True, job.url, known)
            if part.known != known or not known["modified"]:
                part.begin(known)
            size = known["size"]
            part.expect(int(size) if size.isascii() and size.isdigit() else None)
            with ftp.transfercmd(f"RETR {path}", part.size or None) as data:
                while block := data.recv(_CHUNK):
                    part.write(block)
            ftp.voidresp()
            if part.whole is not None and part.size != part.whole:
                raise Again(f"{part.size} bytes came where {part.whole} were announced")
            return Got(False, job.url, known)
    except ftplib.error_perm as error:
        raise Failed(f"the server answered {str(error)[:200]!a}") from error
    except (ftplib.Error, EOFError, UnicodeError) as error:
        raise Again(f"the server broke off: {str(error)[:200]!a}") from error
    except (TimeoutError, ConnectionError, socket.gaierror) as error:
        raise Again(f"the server cannot be reached: {error.strerror or 'it is silent'}") from error


def _told(ftp: ftplib.FTP, command: str) -> str:
    try:
        answer = ftp.sendcmd(command)
    except ftplib.error_perm:
        return ""
    return answer[4:].strip()[:40] if answer.startswith("213") else ""


# --- TFTP (RFC 1350): it cannot be continued


def _tftp(job: Job, part: Part, terms: Terms) -> Got:
    host, port = journey.origin(job.url)
    path = unquote_to_bytes(urlsplit(job.url).path.removeprefix("/"))
    part.begin({"url": job.url})
    target = Target("tftp", host, port, path)
    try:
        TftpClient(min(terms.stall_s, 10.0)).fetch(target, cast("Local", _Sink(part)), lambda _count, _size: None)
    except TransferError as error:
        raise (Failed if error.reached else Again)(str(error)[:300]) from error
    return Got(False, job.url, {})


class _Sink:
    """A Part as a file to be written."""

    def __init__(self, part: Part) -> None:
        self._part = part

    def write(self, data: bytes) -> int:
        """The next block."""
        self._part.write(bytes(data))
        return len(data)

    def close(self) -> None:
        """The part is closed by who opened it."""
