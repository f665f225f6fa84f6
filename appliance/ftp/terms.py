"""What a client is given by the network it comes from, and how often it may come. Pure: time comes in.

A network behind one address (a campus behind NAT) is one client here, so it can have other caps than everybody. Of
several networks that fit, the most specific one counts, alone.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass

from appliance.settings.ftp import FtpLimits, FtpNetwork

TOO_OFTEN = "421 Too many connections from your address. Try again in a minute."
_MOST = 16384  # clients remembered; the one that came longest ago is forgotten
_MINUTE_S = 60.0


@dataclass(frozen=True, slots=True)
class Terms:
    """`network` is the name that a Tally counts its `sessions` under; "" and 0 without such a cap."""

    per_client: int
    per_minute: int = 0
    ban: bool = True
    network: str = ""
    sessions: int = 0


class Tariff:
    """The terms of every address."""

    def __init__(self, limits: FtpLimits) -> None:
        self._everybody = Terms(limits.sessions_per_client, limits.connections_per_minute)
        known = [(ipaddress.ip_network(item.net), _terms(item, self._everybody)) for item in limits.networks]
        self._known = sorted(known, key=lambda pair: -pair[0].prefixlen)

    def of(self, address: str) -> Terms:
        """The terms for a client at this `addresses.plain` address."""
        if not self._known:
            return self._everybody
        who = ipaddress.ip_address(address)
        return next((terms for network, terms in self._known if who in network), self._everybody)


def _terms(item: FtpNetwork, everybody: Terms) -> Terms:
    return Terms(
        everybody.per_client if item.sessions_per_client is None else item.sessions_per_client,
        everybody.per_minute if item.connections_per_minute is None else item.connections_per_minute,
        item.ban,
        f"network {item.net}" if item.sessions else "",  # no client is called like that
        item.sessions,
    )


class Arrivals:
    """Connections of each client: so many in a minute, which may come at once. Each worker has its part."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # permits, and when that was

    def come(self, client: str, per_minute: int, now: float) -> bool:
        """Count one; False when it is one too many, which costs nothing more. `per_minute` 0 is no limit."""
        if not per_minute:
            return True
        most = float(-(-per_minute // self._workers))
        left, then = self._left.pop(client, (most, now))
        left = min(most, left + (now - then) * most / _MINUTE_S)
        welcome = left >= 1
        self._left[client] = left - welcome, now
        if len(self._left) > _MOST:
            self._left.popitem(last=False)
        return welcome
