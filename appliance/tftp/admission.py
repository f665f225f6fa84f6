"""Who may have a transfer now: networks, caps, and a budget for clients never heard from. Pure: time comes in.

A client is an IPv4 address or an IPv6 /64. UDP source addresses are forged at will, so nothing here ever bans anybody:
a request over a cap is dropped in silence, and the client asks again.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Iterable
from functools import lru_cache

from appliance.observe.tally import Tally
from appliance.tftp.terms import Quota

_KNOWN_MAX = 16384
_KNOWN_S = 600.0
_NEAR_MAX = 4096  # addresses of which it is remembered
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def client_of(host: str) -> str:
    """The client that an address belongs to: what caps are counted by."""
    if ":" not in host:
        return host
    return str(ipaddress.IPv6Address((int(ipaddress.IPv6Address(host.partition("%")[0])) >> 64) << 64))


class Networks:
    """A set of networks."""

    def __init__(self, texts: Iterable[str]) -> None:
        """Raises ValueError for a text that is no network."""
        self._networks: list[Network] = [ipaddress.ip_network(text, strict=False) for text in texts]

    def __bool__(self) -> bool:
        return bool(self._networks)

    def __contains__(self, host: str) -> bool:
        if not self._networks:
            return False
        address = ipaddress.ip_address(host.partition("%")[0])
        return any(address in network for network in self._networks)


class TokenBucket:
    """`rate` permits per second, saved up for one second."""

    def __init__(self, rate: int) -> None:
        self._rate = self._tokens = float(rate)
        self._at = 0.0

    def empty(self, now: float) -> bool:
        """Whether `take` would give nothing."""
        return self._tokens + (now - self._at) * self._rate < 1

    def take(self, now: float) -> bool:
        """Use one permit; False when none is left."""
        self._tokens = min(self._rate, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Known:
    """Clients that have acknowledged something lately: they exist. Those heard too long ago are forgotten, and of too
    many the one heard longest ago."""

    def __init__(self) -> None:
        self._until: OrderedDict[str, float] = OrderedDict()

    def note(self, client: str, now: float) -> None:
        """Heard from."""
        self._until[client] = now + _KNOWN_S
        self._until.move_to_end(client)
        if next(iter(self._until.values())) <= now or len(self._until) > _KNOWN_MAX:  # one for each that comes
            self._until.popitem(last=False)

    def knows(self, client: str, now: float) -> bool:
        """Whether it was heard from lately."""
        return self._until.get(client, now) > now


class Admission:
    """The caps of all workers, seen from one. Every transfer is `begin` once, `confirm` at its first ACK, `end` once.

    Half-open transfers count in this worker alone: their addresses may be forged, and the siblings are spared that.
    """

    def __init__(
        self, *, transfers: int, per_client: int, unseen_per_second: int, near: Networks, tally: Tally | None = None
    ) -> None:
        """`near`: networks whose clients need no permit, so that a whole room powering up is never refused.

        `tally`: where confirmed transfers are counted; none for a worker without siblings.
        """
        self._transfers, self._per_client = transfers, per_client
        self.near = lru_cache(maxsize=_NEAR_MAX)(near.__contains__)  # of an address: nobody far away can forge it
        self._unseen = TokenBucket(unseen_per_second)
        self._known = Known()
        self._tally = tally or Tally()  # confirmed transfers
        self._half_open: dict[str, int] = {}
        self.half_open = 0

    def answer(self, host: str, client: str, now: float) -> bool:
        """Whether a request from `host` may be answered at all, be it with a refusal."""
        return self.exists(host, client, now) or self._unseen.take(now)

    def exists(self, host: str, client: str, now: float) -> bool:
        """Whether the address is most likely not forged: it was heard from lately, or is near."""
        return self._known.knows(client, now) or self.near(host)

    def exhausted(self, host: str, client: str, now: float) -> bool:
        """Whether `answer` would say no; uses no permit."""
        return self._unseen.empty(now) and not self.exists(host, client, now)

    def refusal(self, client: str, quota: Quota | None = None) -> str:
        """Why one more transfer of `client` is over a cap; "" when it is not.

        Half-open transfers of an address count only against further half-open ones: whoever forges the address of a
        good client does not take anything from it.
        """
        if self._half_open.get(client, 0) >= self._per_client:
            return "too many unanswered requests of this client"
        return self.over_cap(client, quota)

    def over_cap(self, client: str, quota: Quota | None = None) -> str:
        """The same, looking at confirmed transfers alone: asked again at the first ACK, many may have come between."""
        if self._tally.full(self._transfers):
            return "too many transfers"
        if self._tally.full_for(client, self._per_client):
            return "too many transfers of this client"
        if quota is not None and quota.transfers and self._tally.full_for(quota.name, quota.transfers):
            return "too many transfers of this network"
        return ""

    def begin(self, client: str) -> None:
        """A transfer has begun; nothing was heard yet."""
        self.half_open += 1
        self._half_open[client] = self._half_open.get(client, 0) + 1

    def confirm(self, client: str, now: float, quota: Quota | None = None) -> None:
        """Its first ACK came."""
        self.half_open -= 1
        _less(self._half_open, client)
        self._tally.take(*_names(client, quota))
        self._known.note(client, now)

    def end(self, client: str, *, confirmed: bool, quota: Quota | None = None) -> None:
        """It is over; `quota` as at `confirm`."""
        if confirmed:
            self._tally.give(*_names(client, quota))
        else:
            self.half_open -= 1
            _less(self._half_open, client)


def _names(client: str, quota: Quota | None) -> tuple[str, ...]:
    return (client,) if quota is None else (client, quota.name)


def _less(counts: dict[str, int], client: str) -> None:
    counts[client] -= 1
    if not counts[client]:
        del counts[client]


def near_networks(route4: str, route6: str) -> list[str]:
    """Loopback, and the networks reached without a router, from /proc/net/route and /proc/net/ipv6_route."""
    near = ["127.0.0.0/8", "::1/128"]
    for line in route4.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 7 and fields[2] == "00000000" and fields[7] != "00000000":
            near.append(f"{_little(fields[1])}/{_little(fields[7])}")
    for line in route6.splitlines():
        fields = line.split()
        if len(fields) > 4 and set(fields[4]) == {"0"} and fields[1] not in ("00", "80") and fields[9:10] != ["lo"]:
            near.append(f"{ipaddress.IPv6Address(int(fields[0], 16))}/{int(fields[1], 16)}")
    return near


def _little(field: str) -> str:
    return str(ipaddress.IPv4Address(bytes.fromhex(field)[::-1]))
