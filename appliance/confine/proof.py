"""The proof of each layer by itself: an action that every other layer allows, with the error that this layer gives.

Each function raises ConfinementError when its layer does not hold. They run right after the layer was put on, so that a
later layer cannot hide that an earlier one is missing.
"""

from __future__ import annotations

import errno
import os
import resource
import stat
from collections.abc import Callable, Collection

from appliance.confine import libc
from appliance.errors import ConfinementError


def must_fail(what: str, expected: int, action: Callable[[], object]) -> None:
    """`action` must raise OSError with exactly `expected`."""
    try:
        action()
    except OSError as error:
        if error.errno == expected:
            return
        raise ConfinementError(f"{what}: refused with {error.strerror}, not with {os.strerror(expected)}") from error
    raise ConfinementError(f"still possible after confinement: {what}")


def limits(nofile: int, fsize: int) -> None:
    """The rlimits are set, soft and hard."""
    for kind, wanted in ((resource.RLIMIT_NOFILE, nofile), (resource.RLIMIT_FSIZE, fsize), (resource.RLIMIT_CORE, 0)):
        if resource.getrlimit(kind) != (wanted, wanted):
            raise ConfinementError(f"rlimit {kind} is {resource.getrlimit(kind)}, not {wanted}")


def jail(outside: tuple[int, int], inside: tuple[int, int]) -> None:
    """ "/" is the jail, nothing lies above it, and a file of the old tree is not the one found by its path."""
    for path in ("/", "/..", "."):
        if _identity(path) != inside:
            raise ConfinementError(f"{path} is not the jail")
    try:
        found = _identity("/etc/passwd")  # stat is covered neither by Landlock nor by our seccomp rules
    except OSError:
        return
    if found == outside:
        raise ConfinementError("the old root is still in sight")


def identity(uid: int, gid: int) -> None:
    """The ids are ours in all three forms, no group is left, and neither root nor a group can be had again."""
    if os.getresuid() != (uid,) * 3 or os.getresgid() != (gid,) * 3 or os.getgroups():
        raise ConfinementError(f"ids are {os.getresuid()} {os.getresgid()} {os.getgroups()}")
    must_fail("become root", errno.EPERM, lambda: os.setresuid(0, 0, 0))
    must_fail("join group 0", errno.EPERM, lambda: os.setgroups([0]))
    must_fail("become group root", errno.EPERM, lambda: os.setresgid(0, 0, 0))


def capabilities() -> None:
    """No capability is held, and what needs one even in an own user namespace (a new mount namespace) is refused."""
    if any(libc.capget()):
        raise ConfinementError(f"capabilities left: {libc.capget()}")
    must_fail("make a mount namespace", errno.EPERM, lambda: libc.unshare(libc.CLONE_NEWNS))


def bounding() -> bool:
    """True when the bounding set is empty."""
    number = 0
    while True:
        try:
            if libc.prctl(libc.PR_CAPBSET_READ, number):
                return False
        except OSError:
            return True  # past the last capability of this kernel
        number += 1


def no_new_privs() -> None:
    """The flag is on; it cannot be taken off again."""
    if libc.prctl(libc.PR_GET_NO_NEW_PRIVS) != 1:
        raise ConfinementError("no_new_privs is not set")


def landlock(witness: int, name: bytes) -> None:
    """A world-readable file outside, reached through a directory descriptor (past the chroot), is refused with EACCES.

    `readable_before` has shown that everything but Landlock allows it.
    """
    must_fail("read outside through a descriptor", errno.EACCES, lambda: os.open(name, os.O_RDONLY, dir_fd=witness))


def readable_before(witness: int, name: bytes) -> None:
    """The file that Landlock must refuse can still be opened; otherwise the proof would prove nothing."""
    try:
        os.close(os.open(name, os.O_RDONLY, dir_fd=witness))
    except OSError as error:
        raise ConfinementError(f"the proof of Landlock has no witness: {error}") from error


def seccomp() -> None:
    """Two harmless calls, allowed by every other layer, are refused; one is answered ENOSYS as promised."""
    must_fail("getpriority", errno.EPERM, lambda: os.getpriority(os.PRIO_PROCESS, 0))
    must_fail("getsid", errno.EPERM, lambda: os.getsid(0))
    must_fail("memfd_create", errno.EPERM, lambda: os.memfd_create("x"))


def no_directory_open(nofile: int, kept: Collection[int] = ()) -> None:
    """No descriptor of a directory is left but those it is to have: another one would read outside the jail."""
    for descriptor in range(min(nofile, 4096)):
        if descriptor in kept:
            continue
        try:
            mode = os.fstat(descriptor).st_mode
        except OSError:
            continue
        if stat.S_ISDIR(mode):
            raise ConfinementError(f"descriptor {descriptor} is a directory")


def _identity(path: str) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino
