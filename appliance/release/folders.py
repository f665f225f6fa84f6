"""Folders and files that others may be changing: opened once without following links, then looked at by descriptor.

Invariant: nothing is believed about a name; what counts is what the descriptor says that was opened by it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterable, Iterator

from appliance.errors import ApplianceError
from appliance.observe.text import printable

BLOCK = 1 << 20  # bytes read at a time
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# A FIFO or a lease that somebody holds on the file does not hold us up, it is an error at once
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class ReleaseError(ApplianceError):
    """The box, an upload or the released tree is not as it has to be; the text says what to do."""


def because(what: str, error: OSError) -> ReleaseError:
    """An error of the system in words."""
    remedy = " (as root, or as the user who runs the appliance)" if isinstance(error, PermissionError) else ""
    return ReleaseError(f"{what}: {error.strerror}{remedy}")


def root(path: str) -> int:
    """Open the root of the service, which an operator may have made a link. Raises ReleaseError."""
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise because(f"cannot open {path}", error) from None


def below(above: int, parts: Iterable[bytes], owners: Collection[int], *, make: bool, private: bool) -> int:
    """Walk down from an open folder; returns a descriptor of the last one, `above` stays open. Raises ReleaseError.

    Each folder is a real one. With `private` the last one, otherwise each one, belongs to one of the `owners` and can
    be written by nobody else. With `make` those that are missing are made, 0755.
    """
    folder, shown = os.dup(above), ""
    try:
        for part in parts:
            shown += f"/{printable(part)}"
            folder = _step(folder, part, shown[1:], make=make)
            if not private:
                _judge(folder, owners, shown[1:])
        if private:
            _judge(folder, owners, shown[1:])
        found, folder = folder, -1
        return found
    finally:
        if folder >= 0:
            os.close(folder)


def _step(folder: int, name: bytes, shown: str, *, make: bool) -> int:
    """Open the next folder; the one before is closed only when that went well."""
    made, found = False, -1
    try:
        if make:
            try:
                os.mkdir(name, 0o755, dir_fd=folder)
                made = True
            except FileExistsError:
                pass
        found = os.open(name, _FOLDER, dir_fd=folder)
        if made:
            os.fchmod(found, 0o755)  # whatever the umask was
    except OSError as error:
        if found >= 0:
            os.close(found)
        raise because(f"cannot use the folder {shown}", error) from None
    os.close(folder)
    return found


def _judge(folder: int, owners: Collection[int], shown: str) -> None:
    found = os.fstat(folder)
    if found.st_uid not in owners:
        raise ReleaseError(f"the folder {shown} belongs to uid {found.st_uid} (`appliance check` tells what to do)")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ReleaseError(f"the folder {shown} can be written by others (chmod go-w it)")


def regular(name: bytes, folder: int) -> tuple[int, os.stat_result]:
    """Open a regular file to be read, and what it is. Raises OSError, and ReleaseError for anything else."""
    fd = os.open(name, _FILE, dir_fd=folder)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise ReleaseError(f"{printable(name)} is no regular file")
    except BaseException:
        os.close(fd)
        raise
    return fd, found


def blocks(fd: int, size: int) -> Iterator[bytes]:
    """The first `size` bytes of an open file. Raises ReleaseError when it has fewer, and OSError."""
    place = 0
    while place < size:
        block = os.pread(fd, min(BLOCK, size - place), place)
        if not block:
            raise ReleaseError("the file changed while it was read")
        place += len(block)
        yield block
