"""Who may send how much now: rates of a client, of a network and of all, and fairness below them. Pure: time comes in.

Theory of operation. Everyone who wants to send asks, and `release` says who may. A bucket fills with its rate and lets
a piece go whenever it is not in debt; the piece is then taken from it. So over any time a bucket gives at most
rate * time, what it had saved (SAVED_S), and one piece. Who waits, waits in one of three places: `_asleep` until its
own bucket or that of its network is out of debt, `parked` at its network, or `_ready`, for the rate of all alone.

Fairness is start-time fair queueing (Goyal, Vin, Cheng 1996): whoever was given least so far goes first, among the
clients and again among the transfers of one client. Who was idle begins where the others are: nothing is saved up, and
nobody starves.
"""

from __future__ import annotations

import heapq
import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from appliance.observe.tally import Tally
from appliance.tftp.terms import Quota

SAVED_S = 0.25  # unused permits are kept for so long
PIECE_S = 0.125  # what may go at once: a client that gets a part of its window this often does not think we are gone
_LOOK_S = 0.25  # how often a bucket looks at its share of a rate over all workers
_IDLE_MAX = 4096  # buckets kept of clients that have no transfer now: a next file does not begin with a full one
_DUST = 0.5  # bytes; rounding is no debt


class Bucket:
    """`rate` bytes per second, of which `share()` is this worker's."""

    def __init__(self, rate: int, share: Callable[[], float]) -> None:
        self.rate = rate
        self._share = share
        self._level = math.inf  # full, until it is looked at
        self._flow = float(rate)
        self._at = self._look_at = -math.inf

    def ready_at(self, now: float) -> float:
        """When it is out of debt: `now`, or an estimate, because its share may change."""
        self._settle(now)
        if now >= self._look_at:
            self._look_at = now + _LOOK_S
            self._flow = self.rate * self._share()
            self._level = min(self._level, self._flow * SAVED_S)
        return now if self._level >= -_DUST else now - self._level / self._flow

    def spend(self, amount: int) -> None:
        """Take a piece, after `ready_at` said so."""
        self._level -= amount

    def _settle(self, now: float) -> None:
        if now > self._at:
            self._level = min(self._flow * SAVED_S, self._level + (now - self._at) * self._flow)
            self._at = now


@dataclass(slots=True, eq=False)
class Flow:
    """One transfer: `owner` sends at most `piece` bytes at a time. `wants`: bytes it waits for, 0 when it does not."""

    owner: Any
    piece: int
    client: _Client
    wants: int = 0
    finish: int = 0


@dataclass(slots=True, eq=False)
class _Network:
    bucket: Bucket
    parked: list[tuple[int, int, _Client]] = field(default_factory=list)
    asleep: bool = False


@dataclass(slots=True, eq=False)
class _Client:
    """A client in one network. `start` and `finish` are virtual times, in bytes."""

    key: tuple[str, str]
    bucket: Bucket | None
    network: _Network | None
    flows: int = 0
    queued: bool = False
    start: int = 0
    finish: int = 0
    virtual: int = 0
    waiting: list[tuple[int, int, Flow]] = field(default_factory=list)


class Pacer:
    """The rates of one worker. A transfer joins, asks for every piece, and leaves."""

    def __init__(self, rate_per_client: int, rate_total: int, tally: Tally) -> None:
        """Rates in bytes per second over all workers, 0 is none; `tally` tells this worker's share of each."""
        self._rate_per_client, self._tally = rate_per_client, tally
        self._total = Bucket(rate_total, tally.share) if rate_total else None
        self._buckets: dict[str, Bucket] = {}  # of clients with transfers
        self._idle: OrderedDict[str, Bucket] = OrderedDict()
        self._users: dict[str, int] = {}
        self._networks: dict[str, _Network] = {}  # as many as the configuration has
        self._clients: dict[tuple[str, str], _Client] = {}
        self._asleep: list[tuple[float, int, _Client | _Network]] = []
        self._ready: list[tuple[int, int, _Client]] = []
        self._virtual = self._sequence = 0

    def concerns(self, quota: Quota | None) -> bool:
        """Whether a transfer of a network with this quota has any rate to keep."""
        return bool(self._total or self._rate_per_client or (quota and quota.rate))

    def join(self, owner: Any, client: str, quota: Quota | None) -> Flow:
        """A transfer begins."""
        network = self._network(quota) if quota and quota.rate else None
        key = (client, quota.name if quota and network else "")
        member = self._clients.get(key)
        if member is None:
            member = self._clients[key] = _Client(key, self._bucket(client), network)
        member.flows += 1
        buckets = (self._total, member.bucket, network and network.bucket)
        return Flow(owner, int(min(bucket.rate for bucket in buckets if bucket) * PIECE_S), member)

    def ask(self, flow: Flow, amount: int, now: float) -> None:
        """`flow` wants to send `amount` bytes. Asking again while it waits changes the amount, not its turn."""
        waits, flow.wants = flow.wants, amount
        if waits:
            return
        client = flow.client
        self._push(client.waiting, max(client.virtual, flow.finish), flow)
        if not client.queued:
            client.queued = True
            client.start = max(self._virtual, client.finish)
            self._place(client, now)

    def leave(self, flow: Flow) -> None:
        """The transfer is over, waiting or not; once."""
        flow.wants = 0
        client = flow.client
        client.flows -= 1
        if not client.flows:
            del self._clients[client.key]
            self._rest(client.key[0])

    def due(self, now: float) -> float:
        """When `release` has something to do; infinite when nobody waits."""
        asleep = self._asleep[0][0] if self._asleep else math.inf
        if not self._ready:
            return asleep
        return min(asleep, self._total.ready_at(now) if self._total else now)

    def release(self, now: float) -> list[Flow]:
        """Those who may send now what they want; each is asked to send, and its bytes are spent."""
        while self._asleep and self._asleep[0][0] <= now:
            awake = heapq.heappop(self._asleep)[2]
            if isinstance(awake, _Client):
                self._place(awake, now)
            else:
                awake.asleep = False
                self._next_of(awake, now)
        released: list[Flow] = []
        while self._ready and (self._total is None or self._total.ready_at(now) <= now):
            client = heapq.heappop(self._ready)[2]
            flow = self._turn_of(client, now)
            if flow is not None:
                released.append(flow)
            if client.network is not None:
                self._next_of(client.network, now)
        return released

    # -- where a client waits

    def _place(self, client: _Client, now: float) -> None:
        """Put a client that is queued where it has to wait next."""
        network = client.network
        at = client.bucket.ready_at(now) if client.bucket else now
        if at > now:
            self._push(self._asleep, at, client)
        elif network is not None and (network.parked or network.asleep or network.bucket.ready_at(now) > now):
            self._push(network.parked, client.start, client)
            self._next_of(network, now)
        else:
            self._push(self._ready, client.start, client)

    def _next_of(self, network: _Network, now: float) -> None:
        """Let the next client of a network go on when its rate allows; wake it up when it does."""
        if not network.parked or network.asleep:
            return
        at = network.bucket.ready_at(now)
        if at > now:
            network.asleep = True
            self._push(self._asleep, at, network)
        else:
            start, _sequence, client = heapq.heappop(network.parked)
            self._push(self._ready, start, client)

    def _turn_of(self, client: _Client, now: float) -> Flow | None:
        """The flow of a ready client that may send; None when nobody waits any more, or another rate is used up."""
        while client.waiting and not client.waiting[0][2].wants:
            heapq.heappop(client.waiting)  # it left while it waited
        if not client.waiting:
            client.queued = False
            return None
        buckets = [bucket for bucket in (client.bucket, client.network and client.network.bucket) if bucket]
        if any(bucket.ready_at(now) > now for bucket in buckets):  # used by a sibling of this client since
            self._place(client, now)
            return None
        client.virtual, _sequence, flow = heapq.heappop(client.waiting)
        amount, flow.wants = flow.wants, 0
        for bucket in (*buckets, self._total):
            if bucket is not None:
                bucket.spend(amount)
        self._virtual = client.start
        client.start = client.finish = client.start + amount
        flow.finish = client.virtual + amount
        client.queued = bool(client.waiting)
        if client.queued:
            self._place(client, now)
        return flow

    def _push(self, heap: list[Any], key: float, what: object) -> None:
        self._sequence += 1
        heapq.heappush(heap, (key, self._sequence, what))

    # -- buckets

    def _network(self, quota: Quota) -> _Network:
        network = self._networks.get(quota.name)
        if network is None:
            bucket = Bucket(quota.rate, lambda: self._tally.share_for(quota.name))
            network = self._networks[quota.name] = _Network(bucket)
        return network

    def _bucket(self, client: str) -> Bucket | None:
        if not self._rate_per_client:
            return None
        self._users[client] = self._users.get(client, 0) + 1
        bucket = self._buckets.get(client) or self._idle.pop(client, None)
        if bucket is None:
            bucket = Bucket(self._rate_per_client, lambda: self._tally.share_for(client))
        self._buckets[client] = bucket
        return bucket

    def _rest(self, client: str) -> None:
        """A client has no transfer in a network any more."""
        if not self._rate_per_client:
            return
        self._users[client] -= 1
        if self._users[client]:
            return
        del self._users[client]
        self._idle[client] = self._buckets.pop(client)
        if len(self._idle) > _IDLE_MAX:
            self._idle.popitem(last=False)
