"""UDP sockets as TFTP needs them: which address was asked, replies from it, path MTU, segmentation by the kernel.

Numbers that the socket module has no name for are from linux/in.h, linux/in6.h and linux/udp.h.
"""

from __future__ import annotations

import errno
import socket
import struct
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from appliance.tftp.packet import HEADER, REQUEST_MAX

Peer: TypeAlias = tuple[str, int] | tuple[str, int, int, int]

_IP_PKTINFO, _IP_MTU_DISCOVER, _IP_MTU = 8, 10, 14
_IPV6_MTU_DISCOVER, _IPV6_MTU, _IPV6_RECVPKTINFO, _IPV6_PKTINFO = 23, 24, 49, 50
_PMTUDISC_DONT = 0
_UDP_SEGMENT = 103
_IN_PKTINFO = struct.Struct("=I4s4s")  # interface, local address, destination in the header
_IN6_PKTINFO = struct.Struct("=16sI")
_ANCILLARY = socket.CMSG_SPACE(_IN6_PKTINFO.size) + socket.CMSG_SPACE(_IN_PKTINFO.size)

SEGMENTS_MAX = 64  # per send: newer kernels take 128, older ones 64
NO_SEGMENTS = {errno.EMSGSIZE, errno.EIO, errno.EINVAL}  # what a path or device that cannot do it answers
SEND_MAX = 65507  # bytes per send, of all segments together
_IP, _IPV6 = int(socket.IPPROTO_IP), int(socket.IPPROTO_IPV6)  # enums compare slowly
_STALE_MAX = 64
_DESTINATIONS_MAX = 256  # kept decoded: ours are few, but a whole network may be routed to us
_OVERHEAD = {socket.AF_INET: 20 + 8, socket.AF_INET6: 40 + 8}


class Local(NamedTuple):
    """The address of ours that a datagram was sent to. `scope`: interface, where the address is link-local."""

    address: str
    scope: int = 0


class Datagram(NamedTuple):
    """What came to a listener; `local` is None when it was sent to everybody (broadcast, multicast).

    `nearest`: then, of an IPv4 broadcast, the address of ours that an answer would come from.
    """

    payload: bytes
    local: Local | None
    peer: Peer
    nearest: Local | None = None


def tell_destination(sock: socket.socket) -> None:
    """Make `receive` know the address that each datagram was sent to. Raises OSError."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)


def receive(sock: socket.socket, size: int = REQUEST_MAX + 1) -> Datagram:
    """One datagram, cut at `size` bytes: one above the largest request. Raises OSError, BlockingIOError for none."""
    payload, ancillary, _flags, peer = sock.recvmsg(size, _ANCILLARY)
    for level, kind, data in ancillary:
        if (level == _IP and kind == _IP_PKTINFO) or (level == _IPV6 and kind == _IPV6_PKTINFO):
            local, nearest = _destination(level, data)
            return Datagram(payload, local, peer, nearest)
    return Datagram(payload, None, peer)


@lru_cache(maxsize=_DESTINATIONS_MAX)
def _destination(level: int, info: bytes) -> tuple[Local | None, Local | None]:
    """`local` and `nearest` of a Datagram."""
    if level == _IP:
        _interface, local, destination = _IN_PKTINFO.unpack_from(info)
        if local == destination:
            return Local(socket.inet_ntoa(local)), None
        multicast = destination[0] & 0xF0 == 0xE0
        return None, None if multicast else Local(socket.inet_ntoa(local))
    raw, interface = _IN6_PKTINFO.unpack_from(info)
    if raw[0] == 0xFF:
        return None, None
    link_local = raw[0] == 0xFE and raw[1] & 0xC0 == 0x80
    return Local(socket.inet_ntop(socket.AF_INET6, raw), interface if link_local else 0), None


def reply(sock: socket.socket, payload: bytes, local: Local, peer: Peer) -> None:
    """Send one datagram from a listener, leaving from the address that was asked. Raises OSError."""
    sock.sendmsg([payload], [leaving_from(sock.family, local)], 0, peer)


def leaving_from(family: int, local: Local) -> tuple[int, int, bytes]:
    """The ancillary data that makes a packet leave from one of our addresses."""
    if family == socket.AF_INET6:
        info = _IN6_PKTINFO.pack(socket.inet_pton(socket.AF_INET6, local.address), local.scope)
        return socket.IPPROTO_IPV6, _IPV6_PKTINFO, info
    return socket.IPPROTO_IP, _IP_PKTINFO, _IN_PKTINFO.pack(0, socket.inet_aton(local.address), b"\0\0\0\0")


def unmapped(local: Local, peer: Peer) -> tuple[Local, Peer]:
    """An IPv4 client of a dual-stack listener (::ffff:192.0.2.1) as the IPv4 client it is."""
    host = peer[0]
    if host.startswith("::ffff:") and "." in host:
        return Local(local.address.removeprefix("::ffff:")), (host.removeprefix("::ffff:"), peer[1])
    return local, peer


def connect(local: Local, peer: Peer, port: int) -> socket.socket:
    """A non-blocking socket for one transfer: from `local`, `port` (0: any free one), to `peer`. Raises OSError.

    Connected, because then the kernel keeps strangers out, reports an unreachable client and has the route at hand:
    an unconnected socket cost 10 % more CPU per block.
    """
    family = socket.AF_INET6 if ":" in local.address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((local.address, port) if family == socket.AF_INET else (local.address, port, 0, local.scope))
        sock.connect(peer)
    except BaseException:
        sock.close()
        raise
    return sock


def turn(sock: socket.socket, peer: Peer) -> bool:
    """Connect the socket of an earlier transfer to another client, without a word of the earlier one left in its queue.

    From the connect on the kernel puts nothing of the earlier client into the queue, and the next one cannot know the
    port yet: whatever is there is old. False: it does not get empty. Raises OSError when there is no way to `peer`.
    """
    sock.connect(peer)
    for _ in range(_STALE_MAX):
        try:
            sock.recv(1)
        except BlockingIOError:
            return True
        except OSError:  # an ICMP error that the earlier client caused; telling it once clears it
            continue
    return False


def watch(family: int, port: int = 0) -> socket.socket:
    """An unconnected socket on `port` (0: a free one) of every address: what it receives was meant for nobody.

    Raises OSError, EADDRINUSE for a port that somebody has.
    """
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        tell_destination(sock)
        sock.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", port))
        # Only now: asked before, the kernel gives out a "free" port that another watch of our uid has already.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except BaseException:
        sock.close()
        raise
    return sock


def room(sock: socket.socket) -> int:
    """Bytes of file data that one unfragmented packet of this connected socket carries. Raises OSError."""
    if sock.family == socket.AF_INET6:
        mtu = sock.getsockopt(socket.IPPROTO_IPV6, _IPV6_MTU)
    else:
        mtu = sock.getsockopt(socket.IPPROTO_IP, _IP_MTU)
    return mtu - _OVERHEAD[sock.family] - HEADER.size


def segment(sock: socket.socket, stride: int) -> int:
    """Let the kernel cut what is sent into datagrams of `stride` bytes; returns how many fit one send, 1: off."""
    run = min(SEGMENTS_MAX, SEND_MAX // stride)
    if run < 2:
        return 1
    try:
        sock.setsockopt(socket.IPPROTO_UDP, _UDP_SEGMENT, stride)
    except OSError:  # Linux before 4.18
        return 1
    return run


def segment_no_more(sock: socket.socket) -> None:
    """Turn segmentation off. Raises OSError."""
    sock.setsockopt(socket.IPPROTO_UDP, _UDP_SEGMENT, 0)


def allow_fragments(sock: socket.socket) -> None:
    """Send without "don't fragment" from now on: for a path that silently eats large packets. Raises OSError."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_DONT)
    else:
        sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_DONT)
