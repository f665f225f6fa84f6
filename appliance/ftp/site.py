"""One face of the server: its folder, its rules, its greeting, its clients. Which one a session sees is decided here.

A session begins with the site of the listener it came in by and may choose another by HOST (RFC 7151) until it logs in.
Every worker is locked into the one root of the service, so a site's folder is a view, not a prison: a symbolic link
inside it may lead to whatever the service serves, and to nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from appliance.ftp.addresses import Networks
from appliance.ftp.folders import Listings
from appliance.ftp.policy import Rules
from appliance.ftp.renderings import Renderings
from appliance.settings.ftp import FtpSettings, FtpSite

if TYPE_CHECKING:
    from appliance.ftp.tls import Tls

FULL = "421 Too many sessions on this site. Try again later."
NOT_SERVED = "421 This service is not for your address."


@dataclass(slots=True)
class Site:
    """`root` is "" for the root of the service, or /FOLDER; `sessions` 0 is no limit; `taken` are under way now.

    `tls` is for those who come in by its listeners; None: there is no TLS.
    """

    root: str
    rules: Rules
    listings: Listings
    banner: str
    networks: Networks
    sessions: int = 0
    taken: int = 0
    tls: Tls | None = None

    def real(self, path: str) -> str:
        """A path as the client sees it, as the worker sees it."""
        return self.root + path if path != "/" else self.root or "/"

    def seen(self, path: str) -> str:
        """The reverse of `real`."""
        return path[len(self.root) :] or "/"

    def take(self, address: str) -> str:
        """Admit one more session from a `plain` address and return "", or return the reply that refuses it."""
        if not self.networks.permit(address):
            return NOT_SERVED
        if self.sessions and self.taken >= self.sessions:
            return FULL
        self.taken += 1
        return ""

    def leave(self) -> None:
        """A session that was admitted has ended, or chosen another site."""
        self.taken -= 1


class Sites:
    """All sites of one configuration; `main` is that of `ftp.listen`. They share their `renderings`."""

    def __init__(self, settings: FtpSettings, tls: Mapping[str, Tls] = MappingProxyType({})) -> None:
        """`tls`: by the place of the certificate in the configuration (`settings.ftp.certificates`)."""
        self.renderings = Renderings()
        self.main = self._site(settings, FtpSite())
        self.main.tls = tls.get("ftp.tls")
        self._listeners: dict[tuple[str, int], Site] = {}
        self._hosts: dict[str, Site] = {}
        for number, item in enumerate(settings.sites):
            site = self._site(settings, item)
            site.tls = tls.get(f"ftp.sites[{number}]", self.main.tls)
            self._hosts |= dict.fromkeys(item.hosts, site)
            for text in (*item.listen, *item.implicit_listen):
                host, _colon, port = text.rpartition(":")
                self._listeners[host.strip("[]").partition("%")[0], int(port)] = site

    def of_listener(self, host: str, port: int) -> Site:
        """The site whose listener has this address, as getsockname gives it."""
        return self._listeners.get((host.partition("%")[0], port), self.main)

    def of_host(self, name: str) -> Site | None:
        """The site of a HOST name in any case, None for a name that is nobody's."""
        return self._hosts.get(name.lower().removesuffix("."))

    def _site(self, settings: FtpSettings, item: FtpSite) -> Site:
        root = f"/{item.root}" if item.root else ""
        rules = Rules(settings.hide, _box(settings, root), settings.tls.mode)
        listings = Listings(rules, root, self.renderings)
        networks = Networks(item.allow, item.deny)
        return Site(root, rules, listings, item.banner or settings.banner, networks, item.sessions or 0)


def _box(settings: FtpSettings, root: str) -> str | None:
    """Where the drop box is for clients who see `root` as /; None where it is out of their sight."""
    box = f"/{settings.incoming.path}"
    if not settings.incoming.enabled or not box.startswith(f"{root}/"):
        return None
    return box[len(root) :]
