"""What the kernel and the network say about an interface: its address, and who else gives out addresses there."""

from __future__ import annotations

import fcntl
import os
import select
import socket
import struct
import time
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface

from appliance.dhcp import discover
from appliance.errors import StartError

_ADDRESS, _NETMASK, _NAME_MAX = 0x8915, 0x891B, 15  # SIOCGIFADDR, SIOCGIFNETMASK
_SERVER_PORT, _CLIENT_PORT, _PROXY_PORT = 67, 68, 4011
ASKED_S = 5.0  # a server may see first whether the address is free: dnsmasq takes 3 s for it, ISC's 1 s
_AGAIN_S, _PROXY_S = 1.0, 3.0


def address(interface: str) -> IPv4Interface:
    """The first IPv4 address of an interface, with its network. Raises StartError."""
    if not interface or len(interface) > _NAME_MAX:
        raise StartError("boot.dhcp_server.interface: name the interface that the machines are on")
    request = struct.pack("16s16x", interface.encode())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            found, mask = (fcntl.ioctl(sock, number, request)[20:24] for number in (_ADDRESS, _NETMASK))
        except OSError as error:
            what = f"interface {interface} has no IPv4 address ({error.strerror})"
            raise StartError(f"boot.dhcp_server.interface: {what}; give it one, or name another") from error
    return IPv4Interface(f"{IPv4Address(found)}/{IPv4Address(mask)}")


def others(interface: str, here: IPv4Interface, seconds: float = ASKED_S) -> list[discover.Offer]:
    """Servers that offer an address on this interface, ourselves left out. Raises StartError when it cannot ask."""
    xid = int.from_bytes(os.urandom(4), "big")
    mac = b"\x02" + os.urandom(5)  # of nobody
    packets = (discover.discover(mac, xid), discover.inform(mac, xid, here.ip))
    try:
        with _client(interface) as sock:
            return _hear(sock, packets, xid, here.ip, seconds)
    except OSError as error:
        raise StartError(f"cannot ask who else answers DHCP on {interface}: {error.strerror}") from error


def boots(
    interface: str, here: IPv4Interface, arches: tuple[int, ...], seconds: float = ASKED_S
) -> dict[int, list[discover.Offer]]:
    """Architecture (RFC 4578) -> what its boot ROM is told here, ourselves included. Raises StartError.

    A proxy that names no file is asked for it at port 4011, as a ROM would.
    """
    mac = b"\x02" + os.urandom(5)  # of nobody
    first = int.from_bytes(os.urandom(3), "big") << 8
    asked = {first + index: arch for index, arch in enumerate(arches)}
    try:
        with _client(interface) as sock:
            packets = tuple(discover.boot(mac, xid, arch) for xid, arch in asked.items())
            found = _all(sock, packets, asked, ("255.255.255.255", _SERVER_PORT), seconds)
        return {arch: [_complete(one, arch, mac, here) for one in offers] for arch, offers in found.items()}
    except OSError as error:
        raise StartError(f"cannot ask what machines are told on {interface}: {error.strerror}") from error


def _complete(found: discover.Offer, arch: int, mac: bytes, here: IPv4Interface) -> discover.Offer:
    if found.file or int(found.address):
        return found
    xid = int.from_bytes(os.urandom(4), "big")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        packet = discover.boot_request(mac, xid, arch, here.ip, found.item)
        answers = _all(sock, (packet,), {xid: arch}, (str(found.server), _PROXY_PORT), _PROXY_S)[arch]
    told = next((one for one in answers if one.file), found)
    return replace(found, next_server=told.next_server, file=told.file)


def _all(
    sock: socket.socket, packets: tuple[bytes, ...], asked: dict[int, int], where: tuple[str, int], seconds: float
) -> dict[int, list[discover.Offer]]:
    """Everybody who answers until the time is over; asked again each second, because datagrams are lost."""
    found: dict[int, dict[IPv4Address, discover.Offer]] = {arch: {} for arch in asked.values()}
    deadline, again = time.monotonic() + seconds, 0.0
    while (now := time.monotonic()) < deadline:
        if now >= again:
            for packet in packets:
                sock.sendto(packet, where)
            again = now + _AGAIN_S
        if select.select([sock], [], [], max(0.0, min(deadline, again) - now))[0]:
            data = sock.recv(2048)
            for xid, arch in asked.items():
                if made := discover.offer(data, xid):
                    found[arch].setdefault(made.server, made)
        if where[1] == _PROXY_PORT and all(found.values()):
            break  # one server was asked, and it has answered
    return {arch: list(offers.values()) for arch, offers in found.items()}


def _client(interface: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT, socket.SO_BROADCAST):
            sock.setsockopt(socket.SOL_SOCKET, option, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        sock.bind(("", _CLIENT_PORT))
    except BaseException:
        sock.close()
        raise
    return sock


def _hear(
    sock: socket.socket, packets: tuple[bytes, ...], xid: int, own: IPv4Address, seconds: float
) -> list[discover.Offer]:
    found: dict[IPv4Address, discover.Offer] = {}
    deadline = time.monotonic() + seconds
    again = 0.0
    while (now := time.monotonic()) < deadline and not found:
        if now >= again:
            for packet in packets:
                sock.sendto(packet, ("255.255.255.255", _SERVER_PORT))
            again = now + _AGAIN_S
        if select.select([sock], [], [], max(0.0, min(deadline, again) - now))[0]:
            made = discover.offer(sock.recv(2048), xid)
            if made is not None and made.server != own and int(made.address):
                found[made.server] = made
    return list(found.values())
