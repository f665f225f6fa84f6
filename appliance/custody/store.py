"""The folder of the drop box (its working directory): the only place that makes, finishes and removes uploads.

Invariant: a name that a client chose only ever appears complete: an upload is written under a hidden name and linked to
its own when it is finished, exclusively. Nothing here follows a symbolic link or touches what it did not make, except
the sweep, which removes regular files that are older than the retention.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
from dataclasses import dataclass

from appliance.custody.rules import PARTIAL
from appliance.custody.wire import Reason

MODE = 0o640  # a finished upload: the operator's group may read it, nobody may write it
_PARTIAL = PARTIAL.encode()
_KEEP_FREE = 64 << 20  # bytes of the disk that uploads never take, or a twentieth of a small disk
_TRIES = 4
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(slots=True)
class Partial:
    """An upload under way: its hidden name and our own descriptor of it."""

    hidden: bytes
    fd: int

    def close(self) -> None:
        """Let the descriptor go; may be called twice."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def discard(self) -> None:
        """Close and remove it; what is gone already is no fault."""
        self.close()
        _unlink(self.hidden)

    def finish(self, name: bytes, size: int) -> Reason | None:
        """Make it durable and give it its name, then close it. On a refusal or OSError nothing has got the name."""
        if os.fstat(self.fd).st_size != size:
            return Reason.INCOMPLETE
        os.fsync(self.fd)
        os.fchmod(self.fd, MODE)
        try:
            os.link(self.hidden, name, follow_symlinks=False)  # unlike rename, refuses a name that exists
        except FileExistsError:
            return Reason.EXISTS
        try:
            sync_folder()
        except OSError:
            _unlink(name)
            raise
        self.discard()
        return None


def _unlink(name: bytes) -> None:
    try:
        os.unlink(name)
    except FileNotFoundError:
        pass


def create() -> Partial:
    """Begin an upload under a hidden name that nobody can guess. Raises OSError."""
    for _try in range(_TRIES):
        hidden = _PARTIAL + secrets.token_hex(12).encode()
        try:
            partial = Partial(hidden, os.open(hidden, _CREATE, 0o600))
        except FileExistsError:
            continue
        fcntl.lockf(partial.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # ours: a successor leaves it alone while we live
        return partial
    raise FileExistsError(errno.EEXIST, "no unused hidden name")


def exists(name: bytes) -> bool:
    """True when anything at all has this name."""
    try:
        os.lstat(name)
    except OSError as error:
        return error.errno != errno.ENOENT
    return True


def sync_folder() -> None:
    """Make names durable."""
    fd = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def free() -> int:
    """Bytes that uploads may still take from the disk."""
    disk = os.statvfs(b".")
    return disk.f_bavail * disk.f_frsize - min(_KEEP_FREE, disk.f_blocks * disk.f_frsize // 20)


def clear_partials() -> int:
    """Remove what an earlier custodian left unfinished; returns how many. Only for the start: none is ours then.

    After a reload the earlier one may still finish uploads: what it holds locked is left to it.
    """
    count = 0
    with os.scandir(b".") as entries:
        for entry in entries:
            if entry.name.startswith(_PARTIAL) and entry.is_file(follow_symlinks=False) and not _held(entry.name):
                os.unlink(entry.name)
                count += 1
    return count


def _held(name: bytes) -> bool:
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
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


def sweep(oldest: float) -> tuple[dict[bytes, int], list[bytes]]:
    """Remove uploads changed before `oldest` (seconds since the epoch); returns sizes by name, and what was removed."""
    found: dict[bytes, int] = {}
    removed: list[bytes] = []
    with os.scandir(b".") as entries:
        for entry in entries:
            try:
                status = entry.stat(follow_symlinks=False)
                if not stat.S_ISREG(status.st_mode) or entry.name.startswith(_PARTIAL):
                    continue
                if status.st_mtime < oldest:
                    os.unlink(entry.name)
                    removed.append(entry.name)
                else:
                    found[entry.name] = status.st_size
            except FileNotFoundError:
                continue  # the operator took it away meanwhile
    return found, removed
