"""Files and folders by descriptor, made so that they are on disk before anybody is told of them.

Invariant: nothing here follows a link, and a file that has its final name is complete and on disk.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from appliance.confine import libc

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
NEW = ".new-"  # what is being made
OLD = ".old-"  # what is being removed
BLOCK = 1 << 20
FEW = 32  # so many are synced one by one; above that one syncfs(2) is quicker than they are


@contextmanager
def folder(name: str, above: int, *, make: bool = False) -> Iterator[int]:
    """An open folder in an open folder; with `make` one that is missing is made, 0755. Raises OSError."""
    if make:
        make_folder(name, above)
    fd = os.open(name, FOLDER, dir_fd=above)
    try:
        yield fd
    finally:
        os.close(fd)


def make_folder(name: str, above: int) -> bool:
    """Make a folder; False when there is one. Raises OSError."""
    try:
        os.mkdir(name, 0o755, dir_fd=above)
    except FileExistsError:
        return False
    return True


def names(fd: int) -> list[str]:
    """What an open folder has, in order. Raises OSError."""
    return sorted(os.listdir(fd))


def read(name: str, above: int, most: int) -> bytes:
    """The content of a regular file of ours. Raises OSError; FileNotFoundError for what is no regular file."""
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=above)
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise FileNotFoundError(f"{name} is no regular file")
        text = file.read(most + 1)
    if len(text) > most:
        raise OSError(f"{name} is larger than {most} bytes")
    return text


def write_new(name: str, above: int, parts: Iterable[bytes | memoryview], mode: int = 0o644) -> None:
    """Make a file; it is not on disk yet. Raises OSError, and then it is not there."""
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=above)
    try:
        for part in parts:
            write_all(fd, part)
    except BaseException:
        os.unlink(name, dir_fd=above)
        raise
    finally:
        os.close(fd)


def write_all(fd: int, part: bytes | memoryview) -> None:
    """Write every byte. Raises OSError."""
    rest = memoryview(part)
    while rest:
        rest = rest[os.write(fd, rest) :]


def replace(name: str, above: int, text: bytes, mode: int = 0o644) -> None:
    """Give a file new content in one step that survives a power cut. Raises OSError."""
    half = f"{NEW}{secrets.token_hex(8)}"
    write_new(half, above, [text], mode)
    try:
        sync(half, above)
        os.rename(half, name, src_dir_fd=above, dst_dir_fd=above)
    except BaseException:
        discard(half, above)
        raise
    os.fsync(above)


def sync(name: str, above: int) -> None:
    """A file by name, on disk. Raises OSError."""
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_all(fd: int) -> None:
    """Everything on the file system of an open folder, on disk. Raises OSError."""
    libc.syncfs(fd)


def discard(name: str, above: int) -> None:
    """Remove a file if it is there. Raises OSError."""
    try:
        os.unlink(name, dir_fd=above)
    except FileNotFoundError:
        pass


def blocks(fd: int, size: int | None = None) -> Iterator[bytes]:
    """The bytes of an open file from its beginning, whoever else reads it; at most `size`. Raises OSError."""
    place = 0
    while size is None or place < size:
        block = os.pread(fd, BLOCK if size is None else min(BLOCK, size - place), place)
        if not block:
            return
        place += len(block)
        yield block


def remove_tree(name: str, above: int) -> None:
    """Remove a tree, whatever is in it; its name is free with the first step. Raises OSError."""
    gone = name if name.startswith((OLD, NEW)) else f"{OLD}{secrets.token_hex(8)}"
    if gone != name:
        os.rename(name, gone, src_dir_fd=above, dst_dir_fd=above)
    remove_piecemeal(gone, above)


def remove_piecemeal(name: str, above: int) -> None:
    """Remove a tree under the name it has; after a failure its rest is there. Raises OSError."""
    if not stat.S_ISDIR(os.stat(name, dir_fd=above, follow_symlinks=False).st_mode):
        os.unlink(name, dir_fd=above)
        return
    with folder(name, above) as fd:
        with os.scandir(fd) as entries:
            found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        for inner, is_folder in found:
            if is_folder:
                remove_piecemeal(inner, fd)
            else:
                os.unlink(inner, dir_fd=fd)
    os.rmdir(name, dir_fd=above)
