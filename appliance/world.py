"""Judge the world that settings meet: folders, accounts, ports, memory, disk, kernel; every finding with its remedy.

Invariant: nothing is changed and `judge` never raises. Ports are tried by binding them for a moment, because only the
kernel knows all its rules.
"""

from __future__ import annotations

import itertools
import os
import shlex
import stat
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeAlias

from appliance.boxes import (
    Findings,
    boxes,
    caution,
    drop_boxes,
    fault,
    folders_of,
    identity,
    listed,
    released,
    scanner,
    uploads,
)
from appliance.confine import landlock
from appliance.errors import Problem
from appliance.machine import MOST, Machine, free_bytes, held_bytes, nearest, remounting
from appliance.programs import hooks
from appliance.reach import addresses, passive_ports, ports, receive_buffers, rounded, services, source_port
from appliance.settings.ftp import certificates
from appliance.settings.main import Settings
from appliance.settings.units import format_size

if TYPE_CHECKING:
    from appliance.ftp import tlsfiles

GIB, MIB = 1 << 30, 1 << 20
LEAST_SHARE = 4 * MIB  # bytes of cache below which one worker reads every file again and again
EXPIRES_SOON = 14  # days
_SOME = 3  # names that a remedy has
_LOST = "lost+found"  # in the root of a file system: what fsck finds, for root alone
_ETHERNET = 1468  # blksize that fits a frame: 1500 bytes less the headers of IPv4, UDP and TFTP


def judge(settings: Settings, *, ours: frozenset[str] | None = frozenset()) -> list[Problem]:
    """Errors and warnings about the world.

    ``ours``: addresses ("udp 127.0.0.1:69") that a running appliance of ours holds, which are not tried; None: one runs
    and will not say, so that no address is tried.
    """
    return judged(settings, Machine(ours=ours or frozenset()), _JUDGEMENTS if ours is None else (*_JUDGEMENTS, ports))


Judgement: TypeAlias = Callable[[Settings, Machine], Findings]


def judged(settings: Settings, machine: Machine, judgements: tuple[Judgement, ...]) -> list[Problem]:
    """What the judgements find; one that cannot be made is a warning."""
    found: list[Problem] = []
    for judgement in judgements:
        try:
            found += judgement(settings, machine)
        except (OSError, ValueError) as error:
            what = f"{judgement.__name__.replace('_', ' ')}: cannot be judged: {error}"
            broken = machine.uid == 0 and isinstance(error, OSError)
            found.append(caution("", what, "findmnt; dmesg | tail" if broken else "run the check as root"))
    return found


def accounts(settings: Settings, machine: Machine) -> Findings:
    """An account that was named and does not exist, or is root."""
    for name, service in services(settings):
        found = identity(Machine(uid=0), service.user)
        say = caution if machine.uid else fault  # an ordinary user's workers run as that user anyway
        if found is None:
            remedy = f"useradd --system --no-create-home --shell /usr/sbin/nologin {service.user}"
            yield say(f"{name}.user", f"there is no account {service.user}", remedy)
        elif 0 in found:
            yield say(f"{name}.user", f"{service.user} is root", "name another account, or take the key out")


def roots(settings: Settings, machine: Machine) -> Findings:
    """Root folders that are missing, unreadable for the worker, or that it could write."""
    for name, service in services(settings):
        yield from _root(f"{name}.root", service.root, identity(machine, service.user), machine, folders_of(settings))


def _root(key: str, root: str, who: tuple[int, int] | None, machine: Machine, boxes: tuple[str, ...]) -> Findings:
    try:
        found = os.stat(root)
    except FileNotFoundError:
        if os.path.islink(root):
            yield fault(key, f"{root} is a link that leads nowhere", f"ln -sfn FOLDER {root}")
        else:
            yield fault(key, f"there is no folder {root}", f"install -d -m 0755 {root}")
        return
    except OSError as error:
        yield fault(key, f"{root} cannot be looked at: {error.strerror}", f"namei -l {root}")
        return
    if not stat.S_ISDIR(found.st_mode):
        yield fault(key, f"{root} is not a folder", f"name the folder that is served, like {os.path.dirname(root)}")
        return
    if who is None:  # the account is wrong and told elsewhere; whose rights to judge by is not known
        return
    if not _may_read(found, who):
        yield fault(key, f"{root} cannot be read by uid {who[0]}", f"chmod a+rx {root}")
        return
    if _may_write(found, who, machine):
        yield fault(
            key, f"{root} can be written by its worker (uid {who[0]})", f"chown root:root {root}; chmod go-w {root}"
        )
    yield from _first_level(key, root, who, machine, boxes)


def _first_level(key: str, root: str, who: tuple[int, int], machine: Machine, boxes: tuple[str, ...]) -> Findings:
    unreadable: list[str] = []
    writable: list[str] = []
    closed: list[str] = []
    keeper = identity(machine, "appliance-custody")
    with os.scandir(root) as entries:
        for entry in itertools.islice(entries, MOST):
            private = any(f"{box}/".startswith(f"{entry.path}/") for box in boxes)
            if entry.name.startswith(".") or entry.is_symlink() or private or entry.name == _LOST:
                continue
            found = entry.stat(follow_symlinks=False)
            if machine.uid == 0 and keeper is not None and found.st_uid == keeper[0]:
                continue  # yesterday's box: to open it would publish what was never released
            if not _may_read(found, who):
                unreadable.append(entry.name)
            elif key == "ftp.root" and machine.uid and stat.S_ISDIR(found.st_mode) and not found.st_mode & 0o077:
                closed.append(entry.name)
            if _may_write(found, who, machine):
                writable.append(entry.name)
    if closed:  # ftp.filesystem.keep_out_of_closed
        what = f"nothing is served from {listed(closed)}, which nobody but uid {who[0]} may enter"
        yield caution(key, what, f"chmod go+rx {_some(root, closed)}, unless it was a drop box once")
    if unreadable:
        remedy = f"chmod -R a+rX {_some(root, unreadable)}"
        yield caution(key, f"uid {who[0]} cannot read {listed(unreadable)}", remedy)
    if writable:
        what = f"uid {who[0]} can write {listed(writable)}"
        some = _some(root, writable)
        yield caution(key, what, f"chown -R root:root {some}; chmod -R go-w {some}")


def _some(root: str, names: list[str]) -> str:
    """Names for a remedy. Never all of the root: a drop box may lie in it, and must stay closed and its keeper's."""
    more = " ..." if len(names) > _SOME else ""
    return " ".join(shlex.quote(f"{root}/{name}") for name in sorted(names)[:_SOME]) + more


def _may_read(found: os.stat_result, who: tuple[int, int]) -> bool:
    needed = 5 if stat.S_ISDIR(found.st_mode) else 4
    shift = 6 if found.st_uid == who[0] else 3 if found.st_gid == who[1] else 0
    return found.st_mode >> shift & needed == needed


def _may_write(found: os.stat_result, who: tuple[int, int], machine: Machine) -> bool:
    """As root. An ordinary user's worker is that user, whose own files they are: there only the others count."""
    if found.st_mode & stat.S_IWOTH:
        return True
    in_group = found.st_gid == who[1] and bool(found.st_mode & stat.S_IWGRP)
    return machine.uid == 0 and (found.st_uid == who[0] or in_group)


def views(settings: Settings, _machine: Machine) -> Findings:
    """Folders inside a root that some clients see as theirs, and that are not there."""
    tftp, ftp = settings.tftp, settings.ftp
    folders: list[tuple[str, str, str | None]] = []
    for i, network in enumerate(tftp.networks if tftp.enabled else ()):
        folders.append((f"tftp.networks[{i}].root", tftp.root, network.root))
    for i, site in enumerate(tftp.sites if tftp.enabled else ()):
        folders.append((f"tftp.sites[{i}].root", tftp.root, site.root))
        folders += [(f"tftp.sites[{i}].networks[{j}].root", tftp.root, n.root) for j, n in enumerate(site.networks)]
    for i, face in enumerate(ftp.sites if ftp.enabled else ()):
        folders.append((f"ftp.sites[{i}].root", ftp.root, face.root))
    for key, root, inside in folders:
        if inside is not None and os.path.isdir(root) and not os.path.isdir(f"{root}/{inside}"):
            yield caution(key, f"there is no folder {root}/{inside}", f"install -d -m 0755 {root}/{inside}")


def folders(settings: Settings, machine: Machine) -> Findings:
    """state_dir and run_dir: there and ours, or possible to make."""
    for key, path in (("state_dir", settings.state_dir), ("run_dir", settings.run_dir)):
        above = nearest(path)
        found = os.stat(above)
        mine = f"install -d -o {machine.uid} -m 0755 {path}"
        if not stat.S_ISDIR(found.st_mode):
            yield fault(key, f"{above} is not a folder", "name another folder, or move that file away")
        elif above == path and found.st_uid not in (0, machine.uid):
            yield fault(
                key, f"{path} belongs to uid {found.st_uid}", f"chown {machine.uid} {path}, or name another folder"
            )
        elif above == path and found.st_mode & stat.S_IWOTH:
            yield fault(key, f"{path} can be written by everybody", f"chmod go-w {path}")
        elif not os.access(above, os.W_OK | os.X_OK, effective_ids=True):
            what = f"{path} cannot be written" if above == path else f"{path} cannot be made in {above}"
            yield fault(key, f"{what} by uid {machine.uid}", f"as root: {remounting(above) or mine}")


def xferlog(settings: Settings, machine: Machine) -> Findings:
    """The file that the supervisor opens to append to: its folder is there and not everybody's, and it is no link."""
    key, path = "observe.xferlog", settings.observe.xferlog
    if path is None or not settings.ftp.enabled:
        return
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        yield fault(key, f"there is no folder {folder}", f"install -d -o {machine.uid} -m 0755 {folder}")
        return
    above = os.stat(folder)
    if above.st_uid not in (0, machine.uid) or (above.st_mode & stat.S_IWOTH and not above.st_mode & stat.S_ISVTX):
        yield fault(key, f"{folder} can be written by others", f"chown {machine.uid} {folder}; chmod go-w {folder}")
    if os.path.lexists(path) and (os.path.islink(path) or not os.path.isfile(path)):
        yield fault(key, f"{path} is no plain file", "name another file, or move that one away")


def clock(settings: Settings, machine: Machine) -> Findings:  # noqa: ARG001 (the judgements share one signature)
    """A clock that is behind our own files: certificates, retention and times of listings depend on it."""
    if what := behind(time.time()):
        yield caution("clock", what, "timedatectl set-ntp true, or date -s")


def behind(now: float) -> str:
    """What is wrong with a clock that says `now`, seconds since the epoch; "" when it may be right."""
    if now >= os.stat(__file__).st_mtime - 86400:
        return ""
    return f"the clock says {time.strftime('%Y-%m-%d', time.gmtime(now))}, before this program was made"


def disk(settings: Settings, machine: Machine) -> Findings:  # noqa: ARG001 (the judgements share one signature)
    """Room for the state and for what may be uploaded."""
    free = free_bytes(settings.state_dir)
    if free < GIB:
        what = f"{rounded(free)} are free for {settings.state_dir}"
        yield caution("state_dir", what, f"df -h {nearest(settings.state_dir)}; free 1GiB, or name another folder")
    for box in boxes(settings):
        if not os.path.isdir(box.root):  # told by itself
            continue
        needed = box.quota - held_bytes(box.folder)
        free = free_bytes(box.folder)
        if free < needed:
            what = f"{rounded(free)} are free for {box.name}, which may take {rounded(needed)} more"
            remedy = f"df -h {nearest(box.folder)}; free as much, or write a smaller quota"
            yield caution(f"{box.section}.quota", what, remedy)


def certificate(settings: Settings, machine: Machine) -> Findings:  # noqa: ARG001 (judgements share one signature)
    """A certificate and key that nobody could use, that clients would refuse, or that others can read."""
    for where, pair in _pairs(settings):
        yield from _certificate(where, pair)


def _pairs(settings: Settings) -> Iterator[tuple[str, tlsfiles.Pair]]:
    """Certificates and keys that are in use: of FTP, its sites, and the board."""
    yield from certificates(settings.ftp) if settings.ftp.enabled else ()
    if settings.observe.board_listen and settings.observe.board.certificate:
        yield "observe.board", settings.observe.board


def _certificate(where: str, tls: tlsfiles.Pair) -> Findings:
    from appliance.ftp import tlsfiles  # OpenSSL is only needed for this

    try:
        loaded = tlsfiles.load(tls, where)
    except tlsfiles.Unusable as unusable:
        yield fault(unusable.key, unusable.what, unusable.remedy)
        return
    key, path = f"{where}.certificate", tls.certificate
    left, renew = tlsfiles.days_left(loaded.valid), "renew it, then: appliance reload"
    if outdated := loaded.outdated():
        yield fault(key, f"{path}: {outdated}", renew if left < 0 else "set the clock, or wait")
    elif left < EXPIRES_SOON:
        yield caution(key, f"{path}: the certificate expires on {tlsfiles.day(loaded.valid.ends)}", renew)
    if told := tlsfiles.open_key(tls, where):
        yield fault(*told)


def validity(settings: Settings) -> Iterator[tuple[str, int]]:
    """Path, and days left, of every certificate that can be used and does not end soon."""
    from appliance.ftp import tlsfiles

    for where, tls in _pairs(settings):
        try:
            loaded = tlsfiles.load(tls, where)
        except tlsfiles.Unusable:
            continue
        if not loaded.outdated() and (left := tlsfiles.days_left(loaded.valid)) >= EXPIRES_SOON:
            yield str(tls.certificate), int(left)


def memory(settings: Settings, machine: Machine) -> Findings:
    """A bound on memory that the limits, the workers or the machine do not fit."""
    tftp, key = settings.tftp, "tftp.limits.memory"
    if not tftp.enabled:
        return
    bound = tftp.limits.memory
    block = _ETHERNET if tftp.blksize_max == "mtu" else int(tftp.blksize_max)
    needed = tftp.limits.transfers * tftp.windowsize_max * block
    if needed > bound:
        window = f"{tftp.windowsize_max} blocks of {block} bytes"
        what = f"{tftp.limits.transfers} transfers with {window} need {rounded(needed)}, more than {format_size(bound)}"
        yield caution(key, what, "raise it, or lower tftp.windowsize_max, tftp.blksize_max or tftp.limits.transfers")
    workers = len(os.sched_getaffinity(0)) if tftp.workers == "auto" else int(tftp.workers)
    if bound // workers < LEAST_SHARE:
        what = f"each of {workers} workers gets {rounded(bound // workers)} of it"
        yield caution(key, what, f"write {format_size(workers * LEAST_SHARE)}, or fewer tftp.workers")
    total = machine.memory()
    if total and bound > total * 3 // 4:
        what = f"{format_size(bound)} is more than three quarters of this machine's {rounded(total)}"
        yield caution(key, what, f"write {rounded(total // 2)}")


_USER_NAMESPACE_SWITCHES = (  # file below /proc/sys, the value that closes them, the one that opens them
    ("user/max_user_namespaces", 0, 10000),
    ("kernel/unprivileged_userns_clone", 0, 1),
    ("kernel/apparmor_restrict_unprivileged_userns", 1, 0),
)


def kernel(settings: Settings, machine: Machine) -> Findings:
    """What a required confinement needs and this kernel does not give."""
    key = "confinement"
    if settings.confinement != "required" or not machine.text("sys/kernel/ostype"):
        return  # without /proc/sys there is nothing to judge by; the workers try it anyway
    if not machine.text("sys/kernel/seccomp/actions_avail"):
        remedy = "use a kernel with CONFIG_SECCOMP_FILTER, or write best-effort"
        yield fault(key, "this kernel has no system call filter", remedy)
    if machine.uid == 0:
        return
    if machine.number("sys/user/max_user_namespaces") is None:
        yield fault(key, "this kernel has no user namespaces", "run as root, or write best-effort")
    for name, closed, opened in _USER_NAMESPACE_SWITCHES:
        if machine.number(f"sys/{name}") == closed:
            switch = name.replace("/", ".")
            remedy = f"sysctl -w {switch}={opened}, or run as root, or write best-effort"
            yield fault(key, f"an ordinary user may not make user namespaces ({switch} = {closed})", remedy)


def landlock_layer(settings: Settings, machine: Machine) -> Findings:  # noqa: ARG001
    """The one layer that a confinement does without when the kernel lacks it, required or not."""
    if landlock.abi() == 0:
        what = "this kernel has no Landlock, so one layer of the confinement is missing"
        yield caution("confinement", what, "boot it with lsm=landlock, before the modules of /sys/kernel/security/lsm")


_JUDGEMENTS: tuple[Judgement, ...] = (
    accounts,
    folders,
    roots,
    views,
    drop_boxes,
    released,
    scanner,
    uploads,
    xferlog,
    clock,
    addresses,
    certificate,
    source_port,
    receive_buffers,
    passive_ports,
    memory,
    disk,
    kernel,
    landlock_layer,
    hooks,
)
