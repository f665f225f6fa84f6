"""DHCPDISCOVER, DHCPINFORM and their answers (RFC 2131, RFC 2132), as finding out who else answers needs them. Pure."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address

_HEAD = struct.Struct("!BBBBIHH4s4s4s4s16s64s128s4s")  # RFC 2131 section 2, with the magic cookie of RFC 2132 section 2
_COOKIE = b"\x63\x82\x53\x63"
_BROADCAST = 0x8000
_TYPE, _SERVER, _END, _PAD = 53, 54, 255, 0
_DISCOVER, _OFFER, _ACK, _INFORM = 1, 2, 5, 8


@dataclass(frozen=True, slots=True)
class Offer:
    """A server, and the address it offers: 0.0.0.0 of a proxy that offers none."""

    server: IPv4Address
    address: IPv4Address


def discover(mac: bytes, xid: int) -> bytes:
    """A DHCPDISCOVER of a client with this MAC address that asks to be answered by broadcast."""
    return _packet(_DISCOVER, mac, xid, IPv4Address(0))


def inform(mac: bytes, xid: int, address: IPv4Address) -> bytes:
    """A DHCPINFORM of a host that has this address: answered without a lease, and without a ping before it."""
    return _packet(_INFORM, mac, xid, address)


def _packet(kind: int, mac: bytes, xid: int, address: IPv4Address) -> bytes:
    nothing = bytes(4)
    head = _HEAD.pack(1, 1, 6, 0, xid, 0, _BROADCAST, address.packed, nothing, nothing, nothing, mac.ljust(16, b"\0"),
                      b"", b"", _COOKIE)  # fmt: skip
    return (head + bytes((_TYPE, 1, kind, 55, 1, 1, _END))).ljust(300, b"\0")


def offer(data: bytes, xid: int) -> Offer | None:
    """The server in a datagram that answers `xid` with an offer or with what it was asked; None for anything else."""
    if len(data) < _HEAD.size:
        return None
    fields = _HEAD.unpack_from(data)
    if fields[0] != 2 or fields[4] != xid or fields[14] != _COOKIE:
        return None
    options = _options(data[_HEAD.size :])
    server = options.get(_SERVER, b"")
    if options.get(_TYPE) not in (bytes((_OFFER,)), bytes((_ACK,))) or len(server) != 4:
        return None
    return Offer(IPv4Address(server), IPv4Address(fields[8] if options[_TYPE] == bytes((_OFFER,)) else fields[7]))


def _options(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at = 0
    while at < len(data) and data[at] != _END:
        if data[at] == _PAD:
            at += 1
            continue
        if at + 1 >= len(data):
            break
        length = data[at + 1]
        found.setdefault(data[at], data[at + 2 : at + 2 + length])
        at += 2 + length
    return found
