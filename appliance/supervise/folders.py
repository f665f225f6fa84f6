"""The supervisor's folders: run_dir with its lock, the empty jail, and folders that a service owns."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from pathlib import Path

from appliance.errors import StartError

LOCK, STATUS, ACT, EMPTY = "lock", "status.sock", "act.sock", "empty"
EVENTS, WHO, METRICS = "events.sock", "who.sock", "metrics.sock"
SOCKETS = (STATUS, WHO, METRICS, EVENTS)  # of services; no other name is made in run_dir for one


def make(path: str, mode: int = 0o755) -> None:
    """Make a folder and those above it. Raises StartError with the command that helps."""
    try:
        os.makedirs(path, mode=mode, exist_ok=True)
    except OSError as error:
        raise StartError(f"cannot make {path}: {error.strerror} (mkdir -p {path}, or name another folder)") from error


def lock(run_dir: str) -> int:
    """Take the lock of run_dir; the descriptor holds it as long as we live. Raises StartError for a second instance."""
    make(run_dir)
    found = os.stat(run_dir)
    if found.st_uid not in (0, os.geteuid()) or found.st_mode & stat.S_IWOTH:  # names in it are made and removed by us
        raise StartError(f"{run_dir} can be written by others (chown it to this user and chmod go-w it)")
    path = f"{run_dir}/{LOCK}"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise StartError(f"cannot make {path}: {error.strerror} (run_dir must belong to this user)") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(descriptor)
        raise StartError(
            f"another appliance (pid {holder}) runs on {run_dir} (stop it, or give this one its own run_dir)"
        ) from error
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    except OSError as error:
        if error.errno != errno.ENOSPC:  # the pid is for people; the lock is what counts
            raise StartError(f"cannot write {path}: {error.strerror}") from error
    return descriptor


def empty_jail(run_dir: str) -> str:
    """The folder that children without files are locked into: nothing in it, nobody may write."""
    path = f"{run_dir}/{EMPTY}"
    make(path, 0o555)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise StartError(f"cannot use {path}: {error.strerror} (it must be a folder: rm {path})") from error
    try:
        os.fchmod(descriptor, 0o555)  # read and enter, that is all anybody may
    finally:
        os.close(descriptor)
    if any(Path(path).iterdir()):
        raise StartError(f"{path} is not empty (it must be: rm -r {path})")
    return path


def admit(path: str, gid: int) -> None:
    """Let a group connect to a socket of ours, or with gid 0 nobody but ourselves. Raises OSError."""
    os.chmod(path, 0o600)
    os.chown(path, -1, gid or os.getegid())
    if gid:
        os.chmod(path, 0o660)


def clear(run_dir: str) -> None:
    """Take the sockets away that stand in run_dir, so that nobody asks one which nobody answers."""
    for name in (*SOCKETS, ACT):
        try:
            os.unlink(f"{run_dir}/{name}")
        except OSError:
            pass


def own(path: str, uid: int, gid: int, *, strangers: bool = True) -> None:
    """Make `path` the private folder of an account: 0700, nobody else looks in. Raises StartError with the remedy.

    Only a folder of root or of that account is taken over; its parent must belong to root or us, and not be writable by
    others, so that nobody can put a link in its place meanwhile. Without `strangers` it is taken over only while it is
    empty: a folder full of files that were to be served is a slip of the pen, and would be closed and swept. A fresh
    file system counts as empty.
    """
    remedy = f"install -d -o {uid} -g {gid} -m 0700 {path}"
    try:
        parent = os.stat(os.path.dirname(path) or "/")
    except OSError as error:
        raise StartError(f"cannot use {path}: {error.strerror} ({remedy})") from error
    _judge_parent(os.path.dirname(path), parent)
    try:
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            pass
        # O_PATH: nothing but the parent is asked, so that root needs no right to read what belongs to others
        descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ENOTDIR:  # `install` would fail, or give away the folder that a link leads to
            raise StartError(f"{path} is a link or a file (rm {path}: it is made anew at the start)") from error
        raise StartError(f"cannot use {path}: {error.strerror} ({_helps(error, path) or remedy})") from error
    try:
        found = os.fstat(descriptor)
        foreign = found.st_uid not in (0, uid, os.geteuid())
        careful = remedy
        if not strangers and (give := _giving(found, uid, gid, path)):
            careful = f"name another folder; if it is the right one: {give}"
            if _holds(descriptor, foreign=foreign):
                raise StartError(f"{path} holds files that nobody uploaded ({careful})")
        if foreign:
            raise StartError(f"{path} belongs to uid {found.st_uid} ({careful})")
        _settle(descriptor, found, uid, gid)
    except OSError as error:
        raise StartError(f"cannot take over {path}: {error.strerror} ({_helps(error, path) or remedy})") from error
    finally:
        os.close(descriptor)


def _judge_parent(path: str, found: os.stat_result) -> None:
    if found.st_uid not in (0, os.geteuid()):
        raise StartError(f"{path} belongs to uid {found.st_uid} (chown {os.geteuid()} {path})")
    if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
        raise StartError(f"{path} can be written by everybody (chmod go-w {path})")


def _giving(found: os.stat_result, uid: int, gid: int, path: str) -> str:
    """The command that makes a folder that of an account; "" where it is already."""
    if found.st_uid != uid:
        return f"chown -R {uid}:{gid} {path}"
    closed = os.geteuid() == 0 or stat.S_IMODE(found.st_mode) == 0o700
    return "" if closed else f"chmod 700 {path}"


def holds(path: str) -> bool:
    """Whether a folder holds anything; the root of a fresh file system, as mkfs leaves it, is empty. Raises OSError."""
    return any(name != "lost+found" for name in os.listdir(path))


def _holds(descriptor: int, *, foreign: bool) -> bool:
    """As `holds`; where somebody else lets nobody look, his name is reason enough to refuse. Raises OSError."""
    try:
        return holds(f"/proc/self/fd/{descriptor}")
    except PermissionError:
        if not foreign:
            raise
        return False


def _settle(descriptor: int, found: os.stat_result, uid: int, gid: int) -> None:
    itself = f"/proc/self/fd/{descriptor}"
    if stat.S_IMODE(found.st_mode) != 0o700:  # first, as long as it is ours
        os.chmod(itself, 0o700)
    if os.geteuid() == 0 and (found.st_uid, found.st_gid) != (uid, gid):
        os.chown(itself, uid, gid)


def _helps(error: OSError, path: str) -> str:
    """What helps where no command about the folder would: on vfat, or where the unit of systemd shows us the rest
    of the machine read-only (systemd.exec(5)).
    """
    if error.errno in (errno.EPERM, errno.ENOSYS, errno.ENOTSUP) and os.geteuid() == 0:
        return f"findmnt -T {path}; its file system keeps no owners or modes: take ext4, xfs or btrfs"
    if error.errno != errno.EROFS:
        return ""
    return (
        f"findmnt -T {path}; where that is rw: systemctl edit appliance: [Service], "
        f"ReadWritePaths={os.path.dirname(path)}; then systemctl restart appliance"
    )
