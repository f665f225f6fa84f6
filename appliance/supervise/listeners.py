"""Bind what a service listens on, or take it from systemd. The supervisor keeps every socket; workers get copies.

One socket per worker and address (SO_REUSEPORT), so that the kernel spreads the work and a worker's queue survives it.
An inherited socket is one, and is shared by all workers of its service.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import time
from collections.abc import Iterable, MutableMapping
from pathlib import Path

from appliance.errors import StartError
from appliance.supervise.service import Listen

UDP_BUFFER = 8 << 20  # bytes; the peers' 208 KiB lose half of 500 machines that ask at once
_BACKLOG = 1024
_IP_FREEBIND, _IPV6_FREEBIND, _IP_PKTINFO, _SO_RCVBUFFORCE, _SO_REUSEPORT = 15, 78, 8, 33, 15
_RETRY_S = 2.0  # children of a supervisor that was killed need a moment to let go of their sockets


def bind(listen: Listen, count: int, *, mode: int = 0o600) -> list[socket.socket]:
    """`count` sockets on one address. Raises StartError that names the address and the remedy."""
    if listen.local:
        return [_unix(listen, mode)]
    deadline = time.monotonic() + _RETRY_S
    while True:
        try:
            return _bind_each(listen, count)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                raise StartError(_explain(listen, error)) from error
            time.sleep(0.02)  # nothing tells when a foreign socket goes away


def extend(listen: Listen, known: list[socket.socket], count: int) -> list[socket.socket]:
    """`count` sockets on an address of which `known` are bound already (their port stays). Raises StartError."""
    if not known or len(known) >= count:
        return known[:count] or bind(listen, count)
    port = known[0].getsockname()[1]
    more: list[socket.socket] = []
    try:
        for _ in range(count - len(known)):
            more.append(_ready(listen, port))
    except OSError as error:
        for sock in more:
            sock.close()
        raise StartError(_explain(listen, error)) from error
    return [*known, *more]


def bind_all(
    wanted: Iterable[Listen], have: dict[Listen, list[socket.socket]], count: int
) -> dict[Listen, list[socket.socket]]:
    """The sockets on every address, those of `have` among them. Raises StartError, keeping no new one."""
    bound: dict[Listen, list[socket.socket]] = {}
    try:
        for listen in wanted:
            known = have.get(listen, [])
            bound[listen] = (known or bind(listen, 1)) if listen.local else extend(listen, known, count)
    except StartError:
        close_except(bound, have)
        raise
    return bound


def close_except(bound: dict[Listen, list[socket.socket]], keep: dict[Listen, list[socket.socket]]) -> None:
    """Close the sockets of `bound` that are not in `keep`."""
    kept = {id(sock) for socks in keep.values() for sock in socks}
    for socks in bound.values():
        for sock in socks:
            if id(sock) not in kept:
                sock.close()


def mend(socks: list[socket.socket]) -> None:
    """Undo what a worker that was taken over can do to a listener and leave behind: shutdown() ends the listening of a
    TCP socket for every copy. (A connect() of a UDP socket is undone by the next child, at its birth.)
    """
    for sock in socks:
        if sock.type == socket.SOCK_STREAM:
            sock.listen(_BACKLOG)


def described(sock: socket.socket) -> Listen:
    """The address value of a socket that we did not bind."""
    name = sock.getsockname()
    return Listen("udp" if sock.type == socket.SOCK_DGRAM else "tcp", name[0], name[1])


def _ready(listen: Listen, port: int) -> socket.socket:
    sock = _new(listen, reuse=True)
    try:
        sock.bind((listen.host, port))
        if listen.kind == "tcp":
            sock.listen(_BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def _bind_each(listen: Listen, count: int) -> list[socket.socket]:
    # Without SO_REUSEPORT first: otherwise a second instance of the same user would quietly share the port.
    with _new(listen, reuse=False) as probe:
        probe.bind((listen.host, listen.port))
        if listen.kind == "tcp":
            probe.listen(1)  # two bound sockets with SO_REUSEADDR only collide when they listen
        port = probe.getsockname()[1]
    bound: list[socket.socket] = []
    try:
        for _ in range(count):
            bound.append(_ready(listen, port))
    except OSError:
        for sock in bound:
            sock.close()
        raise
    return bound


def _new(listen: Listen, *, reuse: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    kind = socket.SOCK_DGRAM if listen.kind == "udp" else socket.SOCK_STREAM
    sock = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
    if kind == socket.SOCK_STREAM:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    else:
        raise_buffer(sock)
        _tell_addresses(sock)
    if reuse:
        sock.setsockopt(socket.SOL_SOCKET, _SO_REUSEPORT, 1)
    return sock


def raise_buffer(sock: socket.socket) -> int:
    """Give a UDP listener room for a whole room of machines; returns the bytes that it got."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, UDP_BUFFER)
    except OSError:  # not root: what net.core.rmem_max allows
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, UDP_BUFFER)
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2


def _tell_addresses(sock: socket.socket) -> None:
    """Have the kernel tell the address each datagram was sent to, from the first one on that is queued."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)


def _unix(listen: Listen, mode: int) -> socket.socket:
    kind = socket.SOCK_SEQPACKET if listen.kind == "packets" else socket.SOCK_STREAM
    sock = socket.socket(socket.AF_UNIX, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    return bind_unix(sock, listen.host, mode)


def bind_unix(sock: socket.socket, path: str, mode: int) -> socket.socket:
    """Bind a Unix socket over the leftover of an earlier run, with `mode` from the first moment on, and listen."""
    place = Path(path)
    folder = os.open(place.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _clear(place.name, folder)
        mask = os.umask(0o777 & ~mode)
        try:
            sock.bind(f"/proc/self/fd/{folder}/{place.name}")  # a path may exceed the 107 bytes of a socket address
        finally:
            os.umask(mask)
    except OSError as error:
        sock.close()
        raise StartError(f"cannot make {path}: {error.strerror}") from error
    finally:
        os.close(folder)
    sock.listen(_BACKLOG)
    return sock


def _clear(name: str, folder: int) -> None:
    try:
        if not stat.S_ISSOCK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            raise FileExistsError(errno.EEXIST, "there is something that is no socket")
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        pass


def _explain(listen: Listen, error: OSError) -> str:
    where = f"{listen.kind} {address_text(listen.host, listen.port)}"
    remedy = {
        errno.EADDRINUSE: f"another program has it: ss -lnp 'sport = {listen.port}' tells which; stop it",
        errno.EACCES: "ports below 1024 need root, CAP_NET_BIND_SERVICE or socket activation",
        errno.EPERM: "ports below 1024 need root, CAP_NET_BIND_SERVICE or socket activation",
        errno.EADDRNOTAVAIL: "this machine has no such address family; take the address out of listen",
        errno.EAFNOSUPPORT: "IPv6 is switched off here; take the address out of listen",
    }.get(error.errno or 0, "change listen")
    return f"cannot listen on {where}: {error.strerror} ({remedy})"


def address_text(host: str, port: int) -> str:
    """host:port, IPv6 in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def inherit(environment: MutableMapping[str, str]) -> dict[str, list[socket.socket]]:
    """Sockets that systemd passed (sd_listen_fds(3)), by the service their name begins with, in any order.

    Names are `tftp`, `ftp`, or those with a suffix after a dash or dot. Raises StartError for a name or type that fits
    no service, because serving on less than the administrator asked for is worse than not starting.
    """
    count, pid = environment.pop("LISTEN_FDS", ""), environment.pop("LISTEN_PID", "")
    names = environment.pop("LISTEN_FDNAMES", "").split(":")
    if not count.isdecimal() or pid != str(os.getpid()):
        return {}
    found: dict[str, list[socket.socket]] = {}
    for offset in range(int(count)):
        name = names[offset] if offset < len(names) else ""
        service = name.removeprefix("appliance-").replace(".", "-").split("-")[0]
        found.setdefault(service, []).append(_inherited(3 + offset, name, service))
    return found


def _inherited(descriptor: int, name: str, service: str) -> socket.socket:
    kinds = {"tftp": socket.SOCK_DGRAM, "ftp": socket.SOCK_STREAM}
    try:
        os.set_inheritable(descriptor, False)
    except OSError as error:
        raise StartError(f"LISTEN_FDS names descriptor {descriptor}, and there is none") from error
    if service not in kinds:
        raise StartError(f"systemd passed a socket named {name!r}: set FileDescriptorName=tftp or =ftp in its unit")
    if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        raise StartError(f"systemd passed {name!r}, which is no socket")
    sock = socket.socket(fileno=descriptor)
    if sock.type != kinds[service] or sock.family not in (socket.AF_INET, socket.AF_INET6):
        wanted = "ListenDatagram" if service == "tftp" else "ListenStream"
        raise StartError(f"the socket named {name!r} is of the wrong type: use {wanted}= in its unit")
    sock.setblocking(False)
    if service == "tftp":
        raise_buffer(sock)
        _tell_addresses(sock)
    return sock
