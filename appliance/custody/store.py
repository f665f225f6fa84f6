"""The folder of a box (its working directory): the only place that makes, finishes, replaces and removes uploads.

Invariant: a name that a client chose only ever shows a complete file: an upload is written under a hidden name and gets
its own when it is finished, exclusively or by taking the place of a file of ours in one step. Whatever is interrupted,
the name has either the old file or the new one. Nothing here follows a symbolic link or touches what it did not make,
except the sweep, which removes regular files that are older than the retention.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
import time
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from appliance.custody import marks, versions
from appliance.custody.rules import PARTIAL
from appliance.custody.wire import Reason

MODE = 0o640  # a finished upload: the operator's group may read it, nobody may write it
_PARTIAL = PARTIAL.encode()
_KEEP_FREE = 64 << 20  # bytes of the disk that uploads never take, or a twentieth of a small disk
_UNTOLD = 1 << 62
_TRIES = 4
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a FIFO that lies there does not hold us up
_UNDATED = 1735689600  # 2025-01-01: no clock that says less was right while this program ran
_SETTLED_S = 60.0  # a name that was given this long ago is not in the middle of anything


@dataclass(frozen=True, slots=True)
class Standing:
    """What has a name. `ours`: a regular file that a custodian made, which may be replaced where the mode allows it."""

    ours: bool
    size: int
    stored_ns: int
    inode: int
    client: str


@dataclass(slots=True)
class Found:
    """What a sweep came upon: size and client of the finished files, what it removed, bytes of others' partials."""

    files: dict[bytes, tuple[int, str]] = field(default_factory=dict)
    removed: list[bytes] = field(default_factory=list)
    strangers: int = 0


@dataclass(slots=True)
class Partial:
    """An upload under way: its hidden name and our own descriptor of it. `marked`: its client was written on it."""

    hidden: bytes
    fd: int
    marked: bool = False

    def close(self) -> None:
        """Let the descriptor go; may be called twice."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def discard(self) -> None:
        """Close and remove it; gone already is no fault, and what cannot be removed is left to a later start."""
        try:
            self.close()
            _unlink(self.hidden)
        except OSError:
            self.fd = -1

    def finish(
        self, name: bytes, size: int, client: str = "", over: Standing | None = None, version: bytes = b""
    ) -> Reason | None:
        """Make it durable and give it its name, then close it. On a refusal or OSError nothing has got the name.

        `over` is what has the name and is replaced by it; it is called `version` from then on, or is gone (b"").
        """
        if os.fstat(self.fd).st_size != size:
            return Reason.INCOMPLETE
        self.marked = bool(client) and marks.write(self.fd, client)
        os.fchmod(self.fd, MODE)
        os.fsync(self.fd)
        reason = self._link(name) if over is None else self._replace(name, over, version)
        if reason is None:
            self.discard()
        return reason

    def _link(self, name: bytes) -> Reason | None:
        try:
            os.link(self.hidden, name, follow_symlinks=False)  # unlike rename, refuses a name that exists
        except FileExistsError:
            return Reason.EXISTS
        try:
            sync_folder()
        except OSError:
            _unlink(name)
            raise
        return None

    def _replace(self, name: bytes, over: Standing, version: bytes) -> Reason | None:
        aside = version or _hidden()
        kept = False
        try:
            os.link(name, aside, follow_symlinks=False)
        except FileExistsError:  # a custodian died at this point before us; if it is another file, that shows below
            kept = True
        try:
            if os.lstat(aside).st_ino != over.inode:
                return Reason.UNDER_WAY  # somebody else was quicker
            os.rename(self.hidden, name)
            try:
                sync_folder()
            except OSError:
                os.rename(aside, name)
                raise
            kept = kept or bool(version)
        finally:
            if not kept:
                _tidy(aside)
        return None


def _hidden() -> bytes:
    return _PARTIAL + secrets.token_hex(12).encode()


def _unlink(name: bytes) -> None:
    try:
        os.unlink(name)
    except FileNotFoundError:
        pass


def _tidy(name: bytes | str) -> bool:
    """Remove what nobody needs any more. That it is left behind would not make undone what was done."""
    try:
        os.unlink(name)
    except OSError:
        return False
    return True


def create() -> Partial:
    """Begin an upload under a hidden name that nobody can guess. Raises OSError."""
    for _try in range(_TRIES):
        hidden = _hidden()
        try:
            partial = Partial(hidden, os.open(hidden, _CREATE, 0o600))
        except FileExistsError:
            continue
        fcntl.lockf(partial.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # ours: a successor leaves it alone while we live
        return partial
    raise FileExistsError(errno.EEXIST, "no unused hidden name")


def rehearse() -> None:
    """Store and remove an upload of one byte that nobody sees. Raises OSError, whose errno says why none can be."""
    if free() <= 0:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    partial, twin = create(), _hidden()
    try:
        os.write(partial.fd, b"-")
        os.fchmod(partial.fd, MODE)
        os.fsync(partial.fd)
        os.link(partial.hidden, twin, follow_symlinks=False)
        os.unlink(twin)
        sync_folder()
    finally:
        partial.discard()


def look(name: bytes) -> Standing | None:
    """What has this name, None for nothing. Raises OSError."""
    try:
        status = os.lstat(name)
    except FileNotFoundError:
        return None
    ours = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()
    client = marks.read(name) if ours else ""
    return Standing(ours, status.st_size, status.st_mtime_ns, status.st_ino, client)


def fetch(name: bytes) -> tuple[int, int, str] | None:
    """A finished upload: read-only descriptor, size, and client; None when no regular file has this name.

    The client is that of the very file that was opened, whatever has its name by now. Raises OSError.
    """
    try:
        fd = os.open(name, _READ)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO):  # nothing, a link, a socket
            return None
        raise
    try:
        status = os.fstat(fd)
        if stat.S_ISREG(status.st_mode):
            found = fd, status.st_size, marks.read(fd)
            fd = -1
            return found
    finally:
        if fd >= 0:
            os.close(fd)
    return None


def remove(name: bytes) -> None:
    """Remove a version that is one too many. Raises OSError."""
    _unlink(name)


def sync_folder() -> None:
    """Make names durable."""
    fd = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def free() -> int:
    """Bytes that uploads may still take from the disk; of a file system that does not tell (ramfs, FUSE), any."""
    disk = os.statvfs(b".")
    if not disk.f_blocks:
        return _UNTOLD
    return disk.f_bavail * disk.f_frsize - min(_KEEP_FREE, disk.f_blocks * disk.f_frsize // 20)


def clear_partials() -> int:
    """Remove what an earlier custodian left unfinished; returns how many. Only for the start: none is ours then.

    What cannot be removed (the disk is read-only, say) is left to a later start.

    After a reload the earlier one may still finish uploads: what it holds locked is left to it.
    """
    count = 0
    with os.scandir(b".") as entries:
        for entry in entries:
            if entry.name.startswith(_PARTIAL) and entry.is_file(follow_symlinks=False) and not _held(entry.name):
                count += _tidy(entry.name)
    return count


def _held(name: bytes) -> bool:
    try:
        fd = os.open(name, _READ)
    except OSError:
        return False
    try:
        fcntl.lockf(
            fd, fcntl.LOCK_SH | fcntl.LOCK_NB
        )  # a record lock dies with its process, not with copies of the file
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


def sweep(
    oldest: float,
    own: Container[bytes] = (),
    known: Mapping[bytes, tuple[int, str]] = MappingProxyType({}),
    since: float = 0.0,
) -> Found:
    """Remove uploads changed before `oldest` (seconds since the epoch) and tell what is there.

    One that came while the clock said a year before this program existed is of unknown age, and stays: the first right
    time after a start without a clock must not be the end of it.
    One that cannot be removed is there still, and counts.
    `own` are the hidden names of our uploads under way: those of others are bytes that the disk and the quota lose.
    Of a `known` file to which nothing has happened `since` (seconds since the epoch) the client is taken from there:
    reading the marks would double the time that a large box takes.
    """
    found = Found()
    linked: dict[bytes, os.stat_result] = {}
    with os.scandir(b".") as entries:
        for entry in entries:
            try:
                status = entry.stat(follow_symlinks=False)
                if not stat.S_ISREG(status.st_mode):
                    continue
                if entry.name.startswith(_PARTIAL):
                    found.strangers += status.st_size if entry.name not in own else 0
                elif _UNDATED <= status.st_mtime < oldest and _tidy(entry.name):
                    found.removed.append(entry.name)
                else:
                    told = known.get(entry.name) if status.st_ctime < since else None
                    found.files[entry.name] = status.st_size, told[1] if told else marks.read(entry.name)
                    if status.st_nlink > 1:
                        linked[entry.name] = status
            except FileNotFoundError:
                continue  # the operator took it away meanwhile
    _drop_twins(found, linked)
    return found


def _drop_twins(found: Found, linked: dict[bytes, os.stat_result]) -> None:
    """Remove a version that is the very file it is a version of: a custodian died before it could replace that."""
    for name, status in linked.items():
        base = linked.get(versions.base(name))
        if base is not None and base.st_ino == status.st_ino and status.st_ctime < time.time() - _SETTLED_S:
            _tidy(name)
            found.files.pop(name)
