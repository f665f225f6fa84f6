"""tftp://, ftp:// and ftps:// addresses to values. Pure; raises UrlError, whose text is for the person who typed."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote_to_bytes, urlsplit

PORTS = {"tftp": 69, "ftp": 21, "ftps": 990}


class UrlError(ValueError):
    """The address cannot be used; the text says why."""


@dataclass(frozen=True, slots=True)
class Target:
    """One file on one server; no `host` is the appliance of this machine. `path`: unquoted, after the host's slash."""

    scheme: str
    host: str
    port: int
    path: bytes

    @property
    def basename(self) -> str:
        """The last part of the path as a file name; empty when it names none."""
        name = self.path.rsplit(b"/", 1)[-1]
        return "" if name in (b".", b"..") else name.decode("utf-8", "surrogateescape")


def parse(url: str) -> Target:
    """Read an address (RFC 3617; RFC 1738 section 3.2), without users, types and modes. Raises UrlError."""
    try:
        parts = urlsplit(url, allow_fragments=False)
        port = parts.port
    except ValueError as error:
        raise UrlError(f"{url!r} is no address: {error}") from error
    scheme = parts.scheme
    if scheme not in PORTS:
        raise UrlError(f"{url!r} begins with none of tftp://, ftp:// and ftps://")
    if "@" in parts.netloc:
        raise UrlError("only anonymous access is spoken: take the user out of the address")
    if not parts.hostname and parts.netloc:
        raise UrlError(f"{url!r} names a port but no host")
    path = unquote_to_bytes(parts.path.removeprefix("/") + (f"?{parts.query}" if parts.query else ""))
    if any(byte < 0x20 or byte == 0x7F for byte in path):  # would end the command (FTP) or the name (TFTP)
        raise UrlError("control characters cannot be part of a name")
    return Target(scheme, parts.hostname or "", PORTS[scheme] if port is None else port, path)
