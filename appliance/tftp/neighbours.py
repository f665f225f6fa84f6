"""Which MAC address a client claims: from the kernel's IPv4 neighbour table, or from an IPv6 address made of one. Pure.

A claim, not an identity: whoever is on the same wire can use any MAC. Clients behind a router have none here.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

_FRESH_S = 1.0
_READS_PER_SECOND = 50.0
_ETHERNET, _COMPLETE = 0x1, 0x2  # linux/if_arp.h, ARPHRD_ETHER and ATF_COM
_COLUMNS = 6


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
            return _of_interface_identifier(host)
        if self._read_at is None or now - self._read_at >= (_FRESH_S if host in self._macs else 1 / _READS_PER_SECOND):
            self._macs = parse(self._read())
            self._read_at = now
        return self._macs.get(host, "")


def parse(table: bytes) -> dict[str, str]:
    """MAC addresses by IPv4 address, from the text of /proc/net/arp; entries without one are left out."""
    found: dict[str, str] = {}
    for line in table.decode("ascii", "replace").splitlines()[1:]:
        columns = line.split()
        if len(columns) < _COLUMNS:
            continue
        host, kind, flags, mac = columns[:4]
        if int(kind, 16) == _ETHERNET and int(flags, 16) & _COMPLETE:
            found[host] = mac.lower()
    return found


def _of_interface_identifier(host: str) -> str:
    """RFC 4291 appendix A: an identifier made of a MAC has ff:fe in its middle, and one bit turned over."""
    raw = ipaddress.IPv6Address(host.partition("%")[0]).packed[8:]
    if raw[3:5] != b"\xff\xfe":
        return ""
    return bytes((raw[0] ^ 0x02, *raw[1:3], *raw[5:])).hex(":")
