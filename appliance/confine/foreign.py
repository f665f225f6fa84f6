"""A program that is not ours becomes this process: with an account, capabilities, files and system calls named here.

It has no chroot, because it needs its libraries; Landlock takes the place of one and is therefore required. Invariant:
between `lock` and the program nothing of the network is read, and the program has no descriptor but 0, 1 and 2.
"""

from __future__ import annotations

import errno
import os
import resource
from dataclasses import dataclass
from typing import NoReturn

from appliance.confine import held, landlock, libc, proof, seccomp
from appliance.errors import ConfinementError

CAP_NET_BIND_SERVICE, CAP_NET_ADMIN = 10, 12
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
    """Everything but the system call filter, in a process that root has forked. Raises OSError, ConfinementError.

    The filter is proven by the tests, which run it.
    """
    bounds = {
        resource.RLIMIT_NOFILE: foreign.nofile,
        resource.RLIMIT_FSIZE: foreign.fsize,
        resource.RLIMIT_AS: foreign.memory,
        resource.RLIMIT_CORE: 0,
    }
    held.limit(bounds)
    held.account(foreign.uid, foreign.gid, foreign.capabilities)
    libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)
    _restrict(foreign)
    proof.must_fail("look into /etc", errno.EACCES, lambda: os.open("/etc", os.O_RDONLY | os.O_DIRECTORY))


def become(foreign: Foreign) -> NoReturn:
    """Put the filter on and be the program. Raises OSError."""
    argv = [foreign.program, *foreign.arguments]
    program = seccomp.assemble(foreign.promise, seccomp.machine())
    os.closerange(3, foreign.nofile)
    seccomp.load(program)
    os.execve(foreign.program, argv, _ENVIRONMENT)  # noqa: S606 (there is no shell in it)


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
