"""Facts about this machine for those who judge it: /proc, ports and who holds them, folders, disk. No opinions.

Invariant: nothing is changed; a port is bound for a moment to learn what the kernel says to it, and let go.
"""

from __future__ import annotations

import glob
import itertools
import os
import socket
import sys
from dataclasses import dataclass, field

MOST = 10_000  # entries of a folder, processes, and descriptors of one that are looked at

_UNTOLD = 1 << 62
_NET_BIND_SERVICE = 10  # capabilities(7)
_SO_RCVBUFFORCE, _IP_FREEBIND, _IPV6_FREEBIND = 33, 15, 78
_WILDCARDS = ("0.0.0.0", "::")
_LISTENING = "0A"  # TCP_LISTEN in /proc/net/tcp


@dataclass(frozen=True, slots=True)
class Machine:
    """Where facts come from: the /proc to read and the user to judge for; `ours`: addresses we serve on already."""

    proc: str = "/proc"
    uid: int = field(default_factory=os.geteuid)
    gid: int = field(default_factory=os.getegid)
    ours: frozenset[str] = frozenset()  # such as "udp 127.0.0.1:69"

    def text(self, name: str) -> str:
        """A file below /proc, "" when it is not there."""
        try:
            with open(f"{self.proc}/{name}", encoding="utf-8", errors="replace") as file:
                return file.read().strip()
        except OSError:
            return ""

    def number(self, name: str) -> int | None:
        """A file below /proc that holds one number; None when it is not there."""
        text = self.text(name)
        return int(text) if text.isdecimal() else None

    def field(self, name: str, label: str) -> str:
        """The first word after `label:` in a file of such lines, "" when it is not there."""
        words = (line.split() for line in self.text(name).splitlines())
        return next((line[1] for line in words if len(line) > 1 and line[0] == f"{label}:"), "")

    def memory(self) -> int:
        """Bytes of memory, 0 when unknown."""
        kib = self.field("meminfo", "MemTotal")
        return int(kib) * 1024 if kib.isdecimal() else 0

    def first_free_port(self) -> int:
        """The lowest port that we may bind: 1 with the privilege, otherwise what the kernel says (ip(7))."""
        capabilities = self.field("self/status", "CapEff") or ("f" * 16 if self.uid == 0 else "0")
        if int(capabilities, 16) >> _NET_BIND_SERVICE & 1:
            return 1
        start = self.number("sys/net/ipv4/ip_unprivileged_port_start")
        return 1024 if start is None else start

    def holder(self, kind: str, address: str, port: int) -> str:
        """ "NAME (pid N)" of who holds a udp or tcp port, "" when that cannot be seen."""
        for inode in self._inodes(kind, address, port):
            for path in itertools.islice(glob.iglob(f"{self.proc}/[0-9]*"), MOST):
                if self._holds(path, inode):
                    pid = os.path.basename(path)
                    return f"{self.text(f'{pid}/comm') or 'a process'} (pid {pid})"
        return ""

    def unit(self, pid: str) -> str:
        """The unit of systemd that a process belongs to, "" when it is no service (systemd.unit(5))."""
        lines = self.text(f"{pid}/cgroup").splitlines()
        names = [name for line in lines for name in line.rpartition(":")[2].split("/")]
        services = [name for name in names if name.endswith(".service") and not name.startswith("user@")]
        return services[-1] if services and "/user.slice/" not in self.text(f"{pid}/cgroup") else ""

    def _inodes(self, kind: str, address: str, port: int) -> list[str]:
        """Inodes of the sockets in the way of an address."""
        found = []
        for name in (kind, f"{kind}6"):
            for line in self.text(f"net/{name}").splitlines()[1:]:
                words = line.split()
                where, _, hexadecimal = words[1].partition(":")
                waits = kind == "udp" or words[3] == _LISTENING
                if waits and int(hexadecimal, 16) == port and _in_the_way(_decoded(where), address):
                    found.append(words[9])
        return found

    def _holds(self, path: str, inode: str) -> bool:
        try:
            with os.scandir(f"{path}/fd") as entries:
                return any(_target(entry.path) == f"socket:[{inode}]" for entry in itertools.islice(entries, MOST))
        except OSError:
            return False  # ended, or another user's


def _target(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _in_the_way(bound: str, address: str) -> bool:
    """A wildcard is in the way of every address of its family, and the one of IPv6 in that of IPv4 too (ipv6(7))."""
    if (":" in bound) != (":" in address):
        return bound == "::"
    return bound == address or bound in _WILDCARDS or address in _WILDCARDS


def _decoded(text: str) -> str:
    """An address of /proc/net: 32-bit words, each in the byte order of the machine (proc(5))."""
    raw = bytes.fromhex(text)
    words = [raw[i : i + 4] for i in range(0, len(raw), 4)]
    data = b"".join(word[::-1] for word in words) if sys.byteorder == "little" else raw
    return socket.inet_ntop(socket.AF_INET if len(data) == 4 else socket.AF_INET6, data)


def try_bind(kind: str, address: str, port: int, *, absent: bool) -> None:
    """Bind and let go. `absent`: an address this machine does not have (yet) is fine. Raises OSError."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM) as sock:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, int(absent))
        else:
            sock.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, int(absent))
        if kind == "tcp":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections in TIME_WAIT are not in the way
        sock.bind((address, port))


def receive_buffer(wanted: int) -> int:
    """The bytes of receive buffer that a UDP socket of ours gets when it asks for so many."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, wanted)
        except OSError:  # no CAP_NET_ADMIN: net.core.rmem_max is the bound
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, wanted)
        return sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2  # the kernel doubles it (socket(7))


def remounting(path: str) -> str:
    """The command for a folder, there or not, whose file system is read-only; "" where it is not. Raises OSError."""
    place = os.path.realpath(nearest(path))
    if not os.statvfs(place).f_flag & os.ST_RDONLY:
        return ""
    while not os.path.ismount(place):
        place = os.path.dirname(place)
    return f"mount -o remount,rw {place}"


def nearest(path: str) -> str:
    """An absolute path, or the nearest above it that exists."""
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    return path


def free_bytes(path: str) -> int:
    """What an ordinary user can still store at a path, there or not; any number of bytes on a file system that does not
    tell (ramfs, some FUSE). Raises OSError.
    """
    found = os.statvfs(nearest(path))
    if not found.f_blocks:
        return _UNTOLD
    return found.f_bavail * found.f_frsize


def held_bytes(folder: str) -> int:
    """The bytes of the files in a folder; 0 when it is not there, or not ours to look into."""
    try:
        with os.scandir(folder) as entries:
            return sum(entry.stat(follow_symlinks=False).st_size for entry in itertools.islice(entries, MOST))
    except OSError:
        return 0
