"""Clients that misbehave: strikes are counted here, bans come from the supervisor, who tells every worker. Pure.

A strike is what no ordinary client does by mistake more than now and then: a data connection to somebody else, a log-in
that is not anonymous, a word of another protocol, a series of words that are no command.
"""

from __future__ import annotations

from collections import OrderedDict

from appliance.ftp.addresses import Networks

_MOST = 4096
REFUSAL = "421 Your address is not served for a while."


class Bans:
    """`after` strikes `within` seconds ask for a ban; 0 never does. Clients in `exempt` have no strikes."""

    def __init__(self, after: int, within: float, exempt: tuple[str, ...]) -> None:
        self._after, self._within = after, within
        self._exempt = Networks(exempt, ()) if exempt else None
        self._strikes: OrderedDict[str, tuple[int, float]] = OrderedDict()  # how many, and until when they count
        self._until: OrderedDict[str, float] = OrderedDict()

    def strike(self, client: str, address: str, now: float) -> bool:
        """Count one; True when that makes it time for a ban."""
        if not self._after or (self._exempt is not None and self._exempt.permit(address)):
            return False
        count, until = self._strikes.pop(client, (0, 0.0))
        count, until = (count + 1, until) if until > now else (1, now + self._within)
        if count >= self._after:
            return True
        self._strikes[client] = count, until
        if len(self._strikes) > _MOST:
            self._strikes.popitem(last=False)
        return False

    def told(self, client: str, seconds: int, now: float) -> None:
        """The supervisor's word: not for so many seconds; 0 lifts the ban."""
        self._until.pop(client, None)
        if seconds:
            self._until[client] = now + seconds
            if len(self._until) > _MOST:
                self._until.popitem(last=False)

    def banned(self, client: str, now: float) -> bool:
        """Whether this client is not served now."""
        return bool(self._until) and self._until.get(client, now) > now
