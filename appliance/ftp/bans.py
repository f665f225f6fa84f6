"""Clients that misbehave: strikes are counted here, bans come from the supervisor, who tells every worker. Pure.

A strike is what no ordinary client does by mistake more than now and then: a data connection to somebody else, a log-in
that is not anonymous, a word of another protocol, a series of words that are no command.
"""

from __future__ import annotations

from collections import OrderedDict

from appliance.ftp.addresses import Networks
from appliance.observe.tally import Tally

_MOST = 4096
REFUSAL = "421 Your address is not served for a while."


class Bans:
    """`after` strikes `within` seconds ask for a ban; 0 never does. Clients in `exempt` have no strikes.

    `tally` tells those of siblings: a client has as many sessions as it likes, and the kernel deals them out to all.
    """

    def __init__(self, after: int, within: float, exempt: tuple[str, ...], tally: Tally | None = None) -> None:
        self._after, self._within, self._tally = after, within, tally or Tally()
        self._exempt = Networks(exempt, ()) if exempt else None
        # how many, and until when they count; the oldest first
        self._strikes: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._until: OrderedDict[str, float] = OrderedDict()

    def strike(self, client: str, address: str, now: float) -> bool:
        """Count one; True when that makes it time for a ban."""
        if not self._after or (self._exempt is not None and self._exempt.permit(address)):
            return False
        self.sweep(now)
        count, until = self._strikes.get(client, (0, now + self._within))
        self._strikes[client] = count + 1, until
        self._tally.note(_name(client))
        if count + 1 + self._tally.beside(_name(client)) >= self._after:
            self._forget(client)
            return True
        if len(self._strikes) > _MOST:
            self._forget(next(iter(self._strikes)))
        return False

    def sweep(self, now: float) -> None:
        """Forget the strikes that count no more; also in what siblings see."""
        while self._strikes and self._strikes[client := next(iter(self._strikes))][1] <= now:
            self._forget(client)

    def _forget(self, client: str) -> None:
        count, _until = self._strikes.pop(client, (0, 0.0))
        if count:
            self._tally.drop(_name(client), count)

    def told(self, client: str, seconds: int, now: float) -> None:
        """The supervisor's word: not for so many seconds; 0 lifts the ban."""
        self._until.pop(client, None)
        self._forget(client)
        if seconds:
            self._until[client] = now + seconds
            if len(self._until) > _MOST:
                self._until.popitem(last=False)

    def banned(self, client: str, now: float) -> bool:
        """Whether this client is not served now."""
        return bool(self._until) and self._until.get(client, now) > now


def _name(client: str) -> str:
    return f"strikes of {client}"
