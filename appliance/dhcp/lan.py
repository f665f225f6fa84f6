"""What the kernel and the network say about an interface: its address, and who else gives out addresses there."""

from __future__ import annotations

import fcntl
import os
import select
import socket
import struct
import time
from ipaddress import IPv4Address, IPv4Interface

from appliance.dhcp import discover
from appliance.errors import StartError

_ADDRESS, _NETMASK, _NAME_MAX = 0x8915, 0x891B, 15  # SIOCGIFADDR, SIOCGIFNETMASK
_SERVER_PORT, _CLIENT_PORT = 67, 68
ASKED_S = 5.0  # a server may see first whether the address is free: dnsmasq takes 3 s for it, ISC's 1 s
_AGAIN_S = 1.0


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
