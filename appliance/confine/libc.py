"""The few calls the standard library has no name for, through ctypes, prepared before any confinement."""

from __future__ import annotations

import ctypes
import os
from typing import Any

_libc = ctypes.CDLL(None, use_errno=True)
try:  # glibc loads it when a thread is ended (pthread_exit) and ends the process where it cannot, as in a jail
    _libgcc: ctypes.CDLL | None = ctypes.CDLL("libgcc_s.so.1")
except OSError:
    _libgcc = None
_libc.syscall.restype = ctypes.c_long

PR_SET_PDEATHSIG, PR_GET_PDEATHSIG = 1, 2
PR_SET_DUMPABLE = 4
PR_SET_SECCOMP = 22
PR_CAPBSET_READ, PR_CAPBSET_DROP = 23, 24
PR_SET_NO_NEW_PRIVS, PR_GET_NO_NEW_PRIVS = 38, 39
PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
CLONE_NEWUSER, CLONE_NEWNS, CLONE_NEWNET = 0x10000000, 0x00020000, 0x40000000
CLONE_NEWIPC, CLONE_NEWPID = 0x08000000, 0x20000000


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def prctl(option: int, *arguments: Any) -> int:
    """prctl(2). Raises OSError."""
    padded = [ctypes.c_ulong(a) if isinstance(a, int) else a for a in (*arguments, 0, 0, 0, 0)[:4]]
    return _checked(_libc.prctl(ctypes.c_int(option), *padded), f"prctl {option}")


def unshare(flags: int) -> None:
    """unshare(2) (os.unshare exists from Python 3.12). Raises OSError."""
    _checked(_libc.unshare(ctypes.c_int(flags)), "unshare")


def look_as(uid: int, gid: int) -> None:
    """setfsuid(2), setfsgid(2): files are opened and entered with the rights of this account. Cannot fail as root."""
    _libc.setfsgid(ctypes.c_uint(gid))
    _libc.setfsuid(ctypes.c_uint(uid))


def syncfs(descriptor: int) -> None:
    """syncfs(2), which os lacks: all of the file system that an open file is on goes to disk. Raises OSError."""
    _checked(_libc.syncfs(ctypes.c_int(descriptor)), "syncfs")


def disconnect(descriptor: int) -> None:
    """Undo a connect(2) of a datagram socket (the socket module cannot say AF_UNSPEC). Raises OSError."""
    _checked(_libc.connect(ctypes.c_int(descriptor), bytes(16), ctypes.c_uint(16)), "connect")


def syscall(number: int, *arguments: Any) -> int:
    """A system call by number, for those glibc does not wrap. Raises OSError."""
    padded = [ctypes.c_ulong(a) if isinstance(a, int) else a for a in arguments]
    return _checked(_libc.syscall(ctypes.c_long(number), *padded), f"system call {number}")


class _CapHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapData(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


_CAP_VERSION = 0x20080522


def capset_none() -> None:
    """Give up every capability of this thread. Raises OSError."""
    _checked(_libc.capset(ctypes.byref(_CapHeader(_CAP_VERSION, 0)), (_CapData * 2)()), "capset")


def capset(numbers: tuple[int, ...], *, inherit: bool = False) -> None:
    """Have exactly these capabilities, effective and permitted, and inheritable if `inherit`. Raises OSError."""
    bits = sum(1 << number for number in numbers)
    data = (_CapData * 2)()
    for half, shift in enumerate((0, 32)):
        value = bits >> shift & 0xFFFFFFFF
        data[half] = _CapData(value, value, value if inherit else 0)
    _checked(_libc.capset(ctypes.byref(_CapHeader(_CAP_VERSION, 0)), data), "capset")


def capget() -> tuple[int, int, int]:
    """Effective, permitted and inheritable capabilities as bit sets. Raises OSError."""
    data = (_CapData * 2)()
    _checked(_libc.capget(ctypes.byref(_CapHeader(_CAP_VERSION, 0)), data), "capget")
    low, high = data
    return (
        low.effective | high.effective << 32,
        low.permitted | high.permitted << 32,
        low.inheritable | high.inheritable << 32,
    )
