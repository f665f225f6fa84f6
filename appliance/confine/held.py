"""The steps by which a program that is not ours is held: resources, account, files. Each shows that it holds.

Such a program keeps the view of the file system, because it needs its libraries. `foreign` puts the steps together
for one whose every file and system call is known (dnsmasq), `program` for those that start others (apt-get, gpgv).
"""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Collection, Mapping

from appliance.confine import landlock, libc, proof
from appliance.errors import ConfinementError

_PR_SET_KEEPCAPS, _AMBIENT_RAISE = 8, 2
_MAKE_SOCK, _MAKE_FIFO, _MAKE_SYM = 1 << 9, 1 << 10, 1 << 12
_READ = landlock.EXECUTE | landlock.READ_FILE | landlock.READ_DIR
_WRITE = landlock.TREE | _MAKE_SOCK | _MAKE_FIFO | _MAKE_SYM


def limit(bounds: Mapping[int, int]) -> None:
    """No more than this of each resource (RLIMIT_...), nor more than there was. Raises OSError."""
    for kind, wanted in bounds.items():
        most = resource.getrlimit(kind)[1]
        bound = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
        resource.setrlimit(kind, (bound, bound))


def account(uid: int, gid: int, kept: Collection[int] = ()) -> None:
    """As root: be this account, with these capabilities and no way to any other. Raises OSError, ConfinementError."""
    if uid <= 0 or gid <= 0:
        raise ConfinementError("no program of others runs as root")
    _bound(kept)
    libc.prctl(_PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    libc.capset(tuple(kept), inherit=True)
    libc.prctl(libc.PR_CAP_AMBIENT, libc.PR_CAP_AMBIENT_CLEAR_ALL)
    for number in kept:
        libc.prctl(libc.PR_CAP_AMBIENT, _AMBIENT_RAISE, number)
    wanted = sum(1 << number for number in kept)
    if libc.capget() != (wanted, wanted, wanted):
        raise ConfinementError(f"capabilities are {libc.capget()}, not {wanted}")
    proof.identity(uid, gid)


def _bound(kept: Collection[int]) -> None:
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


def write_only_in(folder: int, *, network: bool) -> bool:
    """By Landlock: read and start what the account may, write beneath one open folder alone; no TCP without `network`.

    False where the kernel has no Landlock. Needs no_new_privs. Raises OSError and ConfinementError.
    """
    version = landlock.abi()
    if not version:
        return False
    everything = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    nothing = os.open("/dev/null", os.O_PATH | os.O_CLOEXEC)
    try:
        rules = ((everything, _READ), (folder, _READ | _WRITE), (nothing, landlock.READ_FILE | landlock.WRITE_FILE))
        landlock.restrict_to(rules, version=version, connect_tcp=network)
    finally:
        os.close(everything)
        os.close(nothing)
    # everybody may write there, but for Landlock
    proof.must_fail("write elsewhere", errno.EACCES, lambda: os.open("/dev/zero", os.O_WRONLY | os.O_CLOEXEC))
    return True
