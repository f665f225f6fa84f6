"""Who may read an upload back. Pure.

A client's key is an IPv4 address, or the /64 of an IPv6 address (with or without its length), as the workers name it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Literal, TypeAlias

from appliance.custody.wire import Reason

Readable: TypeAlias = Literal["none", "same-client", "networks"]
_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


class Readers:
    """The settings `readable` and `readers`."""

    def __init__(self, readable: Readable, networks: Iterable[str]) -> None:
        """Raises ValueError for a text that is no network."""
        self._readable = readable
        self._networks = [ipaddress.ip_network(text, strict=False) for text in networks]

    def refuse(self, client: str) -> Reason | None:
        """Why a client may read nothing at all, whatever the name; None when it depends on the file, or on nothing."""
        may = self._readable == "same-client" or (self._readable == "networks" and self._in_networks(client))
        return None if may else Reason.UNREADABLE

    def permits(self, client: str, owner: str) -> bool:
        """Whether a client that `refuse` lets pass may read an upload of `owner` ("": nobody known)."""
        return self._readable == "networks" or client == owner

    def _in_networks(self, client: str) -> bool:
        try:
            found = _network(client)
        except ValueError:
            return False
        return any(isinstance(found, type(item)) and _inside(found, item) for item in self._networks)


def _network(client: str) -> _Network:
    if ":" in client:
        return ipaddress.IPv6Network((client.partition("/")[0], 64), strict=False)
    return ipaddress.ip_network(client)


def _inside(one: _Network, other: _Network) -> bool:
    low, high = int(one.network_address), int(one.broadcast_address)
    return int(other.network_address) <= low and high <= int(other.broadcast_address)
