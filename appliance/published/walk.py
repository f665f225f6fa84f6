"""Open a path as a chroot at the working directory would, looking at each step; and what uses that as a guard.

Symbolic links are followed here, component by component and never through the kernel, with the meaning they would have
in a chroot: "/" and ".." end at the root. (openat2 with RESOLVE_IN_ROOT is not in the filter's list.)
"""

from __future__ import annotations

import errno
import os
import stat
from collections import OrderedDict
from collections.abc import Collection

from appliance.published.layers import HIDDEN

_LINKS_MAX = 40  # as the kernel
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_REMEMBERED = 4096
Folder = tuple[int, int]  # its device and inode


class KeptOut(PermissionError):
    """The path leads through the folder that was to be kept out of."""

    def __init__(self) -> None:
        super().__init__(errno.EACCES, os.strerror(errno.EACCES))


def folder_at(path: bytes) -> Folder | None:
    """Which folder has this path now; None where there is none."""
    try:
        facts = os.stat(path)
    except OSError:
        return None
    return facts.st_dev, facts.st_ino


def walk(parts: list[bytes], keep_out: Collection[Folder] = ()) -> int:
    """Open the path of these parts for reading. Raises OSError, KeptOut where it leads through one of `keep_out`."""
    pending = parts[::-1]
    folders = [os.open(b".", _LOOK)]
    links = 0
    try:
        while True:
            part = pending.pop() if pending else b"."
            if part == b"..":
                if len(folders) > 1:
                    os.close(folders.pop())
                continue
            found = os.open(part, _LOOK, dir_fd=folders[-1])
            facts = os.fstat(found)
            if keep_out and (facts.st_dev, facts.st_ino) in keep_out:
                os.close(found)
                raise KeptOut
            if not stat.S_ISLNK(facts.st_mode):
                if not pending:
                    os.close(found)
                    return os.open(part, _READ | os.O_NOFOLLOW, dir_fd=folders[-1])
                folders.append(found)
                continue
            links += 1
            _follow(found, links, pending, folders)
    finally:
        for folder in folders:
            os.close(folder)


def _follow(link: int, links: int, pending: list[bytes], folders: list[int]) -> None:
    """Put the target of a symbolic link in front of what is still to walk; closes `link`."""
    try:
        target = os.readlink(b"", dir_fd=link)
    finally:
        os.close(link)
    if links > _LINKS_MAX:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    if target.startswith(b"/"):
        while len(folders) > 1:
            os.close(folders.pop())
    pending.extend(part for part in reversed(target.split(b"/")) if part not in (b"", b"."))


class Guard:
    """No link that somebody put into the root leads to what is published: that has names and an order of its own.

    A path is walked when it is asked for the first time, and again when it leads to another file than then.
    """

    def __init__(self) -> None:
        self._right: OrderedDict[bytes, Folder] = OrderedDict()

    def astray(self, path: bytes, found: Folder) -> bool:
        """Whether the path, which led to `found` just now, leads there through the folder of the releases."""
        if self._right.get(path) == found:
            return False
        releases = folder_at(HIDDEN.encode())
        try:
            os.close(walk(path.split(b"/"), (releases,) if releases else ()))
        except KeptOut:
            return True
        except OSError:
            pass  # it changes under our hands, or is only to be looked at; then it does not lead there either
        self._right[path] = found
        if len(self._right) > _REMEMBERED:
            self._right.popitem(last=False)
        return False
