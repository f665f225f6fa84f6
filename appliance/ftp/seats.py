"""How many sessions there are, and whose: the one object that admits a client or says why not. Pure."""

from __future__ import annotations

from appliance.ftp.terms import Terms
from appliance.observe.tally import Tally

FULL = "421 Too many sessions. Try again later."
TOO_MANY = "421 Too many sessions from your address."
NETWORK_FULL = "421 Too many sessions from your network."


class Seats:
    """Sessions of all workers: `total` at once, those of one client (see `addresses.client_of`) and of its network."""

    def __init__(self, total: int, tally: Tally) -> None:
        """`tally` counts the sessions of this worker, and knows those of its siblings."""
        self._total, self._tally = total, tally

    def take(self, client: str, terms: Terms) -> str:
        """Admit one more session and return "", or return the reply that refuses it."""
        if self._tally.full(self._total):
            return FULL
        if self._tally.full_for(client, terms.per_client):
            return TOO_MANY
        if terms.network and self._tally.full_for(terms.network, terms.sessions):
            return NETWORK_FULL
        self._tally.take(*_names(client, terms))
        return ""

    def leave(self, client: str, terms: Terms) -> None:
        """One session of an admitted client has ended; `terms` as at `take`."""
        self._tally.give(*_names(client, terms))


def _names(client: str, terms: Terms) -> tuple[str, ...]:
    return (client, terms.network) if terms.network else (client,)
