"""Hold programs of the operator: whatever they are, with their own account, no right to gain one, one folder to write.

Two steps: `hold` once, for the process that starts them, and `narrow` for each of them, so that none can signal or look
into another, or into who started it (Landlock, ABI 6). Nobody knows which system calls they need, so few are refused.
"""

from __future__ import annotations

import errno
import os
import resource
from dataclasses import dataclass

from appliance.confine import held, libc, proof, seccomp
from appliance.errors import ConfinementError

PR_SET_CHILD_SUBREAPER = 36
_PROCESSES = 256  # of the account, which no other service has


@dataclass(frozen=True, slots=True)
class Hold:
    """``folder``: the one place they may write, and where they start; it exists. ``required``: without Landlock none.

    ``nofile`` descriptors and ``fsize`` bytes of a file are the limits of each.
    """

    folder: str
    uid: int
    gid: int
    required: bool
    nofile: int = 1024
    fsize: int = 1 << 30


def hold(how: Hold) -> None:
    """This process and all it starts, for good. As root also the account. Raises OSError and ConfinementError."""
    here = os.open(how.folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        bounds = {resource.RLIMIT_NOFILE: how.nofile, resource.RLIMIT_FSIZE: how.fsize, resource.RLIMIT_CORE: 0}
        if os.geteuid() == 0:
            held.limit({**bounds, resource.RLIMIT_NPROC: _PROCESSES})
            held.account(how.uid, how.gid)
        else:  # an ordinary user has other processes, which would count
            held.limit(bounds)
            libc.capset_none()
        libc.prctl(libc.PR_SET_DUMPABLE, 0)
        libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)
        os.fchdir(here)
        _restrict(here, how, network=True)
    finally:
        os.close(here)
    proof.must_fail("become root", errno.EPERM, lambda: os.setresuid(0, 0, 0))
    seccomp.load(seccomp.refusing(seccomp.machine(), network=True))


def narrow(how: Hold, *, network: bool) -> None:
    """One program more narrowly, before it is executed; the working folder is the one it may write."""
    here = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _restrict(here, how, network=network)
    finally:
        os.close(here)
    if not network:
        seccomp.load(seccomp.refusing(seccomp.machine(), network=False))


def _restrict(here: int, how: Hold, *, network: bool) -> None:
    if not held.write_only_in(here, network=network) and how.required:
        raise ConfinementError("hooks are held by Landlock, which this kernel does not have")
