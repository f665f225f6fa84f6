"""Confine this process and become another program (apt-get, gpgv): what we did not write and cannot jail.

It keeps the view of the file system, because it needs its libraries, and loses the rest: the uid, every capability, a
way to gain any, all writing outside of one folder, and the network unless it is what the program is for.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import socket
import sys

from appliance.confine import held, libc, proof, seccomp
from appliance.errors import ConfinementError

_ALONE = libc.CLONE_NEWNET | libc.CLONE_NEWIPC


def main(arguments: list[str]) -> int:
    """`arguments`: one JSON object {uid, gid, work, network, cpu_s, fsize, command}. Returns only when it fails."""
    order = json.loads(arguments[0])
    try:
        become(order)
    except (OSError, ConfinementError) as error:
        sys.stderr.write(f"{order['command'][0]} cannot be started: {error}\n")
    return 126


def become(order: dict[str, object]) -> None:
    """Give up everything, then exec. Raises OSError and ConfinementError."""
    root = os.geteuid() == 0
    work = str(order["work"])
    os.chdir(work)
    here = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)  # its path may lead through what only root may pass
    alone = bool(order["network"]) or _alone(root=root)
    bounds = {
        resource.RLIMIT_CPU: int(str(order["cpu_s"])),
        resource.RLIMIT_FSIZE: int(str(order["fsize"])),
        resource.RLIMIT_NOFILE: 1024,
        resource.RLIMIT_CORE: 0,
    }
    held.limit(bounds)
    if root:
        held.account(int(str(order["uid"])), int(str(order["gid"])))
    libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGKILL)
    libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)
    held.write_only_in(here, network=bool(order["network"]))
    os.close(here)
    if not alone:
        seccomp.load(seccomp.without_sockets(seccomp.machine()))
        proof.must_fail("make a socket", errno.EPERM, socket.socket)
    command = [str(part) for part in order["command"]]  # type: ignore[attr-defined]
    environment = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C.UTF-8", "HOME": work, "TMPDIR": work}
    os.execve(command[0], command, {**environment, **order["environment"]})  # type: ignore[dict-item]  # noqa: S606


def _alone(*, root: bool) -> bool:
    """Leave the network behind. False where an ordinary user may have no namespace, as in a unit of systemd."""
    try:
        # an ordinary user may have a network namespace of his own only inside a user namespace
        libc.unshare(_ALONE if root else _ALONE | libc.CLONE_NEWUSER)
    except PermissionError:
        if root:
            raise
        return False
    return True
