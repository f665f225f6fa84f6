"""Where a download may lead: schemes, redirects and addresses. Pure.

Invariant: a redirect never leads to a scheme that protects less, and to an address that is not public only where the
manifest names the host. (A mirror could otherwise have us ask the inside of the operator's network.)
"""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from urllib.parse import urljoin, urlsplit

MOST_REDIRECTS = 8
_STRENGTH = {"https": 2, "http": 1}
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052 section 2.1: an IPv4 address in the last 32 bits
_COMPATIBLE = IPv6Network("::/96")  # RFC 4291 section 2.5.5.1: the same, and given up
_PORTS = {"https": 443, "http": 80, "ftp": 21, "tftp": 69}


class Refused(Exception):
    """The download may not go there; the text says why."""


def redirect(url: str, target: str) -> str:
    """Where a redirect leads. Raises Refused."""
    found = urljoin(url, target)
    if not found.isascii() or not found.isprintable() or " " in found or len(found) > 4096:
        raise Refused("a redirect to something that is no address")
    one, two = urlsplit(url), urlsplit(found)
    if two.scheme not in _STRENGTH or not two.hostname or two.username is not None:
        raise Refused(f"a redirect to {found[:200]!a}, which is no web address")
    if _STRENGTH[two.scheme] < _STRENGTH.get(one.scheme, 0):
        raise Refused(f"a redirect from {one.scheme} to {two.scheme}, which protects less")
    return found


def origin(url: str) -> tuple[str, int]:
    """Host and port of an address. Raises Refused."""
    try:
        parts = urlsplit(url)
        return (parts.hostname or "").lower(), parts.port or _PORTS[parts.scheme]
    except (ValueError, KeyError):
        raise Refused(f"{url[:200]!a} is no address of a file") from None


def judge(host: str, address: str, first: str, listed: Collection[str]) -> None:
    """Whether a redirect from a download that began at host `first` may lead to this address. Raises Refused."""
    if host == first or host in listed or address in listed:
        return
    if not is_public(address):
        raise Refused(f"a redirect to {host} at {address}, which is no public address (list it in redirects:)")


def is_public(address: str) -> bool:
    """Whether the whole world can have this address."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, IPv6Address):
        if found in _COMPATIBLE or found.is_site_local:
            return False
        found = found.ipv4_mapped or (IPv4Address(int(found) & 0xFFFFFFFF) if found in _NAT64 else found)
    return found.is_global and not found.is_multicast
