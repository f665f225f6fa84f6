"""Judge the folders that are uploaded into, for `world`: owners, parents, what can be replaced and who could read it.

Also what both have in common: how a finding is made, and who a worker runs as.
"""

from __future__ import annotations

import errno
import fnmatch
import itertools
import os
import pwd
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from appliance.errors import Problem
from appliance.machine import MOST, Machine, nearest, remounting
from appliance.settings.main import Settings
from appliance.supervise.folders import holds
from appliance.wiring import FIXED_UIDS

Findings: TypeAlias = Iterator[Problem]


def fault(key: str, what: str, remedy: str) -> Problem:
    """A finding that keeps the appliance from starting."""
    return Problem("error", what, remedy, key)


def caution(key: str, what: str, remedy: str) -> Problem:
    """A finding that an operator may live with."""
    return Problem("warning", what, remedy, key)


def identity(machine: Machine, user: str) -> tuple[int, int] | None:
    """Who a worker runs as: ourselves, or as root its account, or for a missing default account its fixed uid."""
    if machine.uid:
        return machine.uid, machine.gid
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        return (FIXED_UIDS[user], FIXED_UIDS[user]) if user in FIXED_UIDS else None
    return entry.pw_uid, entry.pw_gid


def listed(names: list[str]) -> str:
    """One of the names, and how many others there are."""
    first = ascii(min(names))[1:-1]
    return first if len(names) == 1 else f"{first} and {len(names) - 1} more in it"


@dataclass(frozen=True, slots=True)
class Box:
    """A folder that is uploaded into: its section, the root above it, its path, and what people call it."""

    section: str
    root: str
    folder: str
    quota: int
    name: str


def boxes(settings: Settings) -> list[Box]:
    """Those that the settings have."""
    ftp, tftp = settings.ftp, settings.tftp
    found = []
    if ftp.enabled and ftp.incoming.enabled:
        box = ftp.incoming
        found.append(Box("ftp.incoming", ftp.root, f"{ftp.root}/{box.path}", box.quota, "the drop box"))
    if tftp.enabled and tftp.uploads.mode != "none":
        uploads = tftp.uploads
        folder = f"{tftp.root}/{uploads.path}"
        found.append(Box("tftp.uploads", tftp.root, folder, uploads.quota, "uploads by TFTP"))
    return found


def folders_of(settings: Settings) -> tuple[str, ...]:
    """Their paths."""
    return tuple(box.folder for box in boxes(settings))


def drop_boxes(settings: Settings, machine: Machine) -> Findings:
    """A folder for uploads that the supervisor can neither make nor take over."""
    for box in boxes(settings):
        if os.path.isdir(box.root):  # a missing root is told by itself
            yield from _drop_box(f"{box.section}.path", box.folder, machine)


def _drop_box(key: str, box: str, machine: Machine) -> Findings:
    above = os.path.dirname(box)
    try:
        found = os.lstat(box)
    except FileNotFoundError:
        if not os.access(above, os.W_OK | os.X_OK, effective_ids=True):
            remedy = f"install -d -o {machine.uid} -m 0700 {box}"
            yield fault(key, f"{box} cannot be made", remounting(above) or remedy)
        return
    if not stat.S_ISDIR(found.st_mode):
        kind = "a symbolic link" if stat.S_ISLNK(found.st_mode) else "not a folder"
        yield fault(key, f"{box} is {kind}", f"rm {box}: it is made anew at the start")
    elif key == "ftp.incoming.path" and (give := _giving(found, box, machine)):
        what = f"{box} holds files that nobody uploaded, and would be closed and swept"
        yield fault(key, what, f"name another folder; if it is the right one: {give}")
    elif not _is_keepers(found.st_uid, machine):
        uid, gid = identity(machine, "appliance-custody") or (0, 0)
        yield fault(key, f"{box} belongs to uid {found.st_uid}", f"chown -R {uid}:{gid} {box}")
    else:
        yield from _parent(key, above, os.stat(above), machine)
        if remedy := remounting(box):
            yield caution(key, f"{box} is read-only, so nothing can be uploaded", remedy)


def _giving(found: os.stat_result, box: str, machine: Machine) -> str:
    """As `supervise.folders.own`: what makes a folder the keeper's that is not yet, and is not empty; else nothing."""
    uid, gid = identity(machine, "appliance-custody") or (0, 0)
    mine = found.st_uid == uid and (machine.uid == 0 or stat.S_IMODE(found.st_mode) == 0o700)
    try:
        if mine or not holds(box):
            return ""
    except OSError:
        return ""  # not ours to look into: the start will tell
    return f"chown -R {uid}:{gid} {box}" if found.st_uid != uid else f"chmod 700 {box}"


def _parent(key: str, above: str, found: os.stat_result, machine: Machine) -> Findings:
    """As `supervise.folders.own`: who can write there could put a link in the place of the folder."""
    if found.st_uid not in (0, machine.uid):
        yield fault(key, f"{above} belongs to uid {found.st_uid}", f"chown {machine.uid} {above}")
    elif found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
        yield fault(key, f"{above} can be written by everybody", f"chmod go-w {above}")


def released(settings: Settings, machine: Machine) -> Findings:
    """A folder into which nothing will be released; one that is missing is made by the first release."""
    ftp = settings.ftp
    if not (ftp.enabled and ftp.incoming.enabled):
        return
    folder, key = ftp.root, "ftp.incoming.released"
    for part in ftp.incoming.released.split("/"):
        folder += f"/{part}"
        try:
            found = os.lstat(folder)
        except FileNotFoundError:
            return
        if not stat.S_ISDIR(found.st_mode):
            yield caution(key, f"{folder} is not a folder", f"rm {folder}, or name another one")
            return
        if found.st_uid not in (0, machine.uid):
            yield caution(key, f"{folder} belongs to uid {found.st_uid}", f"chown {machine.uid} {folder}")
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            yield caution(key, f"{folder} can be written by others", f"chmod go-w {folder}")


def scanner(settings: Settings, machine: Machine) -> Findings:
    """A scanner that is not there: what is uploaded would be held."""
    incoming = settings.ftp.incoming
    if not (settings.ftp.enabled and incoming.enabled and incoming.scan):
        return
    scan, held = incoming.scan, "so every upload is held"
    if scan.clamd is not None:
        if not stat.S_ISSOCK(_mode(scan.clamd)):
            what = f"there is no socket {scan.clamd}, {held}"
            yield caution("ftp.incoming.scan.clamd", what, "systemctl start clamav-daemon, or name its LocalSocket")
        return
    program = scan.command[0]
    if not stat.S_ISREG(_mode(program)) or not os.access(program, os.X_OK):
        yield caution("ftp.incoming.scan.command", f"{program} is no program, {held}", f"ls -l {program}")
    if machine.uid == 0 and (identity(machine, scan.user) or (0, 0))[0] == 0:
        what = f"there is no account {scan.user}, or it is root, {held}"
        remedy = f"useradd --system --no-create-home --shell /usr/sbin/nologin {scan.user}, or take the key out"
        yield caution("ftp.incoming.scan.user", what, remedy)


def _mode(path: str) -> int:
    try:
        return os.stat(path).st_mode
    except OSError:
        return 0


def uploads(settings: Settings, machine: Machine) -> Findings:
    """What keeps uploads by TFTP from being replaced, from being read back, or from strangers' eyes."""
    tftp, ftp = settings.tftp, settings.ftp
    if not tftp.enabled or tftp.uploads.mode == "none":
        return
    folder = f"{tftp.root}/{tftp.uploads.path}"
    served = ftp.enabled and machine.uid != 0 and f"{folder}/".startswith(f"{ftp.root}/")
    parts = os.path.relpath(folder, ftp.root).split("/")
    if served and not any(part.startswith(".") or _hidden(part, ftp.hide) for part in parts):
        what = f"{folder} lies inside ftp.root, and the FTP workers of an ordinary user may read it"
        yield fault(
            "tftp.uploads.path", what, f"add {parts[-1]} to ftp.hide, or name a root of its own, or run as root"
        )
    if tftp.uploads.readable == "same-client" and not _keeps_attributes(nearest(folder)):
        what = f"the file system of {nearest(folder)} has no user attributes, so nobody knows who uploaded a file"
        remedy = "put it on ext4, xfs or btrfs, or write networks or none"
        yield fault("tftp.uploads.readable", what, remedy)
    if tftp.uploads.mode != "create":
        yield from _others_files(folder, machine)


def _hidden(name: str, hide: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in hide)


def _keeps_attributes(path: str) -> bool:
    try:
        os.getxattr(path, "user.appliance.client")
    except OSError as error:
        return error.errno != errno.ENOTSUP
    return True


def _others_files(folder: str, machine: Machine) -> Findings:
    keeper = identity(machine, "appliance-custody") or (0, 0)
    others: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in itertools.islice(entries, MOST):
                if entry.is_file(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_uid != keeper[0]:
                    others.append(entry.name)
    except OSError:
        return  # not made yet, or not ours to look into
    if others:
        what = f"uid {keeper[0]}, which keeps it, does not own {listed(others)}, and replaces its own files only"
        yield caution("tftp.uploads.mode", what, f"chown -R {keeper[0]}:{keeper[1]} {folder}")


def _is_keepers(uid: int, machine: Machine) -> bool:
    keeper = identity(machine, "appliance-custody")
    return uid in (0, machine.uid, keeper[0] if keeper else 0)
