"""DHCPDISCOVER, DHCPINFORM and their answers (RFC 2131, RFC 2132), as finding out who else answers needs them. Pure."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address

_HEAD = struct.Struct("!BBBBIHH4s4s4s4s16s64s128s4s")  # RFC 2131 section 2, with the magic cookie of RFC 2132 section 2
_COOKIE = b"\x63\x82\x53\x63"
_BROADCAST = 0x8000
_TYPE, _SERVER, _END, _PAD = 53, 54, 255, 0
_VENDOR, _MENU, _ITEM = 43, 9, 71  # PXE 2.1, section 2.4
_OVERLOAD, _CLASS, _NEXT, _FILE, _ARCH, _UNDI, _UUID = 52, 60, 66, 67, 93, 94, 97  # RFC 2132, RFC 4578 section 2
_DISCOVER, _OFFER, _REQUEST, _ACK, _INFORM = 1, 2, 3, 5, 8
_WANTED = bytes((1, 3, 43, 54, 60, 66, 67))
_NOWHERE = IPv4Address(0)


@dataclass(frozen=True, slots=True)
class Offer:
    """A server, and the address it offers: 0.0.0.0 of a proxy that offers none.

    `next_server` and `file` are what a machine boots from (RFC 2131 section 2, or options 66 and 67): 0.0.0.0 and empty
    when it is not told. `item` is the first of a proxy's menu (PXE 2.1, section 2.2.3), 0 without one.
    """

    server: IPv4Address
    address: IPv4Address
    next_server: IPv4Address = _NOWHERE
    file: bytes = b""
    item: int = 0


def discover(mac: bytes, xid: int) -> bytes:
    """A DHCPDISCOVER of a client with this MAC address that asks to be answered by broadcast."""
    return _packet(_DISCOVER, mac, xid, IPv4Address(0))


def inform(mac: bytes, xid: int, address: IPv4Address) -> bytes:
    """A DHCPINFORM of a host that has this address: answered without a lease, and without a ping before it."""
    return _packet(_INFORM, mac, xid, address)


def boot(mac: bytes, xid: int, arch: int) -> bytes:
    """A DHCPDISCOVER of a boot ROM of this architecture (RFC 4578): it is told what to boot."""
    return _packet(_DISCOVER, mac, xid, _NOWHERE, _boot_options(arch))


def boot_request(mac: bytes, xid: int, arch: int, address: IPv4Address, item: int = 0) -> bytes:
    """What a boot ROM asks a proxy at port 4011 for an item of its menu (PXE 2.1, 2.2.3): nothing is leased by it."""
    chosen = bytes((_VENDOR, 7, _ITEM, 4)) + item.to_bytes(2, "big") + bytes((0, 0, _END))
    return _packet(_REQUEST, mac, xid, address, _boot_options(arch) + (chosen if item else b""))


def _boot_options(arch: int) -> bytes:
    name = f"PXEClient:Arch:{arch:05}:UNDI:003016".encode()
    return b"".join(
        bytes((code, len(value))) + value
        for code, value in (
            (55, _WANTED), (57, (1472).to_bytes(2, "big")), (_CLASS, name), (_ARCH, arch.to_bytes(2, "big")),
            (_UNDI, bytes((1, 3, 16))), (_UUID, bytes(17)),
        )
    )  # fmt: skip


def _packet(kind: int, mac: bytes, xid: int, address: IPv4Address, options: bytes = bytes((55, 1, 1))) -> bytes:
    nothing = bytes(4)
    head = _HEAD.pack(1, 1, 6, 0, xid, 0, _BROADCAST, address.packed, nothing, nothing, nothing, mac.ljust(16, b"\0"),
                      b"", b"", _COOKIE)  # fmt: skip
    return (head + bytes((_TYPE, 1, kind)) + options + bytes((_END,))).ljust(300, b"\0")


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
    address = IPv4Address(fields[8] if options[_TYPE] == bytes((_OFFER,)) else fields[7])
    overloaded = options.get(_OVERLOAD, b"") in (b"\1", b"\3")  # then the field holds options (RFC 2132 section 9.3)
    named = options.get(_FILE) or (b"" if overloaded else fields[13])
    menu = _options(options.get(_VENDOR, b"")).get(_MENU, b"")
    where, file = _next(fields[9], options.get(_NEXT, b"")), named.partition(b"\0")[0]
    return Offer(IPv4Address(server), address, where, file, int.from_bytes(menu[:2], "big"))


def _next(field: bytes, option: bytes) -> IPv4Address:
    try:
        stated = IPv4Address(option.rstrip(b"\0").decode("ascii"))
    except ValueError:  # none, or a name, which a boot ROM cannot look up
        stated = _NOWHERE
    return IPv4Address(field) if any(field) else stated


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
