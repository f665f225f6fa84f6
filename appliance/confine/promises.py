"""The promise of each kind of child: the system calls it keeps, and with which arguments (confine.rules). Pure data."""

from __future__ import annotations

from appliance.confine.rules import (
    ANY,
    CLIENT_OPTIONS,
    DGRAM,
    F_DUPFD,
    F_DUPFD_CLOEXEC,
    F_GETFD,
    F_GETFL,
    F_SETFD,
    F_SETLK,
    FICLONE,
    FTP_OPTIONS,
    LOOK,
    MODE_X,
    O_APPEND,
    O_CREAT,
    O_EXCL,
    O_WRONLY,
    RUNTIME,
    SENDTO,
    SOCKET,
    STORE,
    STREAM,
    TALK,
    TCP,
    TFTP_OPTIONS,
    WRITE_FLAGS,
    Rules,
    one_of,
    socket_of,
    socket_options,
)

ENOSYS_CALLS = ("clone3", "openat2", "statx", "faccessat2", "epoll_pwait2")  # glibc and Python fall back on these


PROMISES: dict[str, Rules] = {
    "tftp": {
        **TALK,
        **RUNTIME,
        **LOOK,
        "recvmmsg": ANY,  # a window of an upload with one call; it can do no more than recvmsg
        "setsockopt": TFTP_OPTIONS,
        "bind": ANY,
        "connect": ANY,
        "socket": socket_of(DGRAM),
    },
    "ftp": {
        "sendfile": ANY,
        **TALK,
        **RUNTIME,
        **LOOK,
        "accept4": ANY,
        "accept": ANY,
        "bind": ANY,
        "listen": ANY,
        "setsockopt": FTP_OPTIONS,
        "socket": socket_of(STREAM),
        "splice": ANY,
        "pipe2": ANY,
    },
    "custody": {
        **RUNTIME,
        **LOOK,
        "openat": (((2, WRITE_FLAGS, 0),), ((2, WRITE_FLAGS & ~O_WRONLY | O_EXCL, O_CREAT | O_EXCL),)),
        "fcntl": one_of(1, F_GETFL, F_GETFD, F_SETFD, F_DUPFD_CLOEXEC, F_DUPFD, F_SETLK),
        "getsockname": ANY,
        "getsockopt": ANY,
        "sendto": SENDTO,
        "recvfrom": ANY,
        "fsync": ANY,
        "fchmod": (((1, MODE_X, 0),),),  # the drop box itself cannot be opened to others: that takes an x bit
        "linkat": ANY,
        "link": ANY,
        "unlink": ANY,
        "unlinkat": ANY,
        # an upload takes the place of another in one step; rename on x86-64, renameat elsewhere
        "rename": ANY,
        "renameat": ANY,
        # who uploaded a file (custody.marks): 64 bytes, and so never an access list, whose size is 4 + 8 n and which
        # would open the drop box to others
        "fsetxattr": (((3, 0xFFFFFFFF, 64), (4, 0xFFFFFFFF, 0)),),
        "fgetxattr": ANY,
        "lgetxattr": ANY,
        "statfs": ANY,
        "fstatfs": ANY,
    },
    "events": {
        **RUNTIME,
        **LOOK,
        # a segment of the history is made new and appended to; none is ever opened to be written again
        "openat": (
            ((2, WRITE_FLAGS, 0),),
            ((2, WRITE_FLAGS | O_EXCL, O_WRONLY | O_CREAT | O_EXCL | O_APPEND),),
        ),
        "unlink": ANY,
        "accept4": ANY,
        "accept": ANY,
        "getsockname": ANY,
        "getsockopt": ANY,
        "sendto": SENDTO,
        "recvfrom": ANY,
    },
    "keeper": {
        **RUNTIME,
        **LOOK,
        # the state of a one-shot boot is made new and takes the place of the one before
        "openat": (((2, WRITE_FLAGS, 0),), ((2, WRITE_FLAGS | O_EXCL, O_WRONLY | O_CREAT | O_EXCL),)),
        "fsync": ANY,
        "unlink": ANY,
        "rename": ANY,
        "renameat": ANY,
        "getsockname": ANY,
        "getsockopt": ANY,
        "sendto": SENDTO,
        "recvfrom": ANY,
    },
    "status": {
        **RUNTIME,
        "accept4": ANY,
        "accept": ANY,
        "getsockname": ANY,
        "sendto": SENDTO,
        "recvfrom": ANY,
        "shutdown": ANY,
    },
    "resolver": {  # UDP only: an answer that needs TCP is one that nobody here waits for
        **RUNTIME,
        "socket": socket_of(DGRAM),
        "connect": ANY,
        "sendto": SENDTO,
        "recvfrom": ANY,
        "getsockname": ANY,
        "getsockopt": ANY,
    },
    "board": {  # looks at nothing and makes no socket: browsers come in by a listener that exists
        **TALK,
        **RUNTIME,
        "accept4": ANY,
        "accept": ANY,
        "setsockopt": socket_options((TCP, 1), (SOCKET, 9)),  # TCP_NODELAY, SO_KEEPALIVE
    },
    "metrics": {
        **RUNTIME,
        "accept4": ANY,
        "accept": ANY,
        "getsockname": ANY,
        "sendto": SENDTO,
        "recvfrom": ANY,
        "shutdown": ANY,
    },
    "hooks": {**RUNTIME, "getsockname": ANY, "getsockopt": ANY, "sendto": SENDTO, "recvfrom": ANY},
    "reader": {**RUNTIME, "newfstatat": ANY, "pread64": ANY},
    # boot files: three short-lived children (docs/BOOT.md)
    "fetcher": {
        **TALK,
        **RUNTIME,
        **LOOK,
        **STORE,
        "sendmmsg": ANY,  # the resolver asks for both families of addresses at once
        "bind": ANY,
        "connect": ANY,
        "setsockopt": CLIENT_OPTIONS,
        "socket": socket_of(STREAM) + socket_of(DGRAM),
    },
    "unpacker": {**RUNTIME, **LOOK, **STORE},
    "publisher": {
        **RUNTIME,
        **LOOK,
        **STORE,
        "ioctl": (*RUNTIME["ioctl"], ((1, 0xFFFFFFFF, FICLONE),)),
        "flock": ANY,
        "syncfs": ANY,
        "copy_file_range": ANY,
        "mkdirat": ANY,
        "linkat": ANY,
    },
}

# What stands between the network and dnsmasq's end: it waits, and does nothing else (dhcp.guard).
PROMISES["guard"] = dict(RUNTIME)
# The parent of that one, which reads what dnsmasq says (dhcp.worker).
PROMISES["dhcp"] = {**RUNTIME, "sendto": SENDTO, "getsockname": ANY, "getsockopt": ANY}  # the link to events

_THREAD = (
    0x3D0F00  # what glibc's pthread_create asks of clone: the same memory, files, signals, process; no new id space
)
# Kept only while the threads of a worker are made, which is after every other layer is on (docs/decisions/0013). Then
# `CLOSED` is taken away for good, from all threads at once, and the promise is the table above and nothing more.
THREADS: Rules = {
    "clone": (((0, 0xFFFFFFFF, _THREAD),),),
    "set_robust_list": ANY,
    "rseq": (((2, 0xFFFFFFFF, 0),),),  # register; glibc ends a process whose threads cannot
    "seccomp": (((0, 0xFFFFFFFF, 1), (1, 0xFFFFFFFF, 1)),),  # one more filter, on all threads: it can only take away
}
CLOSED = tuple(THREADS)


def names(promise: str) -> frozenset[str]:
    """The system calls of a promise."""
    return frozenset(PROMISES[promise])
