"""How many sessions there are, and whose: the one object that admits a client or says why not. Pure."""

from __future__ import annotations

FULL = "421 Too many sessions. Try again later."
TOO_MANY = "421 Too many sessions from your address."


class Seats:
    """Counts sessions of one worker: `total` at once, `per_client` of one client (see `addresses.client_of`)."""

    def __init__(self, total: int, per_client: int) -> None:
        self._total, self._per_client = total, per_client
        self._clients: dict[str, int] = {}
        self.taken = 0

    def take(self, client: str) -> str:
        """Admit one more session and return "", or return the reply that refuses it."""
        if self.taken >= self._total:
            return FULL
        held = self._clients.get(client, 0)
        if held >= self._per_client:
            return TOO_MANY
        self._clients[client] = held + 1
        self.taken += 1
        return ""

    def leave(self, client: str) -> None:
        """One session of an admitted client has ended."""
        held = self._clients[client] - 1
        if held:
            self._clients[client] = held
        else:
            del self._clients[client]
        self.taken -= 1
