"""What promises are made of: the form of a rule, and the sets of system calls that several children keep. Pure data.

A rule is a name, or a name with alternatives; an alternative is a tuple of (argument index, mask, value) that must all
hold: (argument & mask) == value. What is asked often stands first: the filter is read from the top. Everything else is
answered EPERM (probing libraries survive it), and the few where glibc needs it, ENOSYS.
"""

from __future__ import annotations

from typing import TypeAlias

Condition: TypeAlias = tuple[int, int, int]
Alternatives: TypeAlias = tuple[tuple[Condition, ...], ...]
Rules: TypeAlias = dict[str, Alternatives]

ANY: Alternatives = ((),)
AF_INET, AF_INET6, STREAM, DGRAM = 2, 10, 1, 2
FIONBIO, FIONREAD = 0x5421, 0x541B
F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETLK, F_DUPFD_CLOEXEC = 0, 1, 2, 3, 6, 1030
MSG_FASTOPEN = 0x20000000
FICLONE = 0x40049409  # ioctl_ficlone(2)
MODE_X = 0o7111  # set-uid, set-gid, sticky, and every bit that runs a file or enters a folder
IP, TCP, UDP, IPV6, SOCKET = 0, 6, 17, 41, 1  # levels of setsockopt; TCP and UDP are protocols of socket() as well
PROT_EXEC = 4
O_WRONLY, O_RDWR, O_CREAT, O_EXCL, O_TRUNC, O_APPEND, TMPFILE = (
    0o1,
    0o2,
    0o100,
    0o200,
    0o1000,
    0o2000,
    0o20000000,
)
WRITE_FLAGS = O_WRONLY | O_RDWR | O_CREAT | O_TRUNC | O_APPEND | TMPFILE


def socket_of(kind: int) -> Alternatives:
    """socket(): of the Internet, of this kind, with its own protocol."""
    # The protocol is named too: behind others (MPTCP, SCTP, UDP-Lite, ICMP) lies kernel code nobody here needs.
    protocols = (0, TCP if kind == STREAM else UDP)
    return tuple(
        ((0, 0xFFFFFFFF, family), (1, 0xF, kind), (2, 0xFFFFFFFF, protocol))
        for family in (AF_INET, AF_INET6)
        for protocol in protocols
    )


def one_of(argument: int, *values: int) -> Alternatives:
    """The argument of this number has one of these values."""
    return tuple(((argument, 0xFFFFFFFF, value),) for value in values)


def socket_options(*options: tuple[int, int]) -> Alternatives:
    """setsockopt(): these, each as (level, name)."""
    # Named one by one because of what an option of a shared socket outlives: SO_LINGER makes whoever closes last wait,
    # SO_ATTACH_REUSEPORT_CBPF draws the clients of all siblings, SO_ATTACH_FILTER makes a listener deaf for good.
    return tuple(((1, 0xFFFFFFFF, level), (2, 0xFFFFFFFF, name)) for level, name in options)


RUNTIME: Rules = {
    # the event loop
    "epoll_wait": ANY,
    "epoll_pwait": ANY,
    "epoll_ctl": ANY,
    "poll": ANY,
    "ppoll": ANY,
    "select": ANY,
    "pselect6": ANY,
    # descriptors that were handed over
    "read": ANY,
    "write": ANY,
    "readv": ANY,
    "writev": ANY,
    "recvmsg": ANY,
    "sendmsg": (((2, MSG_FASTOPEN, 0),),),
    "close": ANY,
    "fstat": ANY,
    # not F_SETOWN and F_SETSIG, which send any signal to any process of our uid, nor F_SETFL, which takes O_APPEND
    # off the log that everybody shares (blocking is set by ioctl)
    "fcntl": one_of(1, F_GETFL, F_GETFD, F_SETFD, F_DUPFD_CLOEXEC, F_DUPFD),
    "lseek": ANY,
    "ioctl": (((1, 0xFFFFFFFF, FIONBIO),), ((1, 0xFFFFFFFF, FIONREAD),)),
    # memory, never executable
    "mmap": (((2, PROT_EXEC, 0),),),
    "mprotect": (((2, PROT_EXEC, 0),),),
    "munmap": ANY,
    "mremap": ANY,
    "madvise": ANY,
    "brk": ANY,
    "futex": ANY,
    # time, signals, the end
    "clock_gettime": ANY,
    "clock_nanosleep": ANY,
    "gettimeofday": ANY,
    "getrandom": ANY,
    "rt_sigaction": ANY,
    "rt_sigprocmask": ANY,
    "rt_sigreturn": ANY,
    "sigaltstack": ANY,
    "sched_yield": ANY,
    "restart_syscall": ANY,
    "getpid": ANY,
    "getppid": ANY,
    "gettid": ANY,
    "getuid": ANY,
    "geteuid": ANY,
    "getgid": ANY,
    "getegid": ANY,
    "exit": ANY,
    "exit_group": ANY,
}
LOOK: Rules = {  # look at files, never change one
    "openat": (((2, WRITE_FLAGS, 0),),),
    "newfstatat": ANY,
    "stat": ANY,
    "lstat": ANY,
    "readlink": ANY,
    "readlinkat": ANY,
    "getdents64": ANY,
    "pread64": ANY,
    "preadv": ANY,
    "preadv2": ANY,
    "getcwd": ANY,
}
# MSG_FASTOPEN connects a TCP socket without connect(), and Landlock (ABI 7) does not see it
SENDTO: Alternatives = (((3, MSG_FASTOPEN, 0),),)
TALK: Rules = {  # use sockets that exist
    "sendto": SENDTO,
    "recvfrom": ANY,
    "getsockname": ANY,
    "getpeername": ANY,
    "getsockopt": ANY,
    "shutdown": ANY,
}
TFTP_OPTIONS = socket_options(
    (UDP, 103),  # UDP_SEGMENT
    (SOCKET, 15),  # SO_REUSEPORT
    (IP, 8),  # IP_PKTINFO
    (IP, 10),  # IP_MTU_DISCOVER
    (IPV6, 49),  # IPV6_RECVPKTINFO
    (IPV6, 23),  # IPV6_MTU_DISCOVER
    (IPV6, 26),  # IPV6_V6ONLY
)
FTP_OPTIONS = socket_options(
    (SOCKET, 2),  # SO_REUSEADDR
    (TCP, 1),  # TCP_NODELAY
    (TCP, 3),  # TCP_CORK
    (SOCKET, 9),  # SO_KEEPALIVE
    (SOCKET, 10),  # SO_OOBINLINE
    (SOCKET, 21),  # SO_SNDTIMEO: how long a thread that sends a file waits for room; sockets of the loop never wait
    (IPV6, 26),  # IPV6_V6ONLY
)

# the options that glibc's resolver, ftplib, urllib3 and tftpy set
CLIENT_OPTIONS = socket_options(
    (SOCKET, 2),  # SO_REUSEADDR
    (SOCKET, 9),  # SO_KEEPALIVE
    (SOCKET, 10),  # SO_OOBINLINE
    (TCP, 1),  # TCP_NODELAY
    (IP, 11),  # IP_RECVERR
    (IPV6, 25),  # IPV6_RECVERR
)
STORE: Rules = {  # make files in folders that are its own
    "openat": ANY,
    "fsync": ANY,
    "unlink": ANY,
    "unlinkat": ANY,
    "rename": ANY,
    "renameat": ANY,
    "fstatfs": ANY,
}
