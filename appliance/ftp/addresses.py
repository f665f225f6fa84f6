"""Addresses on the control connection: who a client is, and where a data connection goes (RFC 959, RFC 2428). Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

_MAPPED = "::ffff:"


class AddressError(ValueError):
    """An argument of PORT, EPRT or EPSV that has not the form of its RFC."""


class FamilyError(AddressError):
    """EPRT of a network protocol that is neither IPv4 nor IPv6 (RFC 2428 section 2: 522)."""


def plain(address: str) -> str:
    """An address as the client knows it: an IPv4-mapped one (dual-stack listener) becomes IPv4, a scope is dropped."""
    address = address.partition("%")[0]
    return address[len(_MAPPED) :] if address.startswith(_MAPPED) and "." in address else address


def client_of(address: str) -> str:
    """Who counts as one client: an IPv4 address, or the /64 of an IPv6 address. Takes a `plain` address."""
    if ":" not in address:
        return address
    return str(ipaddress.IPv6Network((address, 64), strict=False))


class Networks:
    """The `allow` and `deny` lists; an empty `allow` is everyone, `deny` wins."""

    def __init__(self, allow: Iterable[str], deny: Iterable[str]) -> None:
        self._allow = [ipaddress.ip_network(item, strict=False) for item in allow]
        self._deny = [ipaddress.ip_network(item, strict=False) for item in deny]

    def permit(self, address: str) -> bool:
        """True when a client at this `plain` address is served."""
        if not self._allow and not self._deny:
            return True
        who = ipaddress.ip_address(address)
        if any(who in network for network in self._deny):
            return False
        return not self._allow or any(who in network for network in self._allow)


class ByNetwork:
    """An address for clients by their network; of several that fit, the most specific one counts."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        """`pairs`: network and address."""
        known = [(ipaddress.ip_network(network, strict=False), address) for network, address in pairs]
        self._known = sorted(known, key=lambda pair: -pair[0].prefixlen)

    def find(self, client: str) -> str | None:
        """The address for a client at this `plain` address, None where no network fits."""
        who = ipaddress.ip_address(client)
        return next((address for network, address in self._known if who in network), None)


def is_literal(name: str) -> bool:
    """Whether a HOST argument is an address: IPv4, or IPv6 in brackets (RFC 7151 section 3.1)."""
    try:
        if name.startswith("[") and name.endswith("]"):
            return ipaddress.IPv6Address(name[1:-1].lower().removeprefix("ipv6:")).version == 6
        return ipaddress.IPv4Address(name).version == 4
    except ValueError:
        return False


def parse_port(argument: str) -> tuple[str, int]:
    """Address and port of a PORT argument `h1,h2,h3,h4,p1,p2` (RFC 959 section 4.1.2). Raises AddressError."""
    fields = argument.split(",")
    if len(fields) != 6 or not all(_small(field) for field in fields):
        raise AddressError("six numbers of one byte expected")
    numbers = [int(field) for field in fields]
    return ".".join(map(str, numbers[:4])), numbers[4] * 256 + numbers[5]


def _small(field: str) -> bool:
    return field.isascii() and field.isdigit() and len(field) <= 3 and int(field) <= 255


def parse_eprt(argument: str) -> tuple[int, str, int]:
    """Protocol (1 IPv4, 2 IPv6), address, port of EPRT `|2|::1|5282|`, RFC 2428. Raises AddressError, FamilyError."""
    fields = argument.split(argument[0])
    if len(fields) != 5 or fields[0] or fields[4]:
        raise AddressError("|protocol|address|port| expected")
    protocol, address, port = fields[1:4]
    if not (protocol + port).isascii() or not protocol.isdigit() or not port.isdigit() or len(port) > 5:
        raise AddressError("|protocol|address|port| expected")
    if int(port) > 65535:
        raise AddressError("no such port")
    if protocol not in ("1", "2"):
        raise FamilyError("unknown protocol")
    try:
        known = str(ipaddress.IPv4Address(address)) if protocol == "1" else _six(address)
    except ValueError as error:
        raise AddressError("not an address of that protocol") from error
    return int(protocol), known, int(port)


def _six(address: str) -> str:
    known = ipaddress.IPv6Address(address.partition("%")[0])  # a scope means something only on the client's machine
    return str(known.ipv4_mapped or known)


def refuse_target(client: str, address: str, port: int) -> str:
    """Why the server does not connect to this address for this client, or "": RFC 2577, the bounce attack."""
    if address != client and not _same(address, client):
        return "only your own address is connected to"
    return "ports below 1024 are not connected to" if port < 1024 else ""


def _same(one: str, other: str) -> bool:
    try:
        return ipaddress.ip_address(one) == ipaddress.ip_address(other)
    except ValueError:
        return False


def passive_reply(address: str, port: int) -> str:
    """The 227 reply; `address` is IPv4."""
    return f"227 Entering passive mode ({address.replace('.', ',')},{port >> 8},{port & 255})."
