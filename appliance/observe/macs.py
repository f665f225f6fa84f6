"""Which MAC address a client is known by: the kernel's neighbours, our DHCP answers, the names that it asks for. Pure.

A claim, never an identity: whoever is on the same wire can use any MAC, and anybody can ask for any name. It tells
machines apart on a page, and nothing is granted for it. Invariant: what is remembered is bounded, whatever comes.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter, OrderedDict
from collections.abc import Callable

_ETHERNET, _COMPLETE = 0x1, 0x2  # linux/if_arp.h, ARPHRD_ETHER and ATF_COM
_COLUMNS = 6
_READ_EVERY_S = 0.5
_TOLD_S = 600.0  # an address may be another machine's after so long
_MOST = 4096  # addresses that are remembered
_ONE_MACHINE = 4  # addresses of one MAC; with more it is a router's that answers for others (proxy ARP)
_LONGEST = 1024  # characters of a name that are looked at, from its end
_MAC = re.compile(r"(?:^|[/_-])(?:01-)?([0-9a-f]{2}(?:[-:][0-9a-f]{2}){5})(?=$|[./])")
_ZERO = "00:00:00:00:00:00"


class Macs:
    """`read` returns the text of /proc/net/arp, and nothing where it cannot."""

    def __init__(self, read: Callable[[], bytes]) -> None:
        self._read = read
        self._near: dict[str, str] = {}
        self._read_at: float | None = None
        self._told: OrderedDict[str, tuple[str, float]] = OrderedDict()  # address -> MAC, when

    def of(self, client: str, name: str, now: float) -> str:
        """The MAC address of a client that asks for `name`, as aa:bb:cc:dd:ee:ff; "" where nobody knows it.

        The kernel's word counts before the client's own. `now`: monotonic seconds.
        """
        named = mac_in(name)
        if named:
            self.told(client, named, now)
        near = of_interface_identifier(client) if ":" in client else self._neighbour(client, now)
        return near or named or self._remembered(client, now)

    def told(self, client: str, mac: str, now: float) -> None:
        """This client has said so, or was given this address by our DHCP server."""
        if client:
            self._told[client] = mac, now
            self._told.move_to_end(client)
            if len(self._told) > _MOST:
                self._told.popitem(last=False)

    def _remembered(self, client: str, now: float) -> str:
        mac, at = self._told.get(client, ("", now))
        return mac if now - at < _TOLD_S else ""

    def _neighbour(self, client: str, now: float) -> str:
        if self._read_at is None or now - self._read_at >= _READ_EVERY_S:
            self._near = _of_one(parse(self._read()))
            self._read_at = now
        return self._near.get(client, "")


def _of_one(table: dict[str, str]) -> dict[str, str]:
    """Without what stands for many machines, or for none."""
    often = Counter(table.values())
    return {host: mac for host, mac in table.items() if often[mac] <= _ONE_MACHINE and mac != _ZERO}


def slashed(name: str) -> str:
    """A name as it is compared: lower case, slashes for backslashes, also for those that were escaped to be printed."""
    return name[-_LONGEST:].replace("\\x5c", "/").replace("\\", "/").lower()


def mac_in(name: str) -> str:
    """The MAC address that a loader put into the name of its configuration, as aa:bb:cc:dd:ee:ff; "" for none."""
    if name.count("-") + name.count(":") < 5:  # nearly every name
        return ""
    found = _MAC.search(slashed(name))
    return found.group(1).replace("-", ":") if found else ""


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


def of_interface_identifier(host: str) -> str:
    """Of an IPv6 address made of one: RFC 4291 appendix A, ff:fe in the middle, and one bit turned over. Else ""."""
    try:
        raw = ipaddress.IPv6Address(host.partition("%")[0]).packed[8:]
    except ValueError:
        return ""
    if raw[3:5] != b"\xff\xfe":
        return ""
    return bytes((raw[0] ^ 0x02, *raw[1:3], *raw[5:])).hex(":")
