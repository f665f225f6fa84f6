"""The trees that are served: `.releases` in each root, with a folder for each release and each overlay.

Invariant: a folder that has its final name is complete and on disk. No tree is ever changed, only made and removed.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections import Counter
from collections.abc import Callable, Sequence

from appliance.boot import disk
from appliance.boot.records import File
from appliance.boot.store import Store, path
from appliance.published import sums

_FICLONE = 0x40049409  # ioctl_ficlone(2)
_OVERLAY = "overlay-"
# another file system, a link too many (ext4 has 65,000 for a file), a file system without links, Landlock before ABI 2
_NO_LINK = (errno.EXDEV, errno.EMLINK, errno.EPERM, errno.ENOTSUP, errno.EACCES)


def build_release(root: int, name: str, files: Sequence[File], store: Store) -> Counter[str]:
    """Make the tree of a release, its files in order of their paths; how each file got there. Raises OSError."""
    how: Counter[str] = Counter()
    refused = set[str]()  # what this pair of file systems cannot do is tried once

    def put(file: File, base: str, above: int) -> None:
        how[_give(store, file.sha256, base, above, refused)] += 1

    disk.replace(sums.file_of(name), root, sums.text((file.path, file.sha256) for file in files))
    _build(root, name, [(file.path, file) for file in files], put)
    return how


def build_overlay(root: int, number: int, files: Sequence[tuple[str, bytes | str]], store: Store) -> None:
    """Make the tree of an overlay from its files in order of their paths: content, or a digest. Raises OSError."""
    refused = set[str]()

    def put(content: bytes | str, base: str, above: int) -> None:
        if isinstance(content, str):
            _give(store, content, base, above, refused)
        else:
            disk.write_new(base, above, [content])

    _build(root, overlay(number), files, put)


def overlay(number: int) -> str:
    """The folder of an overlay."""
    return f"{_OVERLAY}{number}"


def overlays(root: int) -> list[int]:
    """The numbers of the overlays that are there. Raises OSError."""
    found = [name.removeprefix(_OVERLAY) for name in disk.names(root) if name.startswith(_OVERLAY)]
    return [int(number) for number in found if number.isascii() and number.isdigit()]


def _build(root: int, name: str, files: Sequence[tuple[str, object]], put: Callable[..., None]) -> None:
    half = f"{disk.NEW}{name}"
    if half in os.listdir(root):
        disk.remove_tree(half, root)
    os.mkdir(half, 0o755, dir_fd=root)
    walk = _Walk(os.open(half, disk.FOLDER, dir_fd=root), sync=len(files) <= disk.FEW)
    try:
        for place, what in files:
            *above, base = place.split("/")
            put(what, base, walk.go(above))
            walk.made(base)
        walk.go([])
        walk.leave()
    finally:
        walk.close()
    if len(files) > disk.FEW:
        disk.sync_all(root)
    os.rename(half, name, src_dir_fd=root, dst_dir_fd=root)
    os.fsync(root)


class _Walk:
    """Folders from the top of a new tree to where the next file goes: paths in order need each folder open once."""

    def __init__(self, top: int, *, sync: bool) -> None:
        self._open = [top]
        self._names: list[str] = []
        self._sync = sync

    def go(self, above: list[str]) -> int:
        """The open folder with this path. Raises OSError."""
        common = 0
        while common < min(len(above), len(self._names)) and above[common] == self._names[common]:
            common += 1
        while len(self._names) > common:
            self.leave()
            self._names.pop()
        for name in above[common:]:
            os.mkdir(name, 0o755, dir_fd=self._open[-1])
            self._open.append(os.open(name, disk.FOLDER, dir_fd=self._open[-1]))
            self._names.append(name)
        return self._open[-1]

    def made(self, base: str) -> None:
        """A file was made in the last folder."""
        if self._sync:
            disk.sync(base, self._open[-1])

    def leave(self) -> None:
        """Everything is in the last folder."""
        if self._sync:
            os.fsync(self._open[-1])
        os.close(self._open.pop())

    def close(self) -> None:
        """Let go of what is open."""
        while self._open:
            os.close(self._open.pop())


def _give(store: Store, digest: str, base: str, above: int, refused: set[str]) -> str:
    if "link" not in refused:
        try:
            os.link(path(digest), base, src_dir_fd=store.fd, dst_dir_fd=above, follow_symlinks=False)
            return "linked"
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            if error.errno != errno.EMLINK:
                refused.add("link")
    source = store.open(digest)
    target = -1
    try:
        target = os.open(base, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444, dir_fd=above)
        if "clone" not in refused:
            try:
                fcntl.ioctl(target, _FICLONE, source)
                return "cloned"
            except OSError:
                refused.add("clone")
        for block in disk.blocks(source):
            disk.write_all(target, block)
    finally:
        os.close(source)
        if target >= 0:
            os.close(target)
    return "copied"
