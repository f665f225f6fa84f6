"""What programs of others keep (confine.foreign), those of the operator are refused (confine.hook). Pure data."""

from __future__ import annotations

from appliance.confine.rules import (
    AF_INET,
    AF_INET6,
    ANY,
    DGRAM,
    F_DUPFD,
    F_DUPFD_CLOEXEC,
    F_GETFD,
    F_GETFL,
    F_SETFD,
    FIONBIO,
    FIONREAD,
    IP,
    LOOK,
    RUNTIME,
    SOCKET,
    STREAM,
    TALK,
    TCP,
    UDP,
    Alternatives,
    Rules,
    one_of,
    socket_of,
    socket_options,
)

_AF_NETLINK, _RAW = 16, 3
_ASK = (0x8910, 0x8913, 0x8915, 0x891B, 0x8921, 0x8927, 0x8933)  # ioctl: name, flags, address, mask, MTU, MAC, index
# Programs of others (confine.foreign).
FOREIGN: dict[str, Rules] = {}
FOREIGN["dnsmasq"] = {  # what it needs to load, to read its leases, to answer on UDP port 67 and 4011
    **RUNTIME,
    **LOOK,
    "mmap": ANY,
    "mprotect": ANY,
    "execve": ANY,  # Landlock leaves it itself, and the capabilities go no further than its own account's
    "openat": ANY,  # Landlock leaves it one folder to write in
    "access": ANY,
    "faccessat": ANY,
    "unlink": ANY,
    "unlinkat": ANY,
    "ftruncate": ANY,
    "fsync": ANY,
    "chdir": ANY,
    "umask": ANY,
    "uname": ANY,
    "dup": ANY,
    "dup2": ANY,
    "dup3": ANY,
    "pipe": ANY,
    "pipe2": ANY,
    "time": ANY,
    "arch_prctl": ANY,
    "set_tid_address": ANY,
    "set_robust_list": ANY,
    "rseq": ANY,
    "prlimit64": (((2, 0xFFFFFFFF, 0),),),  # to ask
    "getrlimit": ANY,
    "capget": ANY,
    "prctl": one_of(0, 23),  # PR_CAPBSET_READ
    "fcntl": one_of(1, F_GETFL, F_GETFD, F_SETFD, F_DUPFD_CLOEXEC, F_DUPFD, 4),  # 4: F_SETFL, its own sockets
    "ioctl": one_of(1, FIONBIO, FIONREAD, 0x5401, *_ASK),  # 0x5401: TCGETS, is it a terminal?
    **TALK,
    "bind": ANY,
    "setsockopt": socket_options(
        (IP, 1),  # IP_TOS
        (IP, 8),  # IP_PKTINFO
        (IP, 10),  # IP_MTU_DISCOVER
        (SOCKET, 2),  # SO_REUSEADDR
        (SOCKET, 6),  # SO_BROADCAST
        (SOCKET, 15),  # SO_REUSEPORT
        (SOCKET, 25),  # SO_BINDTODEVICE
        (270, 5),  # NETLINK_NO_ENOBUFS
    ),
    "socket": (*socket_of(DGRAM), ((0, 0xFFFFFFFF, _AF_NETLINK), (1, 0xF, _RAW), (2, 0xFFFFFFFF, 0))),
}
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
        for family in (AF_INET, AF_INET6)
        for kind, protocols in ((STREAM, (0, TCP)), (DGRAM, (0, UDP)))
        for protocol in protocols
    ),
    ((0, 0xFFFFFFFF, _AF_NETLINK), (2, 0xFFFFFFFF, _ROUTE)),
)
