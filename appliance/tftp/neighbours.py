"""Which MAC address a client claims: from the kernel's IPv4 neighbour table, or from an IPv6 address made of one. Pure.

A claim, not an identity: whoever is on the same wire can use any MAC. Clients behind a router have none here.
"""

from __future__ import annotations

from collections.abc import Callable

from appliance.observe.macs import of_interface_identifier, parse

_FRESH_S = 1.0
_READS_PER_SECOND = 50.0


class Neighbours:
    """Remembers the table for a second. A client that is not in it has it read again, at most 50 times a second: its
    entry may be newer, and a machine must not be given another one's files because of that.
    """

    def __init__(self, read: Callable[[], bytes]) -> None:
        """`read` returns the text of /proc/net/arp, and nothing where it cannot."""
        self._read = read
        self._macs: dict[str, str] = {}
        self._read_at: float | None = None

    def mac(self, host: str, now: float) -> str:
        """The MAC address of a client as aa:bb:cc:dd:ee:ff, "" where nobody knows it."""
        if ":" in host:
            return of_interface_identifier(host)
        if self._read_at is None or now - self._read_at >= (_FRESH_S if host in self._macs else 1 / _READS_PER_SECOND):
            self._macs = parse(self._read())
            self._read_at = now
        return self._macs.get(host, "")
