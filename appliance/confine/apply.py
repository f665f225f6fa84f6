"""Carry out the plan in this process: put a layer on, try it, go on. There is no way back.

`confine` raises ConfinementError when a layer cannot be put on or does not hold and the level is required; with
best-effort it leaves out what the kernel refuses, and the report tells. A layer that was put on but does not hold is an
error in both cases.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
from collections.abc import Callable, Mapping

from appliance.confine import landlock, libc, proof, seccomp
from appliance.confine.plan import Spec, Step, steps
from appliance.confine.promises import PROMISES
from appliance.confine.report import Layer, Report
from appliance.errors import ConfinementError

_WITNESS, _WITNESS_NAME = "/etc", b"passwd"  # world-readable on every system: outside every sensible jail


class _State:
    """What the steps hand on to each other."""

    def __init__(self, spec: Spec, threads: Callable[[], None] | None, folders: Mapping[int, bool]) -> None:
        self.spec, self.threads, self.folders = spec, threads, folders
        self.layers = Layer(0)
        self.landlock_abi = 0
        self.syscalls = 0
        self.root = os.geteuid() == 0
        self.witness = os.open(_WITNESS, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        found = os.stat(_WITNESS + "/passwd")
        self.outside = (found.st_dev, found.st_ino)


def confine(spec: Spec, threads: Callable[[], None] | None = None, folders: Mapping[int, bool] | None = None) -> Report:
    """Confine this process for good; returns what was proven. Raises ConfinementError.

    `threads` makes the threads of the process, all there will ever be. It is called when every layer is on, because
    capabilities, Landlock and the filter are properties of a thread that only threads made later inherit. `folders` are
    descriptors of the folders outside the jail that it keeps, and whether it may write beneath them.
    """
    state = _State(spec, threads, folders or {})
    for step in steps(root=state.root):
        try:
            _STEPS[step](state)
        except OSError as error:
            if spec.required and step not in (Step.BOUNDING, Step.LANDLOCK):
                raise ConfinementError(f"{step.value}: {error.strerror} ({_remedy(step)})") from error
    if state.witness >= 0:
        os.close(state.witness)
    proof.no_directory_open(spec.nofile, state.folders)
    report = Report(state.layers, state.landlock_abi, state.syscalls)
    if spec.required and report.missing():
        raise ConfinementError(f"confinement: required, but missing: {', '.join(report.missing())}")
    return report


def _limits(state: _State) -> None:
    spec = state.spec
    for kind, value in (
        (resource.RLIMIT_NOFILE, spec.nofile),
        (resource.RLIMIT_FSIZE, spec.fsize),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (value, value))
    proof.limits(spec.nofile, spec.fsize)
    state.layers |= Layer.LIMITS


def _user_namespace(state: _State) -> None:
    uid, gid = os.geteuid(), os.getegid()
    libc.prctl(libc.PR_SET_DUMPABLE, 1)  # otherwise the maps below belong to root and cannot be written
    libc.unshare(libc.CLONE_NEWUSER)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        descriptor = os.open(f"/proc/self/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)
    state.layers |= Layer.USER_NAMESPACE


def _bounding(state: _State) -> None:
    number = 0
    while True:
        try:
            libc.prctl(libc.PR_CAPBSET_DROP, number)
        except OSError as error:
            if error.errno == errno.EINVAL:
                break  # past the last capability
            raise
        number += 1
    if not proof.bounding():
        raise ConfinementError("the bounding set is not empty after it was dropped")
    state.layers |= Layer.BOUNDING


def _jail(state: _State) -> None:
    try:
        inside = _enter(state.spec.jail)
    except PermissionError:
        if not state.root:
            raise
        # Root without the right to read everything: a folder of one account alone is entered as that account.
        libc.look_as(state.spec.uid, state.spec.gid)
        inside = _enter(state.spec.jail)
    proof.jail(state.outside, inside)
    state.layers |= Layer.CHROOT


def _enter(jail: str) -> tuple[int, int]:
    """Make a folder the root of this process; returns which one it is."""
    descriptor = os.open(jail, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fchdir(descriptor)  # without chroot this is still what relative names start from
        found = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    os.chroot(".")
    os.chdir("/")
    return found.st_dev, found.st_ino


def _identity(state: _State) -> None:
    spec = state.spec
    os.setgroups([])
    os.setresgid(spec.gid, spec.gid, spec.gid)
    os.setresuid(spec.uid, spec.uid, spec.uid)
    proof.identity(spec.uid, spec.gid)
    state.layers |= Layer.IDENTITY


def _death_signal(state: _State) -> None:
    libc.prctl(libc.PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != state.spec.parent:
        raise ConfinementError("the supervisor is gone")
    state.layers |= Layer.DEATH_SIGNAL


def _capabilities(state: _State) -> None:
    libc.prctl(libc.PR_CAP_AMBIENT, libc.PR_CAP_AMBIENT_CLEAR_ALL)
    try:
        libc.capset_none()
    except PermissionError:
        if any(libc.capget()):  # a filter of systemd refuses the call; where nothing is held nothing is lost by that
            raise
    libc.prctl(libc.PR_SET_DUMPABLE, 0)  # siblings under the same uid cannot look into our memory
    proof.capabilities()
    state.layers |= Layer.CAPABILITIES


def _no_new_privs(state: _State) -> None:
    libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)
    proof.no_new_privs()
    state.layers |= Layer.NO_NEW_PRIVS


def _landlock(state: _State) -> None:
    version = landlock.abi()
    if version:
        proof.readable_before(state.witness, _WITNESS_NAME)
        here = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            landlock.restrict(
                here,
                writes=state.spec.writes,
                bind_tcp=state.spec.bind_tcp,
                version=version,
                connect_tcp=state.spec.connect_tcp,
                folders=state.folders,
            )
        finally:
            os.close(here)
        proof.landlock(state.witness, _WITNESS_NAME)
        state.landlock_abi = version
        state.layers |= Layer.LANDLOCK
    os.close(state.witness)
    state.witness = -1


def _seccomp(state: _State) -> None:
    machine = seccomp.machine()
    seccomp.load(seccomp.assemble(state.spec.promise, machine, threads=state.threads is not None))
    if state.threads is not None:
        state.threads()
        seccomp.close_threads(machine)
        proof.must_fail("make threads", errno.EPERM, lambda: seccomp.try_to_open(machine))
    proof.seccomp()
    state.syscalls = len(PROMISES[state.spec.promise])
    state.layers |= Layer.SECCOMP


_STEPS = {
    Step.LIMITS: _limits,
    Step.USER_NAMESPACE: _user_namespace,
    Step.BOUNDING: _bounding,
    Step.JAIL: _jail,
    Step.IDENTITY: _identity,
    Step.DEATH_SIGNAL: _death_signal,
    Step.CAPABILITIES: _capabilities,
    Step.NO_NEW_PRIVS: _no_new_privs,
    Step.LANDLOCK: _landlock,
    Step.SECCOMP: _seccomp,
}


def _remedy(step: Step) -> str:
    first = {
        Step.USER_NAMESPACE: "start as root, or allow user namespaces: sysctl -w user.max_user_namespaces=10000, ",
        Step.JAIL: "start as root with CAP_SYS_CHROOT, or allow user namespaces, ",
        Step.IDENTITY: "the supervisor needs CAP_SETUID and CAP_SETGID, ",
        Step.SECCOMP: "this needs a kernel with CONFIG_SECCOMP_FILTER, ",
    }.get(step, "")
    return f"{first}or set confinement: best-effort"
