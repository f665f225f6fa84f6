"""Bandwidth: buckets for a session, for a client and for all, and a fair share of the last between clients. Pure.

A transfer asks `may` before it moves bytes and tells `took` afterwards; what it may not move it waits for, out of the
event loop, until a `tick` has granted it something. While clients wait for the common bucket nobody is served from it
out of turn, and every tick divides it equally between the clients, however many transfers each of them has.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

TICK_S = 0.05
_CRUMB = 4096  # bytes; less than this is not worth a system call
_LATELY_MAX = 4096
_BURST_S = 0.25  # what an idle bucket saves up


class Bucket:
    """`rate` bytes per second; 0 is no limit."""

    __slots__ = ("_at", "_burst", "rate", "tokens")

    def __init__(self, rate: float, now: float) -> None:
        self.rate = rate
        self._burst = self.tokens = max(1.0, rate * _BURST_S) if rate else float("inf")
        self._at = now

    def refill(self, now: float) -> float:
        """The bytes there are now."""
        if self.rate:
            self.tokens = min(self._burst, self.tokens + (now - self._at) * self.rate)
            self._at = now
        return self.tokens

    def take(self, count: float) -> None:
        """Use them up."""
        self.tokens -= count


class _Client:
    __slots__ = ("bucket", "flows", "served", "waiting")

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self.flows = 0
        self.served = 0.0  # bytes; whoever got least comes first
        self.waiting: dict[Flow, None] = {}


class Flow:
    """One transfer. `resume` is called by `tick` when there is something to move."""

    __slots__ = ("_client", "_credit", "_rates", "bucket", "name", "resume", "served")

    def __init__(self, rates: Rates, name: str, client: _Client, bucket: Bucket, resume: Callable[[], None]) -> None:
        self._rates, self._client, self._credit = rates, client, 0
        self.name, self.bucket, self.resume = name, bucket, resume
        self.served: float = min((flow.served for flow in client.waiting), default=0.0)

    def may(self, count: int, now: float) -> int:
        """How many of `count` bytes may be moved now; at 0 the flow waits."""
        if self._credit:
            return min(count, self._credit)
        own = min(count, self.bucket.refill(now), self._client.bucket.refill(now))
        allowed = int(min(own, self._rates.open_share(now)))
        if allowed < 1:
            self._client.waiting[self] = None
            self._rates.queue(self.name, self._client, short=own >= 1)
            return 0
        return allowed

    def took(self, count: int) -> None:
        """So many of them were moved."""
        if self._credit:
            self._credit -= count
            return
        self._pay(count)

    def grant(self, most: float) -> float:
        """Give up to `most` bytes to this waiting flow; returns how many it got."""
        credit = int(min(most, self.bucket.tokens, self._client.bucket.tokens))
        if credit < 1:
            return 0
        self._credit = credit
        self._pay(credit)
        del self._client.waiting[self]
        return credit

    def leave(self) -> None:
        """The transfer is over."""
        self._client.waiting.pop(self, None)
        self._rates.leave(self.name, self._client)

    def _pay(self, count: float) -> None:
        self.bucket.take(count)
        self._client.bucket.take(count)
        self._rates.common.take(count)
        self._client.served += count
        self.served += count


class Rates:
    """The bandwidth of one worker, in bytes per second; 0 is no limit."""

    def __init__(self, *, per_session: int, per_client: int, total: int, now: float) -> None:
        self._per_session, self._per_client = per_session, per_client
        self.common = Bucket(total, now)
        self._clients: dict[str, _Client] = {}  # with transfers under way
        self._lately: OrderedDict[str, _Client] = OrderedDict()  # without: what they owe is not forgotten at once
        self._waiting: dict[str, _Client] = {}
        self._least = 0.0  # what the least served of those who waited had at the last tick
        self._short = False  # the common bucket is what is waited for
        self._next = now

    def session(self, now: float) -> Bucket:
        """The bucket of a new session: its transfers share it one after the other."""
        return Bucket(self._per_session, now)

    def join(self, client: str, session: Bucket, now: float, resume: Callable[[], None]) -> Flow:
        """A transfer begins."""
        known = self._clients.get(client)
        if known is None:
            known = self._lately.pop(client, None) or _Client(Bucket(self._per_client, now))
            self._clients[client] = known
            known.served = max(known.served, self._least)  # nobody saves up turns while away
        known.flows += 1
        return Flow(self, client, known, session, resume)

    def leave(self, name: str, client: _Client) -> None:
        """A transfer has ended."""
        if not client.waiting:
            self._waiting.pop(name, None)
        client.flows -= 1
        if client.flows:
            return
        del self._clients[name]
        if self._per_client:
            self._lately[name] = client
            if len(self._lately) > _LATELY_MAX:
                self._lately.popitem(last=False)

    def open_share(self, now: float) -> float:
        """What of the common bucket may be taken out of turn: nothing while others wait for it."""
        return 0 if self._short and self._waiting else self.common.refill(now)

    def queue(self, name: str, client: _Client, *, short: bool) -> None:
        """A client has something waiting. `short`: for the common bucket, not for one of its own."""
        self._waiting.setdefault(name, client)
        self._short = self._short or short

    def wait(self, now: float) -> float:
        """Seconds until the next tick is due; infinite while nobody waits."""
        return max(0.0, self._next - now) if self._waiting else float("inf")

    def tick(self, now: float) -> None:
        """Grant what there is to those who wait, if it is time."""
        if not self._waiting or now < self._next:
            return
        self._next = now + TICK_S
        self.common.refill(now)
        for flow in self._granted(now):
            flow.resume()
        self._short = self.common.tokens < 1

    def _granted(self, now: float) -> list[Flow]:
        granted: list[Flow] = []
        order = sorted(self._waiting.items(), key=lambda item: item[1].served)
        self._least = order[0][1].served
        for place, (name, client) in enumerate(order):
            share = min(_share(self.common.tokens, len(order) - place), client.bucket.refill(now))
            for at, flow in enumerate(flows := sorted(client.waiting, key=lambda flow: flow.served)):
                flow.bucket.refill(now)
                got = flow.grant(_share(share, len(flows) - at))
                share -= got
                granted += [flow] if got else []
            if not client.waiting:
                del self._waiting[name]
        return granted


def _share(budget: float, parts: int) -> float:
    """One of several equal parts, but no crumbs: who gets nothing this time comes first the next time."""
    return min(budget, max(_CRUMB, budget / max(1, parts)))
