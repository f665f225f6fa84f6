"""The content of small files, kept by path: asked for again, one costs a stat instead of open, fstat, read and close.

Guards: content is handed out only while the path leads to the very file that was opened and judged (device, inode,
size, mtime and ctime in ns, so neither bytes nor mode nor owner have changed), and never for one that had changed less
than SETTLE_NS before it was read. Only for a working directory that is the root of a chroot: the kernel must resolve a
path in stat exactly as in open. And only for file systems on a disk of ours: a network file system asks its server when
a file is opened, but may answer stat from what it remembers.
Memory: at most `capacity` bytes, least recently used out first.
"""

from __future__ import annotations

import os
from collections import OrderedDict

from appliance.tftp.cache import SETTLE_NS
from appliance.tftp.files import OpenFile, identity_of

SMALL = 16 * 1024
_OVERHEAD = 1024  # bytes of memory that an entry takes besides its content


class Shelf:
    """The small files of one worker."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._held: OrderedDict[bytes, OpenFile] = OrderedDict()
        self.used = 0

    def find(self, path: bytes) -> OpenFile | None:
        """The file at `path` if it is here and still the same; None: open it."""
        held = self._held.get(path)
        if held is None:
            return None
        try:
            same = identity_of(os.stat(path)) == held.identity
        except OSError:
            same = False  # the open will tell why
        if same:
            self._held.move_to_end(path)
            return held
        self._drop(path)
        return None

    def keep(self, path: bytes, file: OpenFile, now_ns: int) -> OpenFile:
        """Take the content of a file that was just opened, if it is small and settled; returns what is to be served.

        `now_ns` is the time of day, the same clock that the file system stamps files with.
        """
        cost = file.size + _OVERHEAD
        if file.size > SMALL or cost > self._capacity or now_ns - file.changed_ns < SETTLE_NS:
            return file
        if not on_a_disk(file.identity[0]):
            return file
        try:
            content = os.read(file.descriptor, file.size + 1)
        except OSError:
            return file  # whoever reads it next is told
        if len(content) != file.size:
            return file
        file.close()
        held = file._replace(descriptor=-1, content=content)
        while self.used + cost > self._capacity:
            self._drop(next(iter(self._held)))
        self._held[path] = held
        self.used += cost
        return held

    def _drop(self, path: bytes) -> None:
        self.used -= self._held.pop(path).size + _OVERHEAD


def on_a_disk(device: int) -> bool:
    """Whether a file system has a block device; NFS, SMB and FUSE have none (nor have tmpfs and overlayfs)."""
    return os.major(device) != 0
