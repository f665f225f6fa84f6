"""How many sessions there are, and whose: the one object that admits a client or says why not. Pure."""

from __future__ import annotations

from appliance.observe.tally import Tally

FULL = "421 Too many sessions. Try again later."
TOO_MANY = "421 Too many sessions from your address."


class Seats:
    """Sessions of all workers: `total` at once, `per_client` of one client (see `addresses.client_of`)."""

    def __init__(self, total: int, per_client: int, tally: Tally) -> None:
        """`tally` counts the sessions of this worker, and knows those of its siblings."""
        self._total, self._per_client, self._tally = total, per_client, tally

    def take(self, client: str) -> str:
        """Admit one more session and return "", or return the reply that refuses it."""
        if self._tally.full(self._total):
            return FULL
        if self._tally.full_for(client, self._per_client):
            return TOO_MANY
        self._tally.take(client)
        return ""

    def leave(self, client: str) -> None:
        """One session of an admitted client has ended."""
        self._tally.give(client)
