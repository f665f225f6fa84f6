"""The promise of each kind of child: the system calls it keeps, and with which arguments. Pure data.

A rule is a name, or a name with alternatives; an alternative is a tuple of (argument index, mask, value) that must all
hold: (argument & mask) == value. What is asked often stands first: the filter is read from the top. Everything else is
answered EPERM (probing libraries survive it), and the few where glibc needs it, ENOSYS.
"""

from __future__ import annotations

from typing import TypeAlias

Condition: TypeAlias = tuple[int, int, int]
Alternatives: TypeAlias = tuple[tuple[Condition, ...], ...]
Rules: TypeAlias = dict[str, Alternatives]

_ANY: Alternatives = ((),)
_AF_INET, _AF_INET6, _STREAM, _DGRAM = 2, 10, 1, 2
_FIONBIO, _FIONREAD = 0x5421, 0x541B
_F_DUPFD, _F_GETFD, _F_SETFD, _F_GETFL, _F_SETLK, _F_DUPFD_CLOEXEC = 0, 1, 2, 3, 6, 1030
_MSG_FASTOPEN = 0x20000000
_FICLONE = 0x40049409  # ioctl_ficlone(2)
_MODE_X = 0o7111  # set-uid, set-gid, sticky, and every bit that runs a file or enters a folder
_IP, _TCP, _UDP, _IPV6, _SOCKET = 0, 6, 17, 41, 1  # levels of setsockopt; TCP and UDP are protocols of socket() as well
_PROT_EXEC = 4
_O_WRONLY, _O_RDWR, _O_CREAT, _O_EXCL, _O_TRUNC, _O_APPEND, _TMPFILE = (
    0o1,
    0o2,
    0o100,
    0o200,
    0o1000,
    0o2000,
    0o20000000,
)
_WRITE_FLAGS = _O_WRONLY | _O_RDWR | _O_CREAT | _O_TRUNC | _O_APPEND | _TMPFILE

ENOSYS_CALLS = ("clone3", "openat2", "statx", "faccessat2", "epoll_pwait2")  # glibc and Python fall back on these


def _socket(kind: int) -> Alternatives:
    # The protocol is named too: behind others (MPTCP, SCTP, UDP-Lite, ICMP) lies kernel code nobody here needs.
    protocols = (0, _TCP if kind == _STREAM else _UDP)
    return tuple(
        ((0, 0xFFFFFFFF, family), (1, 0xF, kind), (2, 0xFFFFFFFF, protocol))
        for family in (_AF_INET, _AF_INET6)
        for protocol in protocols
    )


def _one_of(argument: int, *values: int) -> Alternatives:
    return tuple(((argument, 0xFFFFFFFF, value),) for value in values)


def _options(*options: tuple[int, int]) -> Alternatives:
    # Named one by one because of what an option of a shared socket outlives: SO_LINGER makes whoever closes last wait,
    # SO_ATTACH_REUSEPORT_CBPF draws the clients of all siblings, SO_ATTACH_FILTER makes a listener deaf for good.
    return tuple(((1, 0xFFFFFFFF, level), (2, 0xFFFFFFFF, name)) for level, name in options)


_RUNTIME: Rules = {
    # the event loop
    "epoll_wait": _ANY,
    "epoll_pwait": _ANY,
    "epoll_ctl": _ANY,
    "poll": _ANY,
    "ppoll": _ANY,
    "select": _ANY,
    "pselect6": _ANY,
    # descriptors that were handed over
    "read": _ANY,
    "write": _ANY,
    "readv": _ANY,
    "writev": _ANY,
    "recvmsg": _ANY,
    "sendmsg": (((2, _MSG_FASTOPEN, 0),),),
    "close": _ANY,
    "fstat": _ANY,
    # not F_SETOWN and F_SETSIG, which send any signal to any process of our uid, nor F_SETFL, which takes O_APPEND
    # off the log that everybody shares (blocking is set by ioctl)
    "fcntl": _one_of(1, _F_GETFL, _F_GETFD, _F_SETFD, _F_DUPFD_CLOEXEC, _F_DUPFD),
    "lseek": _ANY,
    "ioctl": (((1, 0xFFFFFFFF, _FIONBIO),), ((1, 0xFFFFFFFF, _FIONREAD),)),
    # memory, never executable
    "mmap": (((2, _PROT_EXEC, 0),),),
    "mprotect": (((2, _PROT_EXEC, 0),),),
    "munmap": _ANY,
    "mremap": _ANY,
    "madvise": _ANY,
    "brk": _ANY,
    "futex": _ANY,
    # time, signals, the end
    "clock_gettime": _ANY,
    "clock_nanosleep": _ANY,
    "gettimeofday": _ANY,
    "getrandom": _ANY,
    "rt_sigaction": _ANY,
    "rt_sigprocmask": _ANY,
    "rt_sigreturn": _ANY,
    "sigaltstack": _ANY,
    "sched_yield": _ANY,
    "restart_syscall": _ANY,
    "getpid": _ANY,
    "getppid": _ANY,
    "gettid": _ANY,
    "getuid": _ANY,
    "geteuid": _ANY,
    "getgid": _ANY,
    "getegid": _ANY,
    "exit": _ANY,
    "exit_group": _ANY,
}
_LOOK: Rules = {  # look at files, never change one
    "openat": (((2, _WRITE_FLAGS, 0),),),
    "newfstatat": _ANY,
    "stat": _ANY,
    "lstat": _ANY,
    "readlink": _ANY,
    "readlinkat": _ANY,
    "getdents64": _ANY,
    "pread64": _ANY,
    "preadv": _ANY,
    "preadv2": _ANY,
    "getcwd": _ANY,
}
# MSG_FASTOPEN connects a TCP socket without connect(), and Landlock (ABI 7) does not see it
_SENDTO: Alternatives = (((3, _MSG_FASTOPEN, 0),),)
_TALK: Rules = {  # use sockets that exist
    "sendto": _SENDTO,
    "recvfrom": _ANY,
    "getsockname": _ANY,
    "getpeername": _ANY,
    "getsockopt": _ANY,
    "shutdown": _ANY,
}
_TFTP_OPTIONS = _options(
    (_UDP, 103),  # UDP_SEGMENT
    (_SOCKET, 15),  # SO_REUSEPORT
    (_IP, 8),  # IP_PKTINFO
    (_IP, 10),  # IP_MTU_DISCOVER
    (_IPV6, 49),  # IPV6_RECVPKTINFO
    (_IPV6, 23),  # IPV6_MTU_DISCOVER
    (_IPV6, 26),  # IPV6_V6ONLY
)
_FTP_OPTIONS = _options(
    (_SOCKET, 2),  # SO_REUSEADDR
    (_TCP, 1),  # TCP_NODELAY
    (_TCP, 3),  # TCP_CORK
    (_SOCKET, 9),  # SO_KEEPALIVE
    (_SOCKET, 10),  # SO_OOBINLINE
    (_SOCKET, 21),  # SO_SNDTIMEO: how long a thread that sends a file waits for room; sockets of the loop never wait
    (_IPV6, 26),  # IPV6_V6ONLY
)

# the options that glibc's resolver, ftplib, urllib3 and tftpy set
_CLIENT_OPTIONS = _options(
    (_SOCKET, 2),  # SO_REUSEADDR
    (_SOCKET, 9),  # SO_KEEPALIVE
    (_SOCKET, 10),  # SO_OOBINLINE
    (_TCP, 1),  # TCP_NODELAY
    (_IP, 11),  # IP_RECVERR
    (_IPV6, 25),  # IPV6_RECVERR
)
_STORE: Rules = {  # make files in folders that are its own
    "openat": _ANY,
    "fsync": _ANY,
    "unlink": _ANY,
    "unlinkat": _ANY,
    "rename": _ANY,
    "renameat": _ANY,
    "fstatfs": _ANY,
}

PROMISES: dict[str, Rules] = {
    "tftp": {
        **_TALK,
        **_RUNTIME,
        **_LOOK,
        "recvmmsg": _ANY,  # a window of an upload with one call; it can do no more than recvmsg
        "setsockopt": _TFTP_OPTIONS,
        "bind": _ANY,
        "connect": _ANY,
        "socket": _socket(_DGRAM),
    },
    "ftp": {
        "sendfile": _ANY,
        **_TALK,
        **_RUNTIME,
        **_LOOK,
        "accept4": _ANY,
        "accept": _ANY,
        "bind": _ANY,
        "listen": _ANY,
        "setsockopt": _FTP_OPTIONS,
        "socket": _socket(_STREAM),
        "splice": _ANY,
        "pipe2": _ANY,
    },
    "custody": {
        **_RUNTIME,
        **_LOOK,
        "openat": (((2, _WRITE_FLAGS, 0),), ((2, _WRITE_FLAGS & ~_O_WRONLY | _O_EXCL, _O_CREAT | _O_EXCL),)),
        "fcntl": _one_of(1, _F_GETFL, _F_GETFD, _F_SETFD, _F_DUPFD_CLOEXEC, _F_DUPFD, _F_SETLK),
        "getsockname": _ANY,
        "getsockopt": _ANY,
        "sendto": _SENDTO,
        "recvfrom": _ANY,
        "fsync": _ANY,
        "fchmod": (((1, _MODE_X, 0),),),  # the drop box itself cannot be opened to others: that takes an x bit
        "linkat": _ANY,
        "link": _ANY,
        "unlink": _ANY,
        "unlinkat": _ANY,
        # an upload takes the place of another in one step; rename on x86-64, renameat elsewhere
        "rename": _ANY,
        "renameat": _ANY,
        # who uploaded a file (custody.marks): 64 bytes, and so never an access list, whose size is 4 + 8 n and which
        # would open the drop box to others
        "fsetxattr": (((3, 0xFFFFFFFF, 64), (4, 0xFFFFFFFF, 0)),),
        "fgetxattr": _ANY,
        "lgetxattr": _ANY,
        "statfs": _ANY,
        "fstatfs": _ANY,
    },
    "events": {
        **_RUNTIME,
        **_LOOK,
        # a segment of the history is made new and appended to; none is ever opened to be written again
        "openat": (
            ((2, _WRITE_FLAGS, 0),),
            ((2, _WRITE_FLAGS | _O_EXCL, _O_WRONLY | _O_CREAT | _O_EXCL | _O_APPEND),),
        ),
        "unlink": _ANY,
        "accept4": _ANY,
        "accept": _ANY,
        "getsockname": _ANY,
        "getsockopt": _ANY,
        "sendto": _SENDTO,
        "recvfrom": _ANY,
    },
    "keeper": {
        **_RUNTIME,
        **_LOOK,
        # the state of a one-shot boot is made new and takes the place of the one before
        "openat": (((2, _WRITE_FLAGS, 0),), ((2, _WRITE_FLAGS | _O_EXCL, _O_WRONLY | _O_CREAT | _O_EXCL),)),
        "fsync": _ANY,
        "unlink": _ANY,
        "rename": _ANY,
        "renameat": _ANY,
        "getsockname": _ANY,
        "getsockopt": _ANY,
        "sendto": _SENDTO,
        "recvfrom": _ANY,
    },
    "status": {
        **_RUNTIME,
        "accept4": _ANY,
        "accept": _ANY,
        "getsockname": _ANY,
        "sendto": _SENDTO,
        "recvfrom": _ANY,
        "shutdown": _ANY,
    },
    "resolver": {  # UDP only: an answer that needs TCP is one that nobody here waits for
        **_RUNTIME,
        "socket": _socket(_DGRAM),
        "connect": _ANY,
        "sendto": _SENDTO,
        "recvfrom": _ANY,
        "getsockname": _ANY,
        "getsockopt": _ANY,
    },
    "board": {  # looks at nothing and makes no socket: browsers come in by a listener that exists
        **_TALK,
        **_RUNTIME,
        "accept4": _ANY,
        "accept": _ANY,
        "setsockopt": _options((_TCP, 1), (_SOCKET, 9)),  # TCP_NODELAY, SO_KEEPALIVE
    },
    "metrics": {
        **_RUNTIME,
        "accept4": _ANY,
        "accept": _ANY,
        "getsockname": _ANY,
        "sendto": _SENDTO,
        "recvfrom": _ANY,
        "shutdown": _ANY,
    },
    "hooks": {**_RUNTIME, "getsockname": _ANY, "getsockopt": _ANY, "sendto": _SENDTO, "recvfrom": _ANY},
    "reader": {**_RUNTIME, "newfstatat": _ANY, "pread64": _ANY},
    # boot files: three short-lived children (docs/BOOT.md)
    "fetcher": {
        **_TALK,
        **_RUNTIME,
        **_LOOK,
        **_STORE,
        "sendmmsg": _ANY,  # the resolver asks for both families of addresses at once
        "bind": _ANY,
        "connect": _ANY,
        "setsockopt": _CLIENT_OPTIONS,
        "socket": _socket(_STREAM) + _socket(_DGRAM),
    },
    "unpacker": {**_RUNTIME, **_LOOK, **_STORE},
    "publisher": {
        **_RUNTIME,
        **_LOOK,
        **_STORE,
        "ioctl": (*_RUNTIME["ioctl"], ((1, 0xFFFFFFFF, _FICLONE),)),
        "flock": _ANY,
        "syncfs": _ANY,
        "copy_file_range": _ANY,
        "mkdirat": _ANY,
        "linkat": _ANY,
    },
}

_AF_NETLINK, _RAW = 16, 3
_ASK = (0x8910, 0x8913, 0x8915, 0x891B, 0x8921, 0x8927, 0x8933)  # ioctl: name, flags, address, mask, MTU, MAC, index
# Programs of others (confine.foreign).
FOREIGN: dict[str, Rules] = {}
FOREIGN["dnsmasq"] = {  # what it needs to load, to read its leases, to answer on UDP port 67 and 4011
    **_RUNTIME,
    **_LOOK,
    "mmap": _ANY,
    "mprotect": _ANY,
    "execve": _ANY,  # Landlock leaves it itself, and the capabilities go no further than its own account's
    "openat": _ANY,  # Landlock leaves it one folder to write in
    "access": _ANY,
    "faccessat": _ANY,
    "unlink": _ANY,
    "unlinkat": _ANY,
    "ftruncate": _ANY,
    "fsync": _ANY,
    "chdir": _ANY,
    "umask": _ANY,
    "uname": _ANY,
    "dup": _ANY,
    "dup2": _ANY,
    "dup3": _ANY,
    "pipe": _ANY,
    "pipe2": _ANY,
    "time": _ANY,
    "arch_prctl": _ANY,
    "set_tid_address": _ANY,
    "set_robust_list": _ANY,
    "rseq": _ANY,
    "prlimit64": (((2, 0xFFFFFFFF, 0),),),  # to ask
    "getrlimit": _ANY,
    "capget": _ANY,
    "prctl": _one_of(0, 23),  # PR_CAPBSET_READ
    "fcntl": _one_of(1, _F_GETFL, _F_GETFD, _F_SETFD, _F_DUPFD_CLOEXEC, _F_DUPFD, 4),  # 4: F_SETFL, its own sockets
    "ioctl": _one_of(1, _FIONBIO, _FIONREAD, 0x5401, *_ASK),  # 0x5401: TCGETS, is it a terminal?
    **_TALK,
    "bind": _ANY,
    "setsockopt": _options(
        (_IP, 1),  # IP_TOS
        (_IP, 8),  # IP_PKTINFO
        (_IP, 10),  # IP_MTU_DISCOVER
        (_SOCKET, 2),  # SO_REUSEADDR
        (_SOCKET, 6),  # SO_BROADCAST
        (_SOCKET, 15),  # SO_REUSEPORT
        (_SOCKET, 25),  # SO_BINDTODEVICE
        (270, 5),  # NETLINK_NO_ENOBUFS
    ),
    "socket": (*_socket(_DGRAM), ((0, 0xFFFFFFFF, _AF_NETLINK), (1, 0xF, _RAW), (2, 0xFFFFFFFF, 0))),
}
# What stands between the network and dnsmasq's end: it waits, and does nothing else (dhcp.guard).
PROMISES["guard"] = dict(_RUNTIME)
# The parent of that one, which reads what dnsmasq says (dhcp.worker).
PROMISES["dhcp"] = {**_RUNTIME, "sendto": _SENDTO, "getsockname": _ANY, "getsockopt": _ANY}  # the link to events

_THREAD = (
    0x3D0F00  # what glibc's pthread_create asks of clone: the same memory, files, signals, process; no new id space
)
# Kept only while the threads of a worker are made, which is after every other layer is on (docs/decisions/0013). Then
# `CLOSED` is taken away for good, from all threads at once, and the promise is the table above and nothing more.
THREADS: Rules = {
    "clone": (((0, 0xFFFFFFFF, _THREAD),),),
    "set_robust_list": _ANY,
    "rseq": (((2, 0xFFFFFFFF, 0),),),  # register; glibc ends a process whose threads cannot
    "seccomp": (((0, 0xFFFFFFFF, 1), (1, 0xFFFFFFFF, 1)),),  # one more filter, on all threads: it can only take away
}
CLOSED = tuple(THREADS)


def names(promise: str) -> frozenset[str]:
    """The system calls of a promise."""
    return frozenset(PROMISES[promise])


# What programs of the operator (confine.hook) are refused. They keep the rest, because nobody knows what they need:
# with no right to gain one, these are the calls behind which most of the kernel's defects lay.
REFUSED = (
    "acct", "add_key", "adjtimex", "bpf", "chroot", "clock_adjtime", "clock_settime", "delete_module",
    "fanotify_init", "finit_module", "fsconfig", "fsmount", "fsopen", "fspick", "init_module", "io_uring_enter",
    "io_uring_register", "io_uring_setup", "ioperm", "iopl", "kcmp", "kexec_file_load", "kexec_load", "keyctl",
    "mount", "mount_setattr", "move_mount", "name_to_handle_at", "open_by_handle_at", "open_tree", "perf_event_open",
    "pidfd_getfd", "pivot_root", "process_vm_readv", "process_vm_writev", "ptrace", "quotactl", "reboot",
    "request_key", "setdomainname", "sethostname", "setns", "settimeofday", "swapoff", "swapon", "syslog", "umount2",
    "unshare", "userfaultfd", "vhangup",
)  # fmt: skip
NEW_USER = (0, 0x10000000, 0x10000000)  # CLONE_NEWUSER among the flags of clone: rights in a namespace of one's own
_AF_UNIX, _ROUTE = 1, 0
LOCAL: Alternatives = (((0, 0xFFFFFFFF, _AF_UNIX),),)  # socket()
NETWORK: Alternatives = (  # and what resolving a name and talking to somebody takes
    *LOCAL,
    *(
        ((0, 0xFFFFFFFF, family), (1, 0xF, kind), (2, 0xFFFFFFFF, protocol))
        for family in (_AF_INET, _AF_INET6)
        for kind, protocols in ((_STREAM, (0, _TCP)), (_DGRAM, (0, _UDP)))
        for protocol in protocols
    ),
    ((0, 0xFFFFFFFF, _AF_NETLINK), (2, 0xFFFFFFFF, _ROUTE)),
)
