"""A program that is not ours becomes this process: with an account, capabilities, files and system calls named here.

It has no chroot, because it needs its libraries; Landlock takes the place of one and is therefore required. Invariant:
between `lock` and the program nothing of the network is read, and the program has no descriptor but 0, 1 and 2.
"""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from appliance.confine import landlock, libc, proof, seccomp
from appliance.errors import ConfinementError

CAP_NET_BIND_SERVICE, CAP_NET_ADMIN = 10, 12
_PR_SET_KEEPCAPS, _AMBIENT_RAISE = 8, 2
_LIBRARIES = ("/usr/lib", "/usr/lib64", "/lib", "/lib64", "/etc/ld.so.cache", "/dev/urandom")
# for the kernel the loader of shared libraries is a program of its own
_LOADERS = ("/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1")
_ACCOUNTS = ("/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/localtime", "/usr/share/zoneinfo")
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin", "LC_ALL": "C", "TZ": "UTC0"}


@dataclass(frozen=True, slots=True)
class Foreign:
    """``program``: absolute path. ``folder``: the one place it may write. ``capabilities``: numbers, all it will have.

    ``nofile`` descriptors, ``fsize`` bytes of a file and ``memory`` bytes of address space are its limits.
    """

    program: str
    arguments: tuple[str, ...]
    folder: str
    uid: int
    gid: int
    capabilities: tuple[int, ...]
    promise: str
    nofile: int = 256
    fsize: int = 16 << 20
    memory: int = 512 << 20


def lock(foreign: Foreign) -> None:
    """Everything but the system call filter, in a process that root has forked. Raises OSError, ConfinementError."""
    if foreign.uid <= 0 or foreign.gid <= 0:
        raise ConfinementError("no program of others runs as root")
    for kind, value in (
        (resource.RLIMIT_NOFILE, foreign.nofile),
        (resource.RLIMIT_FSIZE, foreign.fsize),
        (resource.RLIMIT_AS, foreign.memory),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (value, value))
    _bound(foreign.capabilities)
    libc.prctl(_PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setresgid(foreign.gid, foreign.gid, foreign.gid)
    os.setresuid(foreign.uid, foreign.uid, foreign.uid)
    libc.capset(foreign.capabilities, inherit=True)
    libc.prctl(libc.PR_CAP_AMBIENT, libc.PR_CAP_AMBIENT_CLEAR_ALL)
    for number in foreign.capabilities:
        libc.prctl(libc.PR_CAP_AMBIENT, _AMBIENT_RAISE, number)
    libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)
    _restrict(foreign)
    _prove(foreign)


def become(foreign: Foreign) -> NoReturn:
    """Put the filter on and be the program. Raises OSError."""
    argv = [foreign.program, *foreign.arguments]
    program = seccomp.assemble(foreign.promise, seccomp.machine())
    os.closerange(3, foreign.nofile)
    seccomp.load(program)
    os.execve(foreign.program, argv, _ENVIRONMENT)  # noqa: S606 (there is no shell in it)


def _bound(kept: Sequence[int]) -> None:
    number = 0
    while True:
        try:
            if number not in kept:
                libc.prctl(libc.PR_CAPBSET_DROP, number)
            number += 1
        except OSError as error:
            if error.errno == errno.EINVAL:
                return  # past the last capability
            raise


def _restrict(foreign: Foreign) -> None:
    version = landlock.abi()
    if not version:
        raise ConfinementError(f"{foreign.program} is held by Landlock, which this kernel does not have")
    read, run = landlock.READ_FILE | landlock.READ_DIR, landlock.READ_FILE | landlock.EXECUTE
    write = landlock.WRITE_FILE | landlock.REMOVE_FILE | landlock.MAKE_REG | landlock.TRUNCATE
    landlock.restrict_paths(
        (
            *((path, read) for path in (*_LIBRARIES, *_ACCOUNTS)),
            *((loader, run) for loader in _LOADERS),
            (foreign.program, run),
            ("/dev/null", landlock.READ_FILE | landlock.WRITE_FILE),
            (foreign.folder, read | write),
        ),
        version,
    )


def _prove(foreign: Foreign) -> None:
    """The account, the capabilities and Landlock hold; the filter is proven by the tests, which run it."""
    wanted = sum(1 << number for number in foreign.capabilities)
    if libc.capget() != (wanted, wanted, wanted):
        raise ConfinementError(f"capabilities are {libc.capget()}, not {wanted}")
    proof.must_fail("become root", errno.EPERM, lambda: os.setresuid(0, 0, 0))
    proof.must_fail("look into /etc", errno.EACCES, lambda: os.open("/etc", os.O_RDONLY | os.O_DIRECTORY))
    if os.getresuid() != (foreign.uid,) * 3 or os.getgroups():
        raise ConfinementError(f"ids are {os.getresuid()} {os.getgroups()}")
