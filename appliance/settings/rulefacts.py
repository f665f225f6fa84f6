"""What several rules look at: listeners, what is served, where is uploaded into. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

from appliance.settings.finding import Finding, Path
from appliance.settings.ftp import IncomingSettings
from appliance.settings.main import Settings
from appliance.settings.tftp import TftpUploads

Rules: TypeAlias = tuple[Callable[[Settings], Iterator[Finding]], ...]


def listeners(settings: Settings) -> list[tuple[str, Path, str]]:
    """What is listened on: protocol, key, and the text of the address."""
    found: list[tuple[str, Path, str]] = []
    if settings.tftp.enabled:
        found += [("udp", ("tftp", "listen", i), text) for i, text in enumerate(settings.tftp.listen)]
        found += [("udp", ("tftp", "sites", i, "listen"), site.listen) for i, site in enumerate(settings.tftp.sites)]
    if settings.ftp.enabled:
        found += [("tcp", ("ftp", "listen", i), text) for i, text in enumerate(settings.ftp.listen)]
        for i, site in enumerate(settings.ftp.sites):
            found += [("tcp", ("ftp", "sites", i, "listen", j), text) for j, text in enumerate(site.listen)]
        if settings.ftp.tls.mode != "off":
            found += [("tcp", path, text) for path, text in implicit(settings)]
    return found


def implicit(settings: Settings) -> Iterator[tuple[Path, str]]:
    """Where connections begin with TLS."""
    yield from ((("ftp", "tls", "implicit_listen", i), text) for i, text in enumerate(settings.ftp.tls.implicit_listen))
    for i, site in enumerate(settings.ftp.sites):
        yield from ((("ftp", "sites", i, "implicit_listen", j), text) for j, text in enumerate(site.implicit_listen))


def served(settings: Settings) -> list[tuple[str, str]]:
    """The services that are on, each with its root."""
    services = (("tftp", settings.tftp), ("ftp", settings.ftp))
    return [(name, service.root) for name, service in services if service.enabled]


def upload_boxes(settings: Settings) -> list[tuple[Path, str, IncomingSettings | TftpUploads]]:
    """The folders that are uploaded into: section, absolute path, settings."""
    found: list[tuple[Path, str, IncomingSettings | TftpUploads]] = []
    if settings.ftp.enabled and settings.ftp.incoming.enabled:
        found.append((("ftp", "incoming"), settings.ftp.root, settings.ftp.incoming))
    if settings.tftp.enabled and settings.tftp.uploads.mode != "none":
        found.append((("tftp", "uploads"), settings.tftp.root, settings.tftp.uploads))
    return [(base, f"{root.rstrip('/')}/{box.path}", box) for base, root, box in found]


def dotted(path: Path) -> str:
    """A key as it is told: ftp.sites[0].listen."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)[1:]
