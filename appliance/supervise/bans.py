"""Who is not served for a while: one table for all workers, fed by them and by the administrator. Pure: time comes in.

A worker can ask for a ban, never lift one, and not for longer than a day: what a worker that was taken over asks for
passes by itself. A client is a key (an address, or a /64), compared and never parsed.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

LONGEST_S = 86400
BY_HAND_S = 365 * 86400
MOST = 4096  # the oldest ban goes first


@dataclass(frozen=True, slots=True)
class Entry:
    """`until` is monotonic; `cause` is abuse or administrator."""

    until: float
    cause: str


class Bans:
    """The table. `changes` of a moment are told to every worker at once."""

    def __init__(self) -> None:
        self._entries: OrderedDict[str, Entry] = OrderedDict()

    def offence(self, client: str, seconds: int, now: float) -> int:
        """A worker asks for a ban; returns the seconds it gets. A longer one that is in force stays."""
        return self._add(client, Entry(now + min(seconds, LONGEST_S), "abuse"), now)

    def by_hand(self, client: str, seconds: int, now: float) -> int:
        """The administrator wants it; returns the seconds."""
        return self._add(client, Entry(now + min(seconds, BY_HAND_S), "administrator"), now)

    def lift(self, client: str) -> bool:
        """Serve the client again; False when it was not banned."""
        return self._entries.pop(client, None) is not None

    def active(self, now: float) -> dict[str, Entry]:
        """What is in force."""
        for client in [client for client, entry in self._entries.items() if entry.until <= now]:
            del self._entries[client]
        return dict(self._entries)

    def _add(self, client: str, entry: Entry, now: float) -> int:
        old = self._entries.pop(client, entry)
        kept = self._entries[client] = max(old, entry, key=lambda one: one.until)
        if len(self._entries) > MOST:
            self._entries.popitem(last=False)
        return max(1, round(kept.until - now))
