"""The store: immutable content under the name of its SHA-256, each once.

Invariant: what has a name in `store/ab/` is complete, on disk, and hashes to that name as it was copied here: the bytes
were read once, from a descriptor, and both written and hashed. Only the publisher writes it.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
from collections.abc import Iterable

from appliance.boot import disk
from appliance.boot.records import BootError, is_digest


class Store:
    """The folder `store` in an open state_dir/boot. A context; `settle` gives what was added its names."""

    def __init__(self, boot: int) -> None:
        """Raises OSError."""
        disk.make_folder("store", boot)
        self.fd = os.open("store", disk.FOLDER, dir_fd=boot)
        self._pending: dict[str, tuple[str, int]] = {}  # digest -> temporary name, bytes

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)

    def size(self, digest: str) -> int | None:
        """Bytes of what has this digest, or None if nothing has. Raises OSError."""
        if digest in self._pending:
            return self._pending[digest][1]
        try:
            found = os.stat(path(digest), dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            return None
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    def add(self, source: int, most: int, expected: str | None = None) -> tuple[str, int]:
        """Take in the content of an open file; its digest and size. Raises OSError, BootError for another digest."""
        first = os.pread(source, disk.BLOCK, 0)
        if len(first) < disk.BLOCK and (known := self._known(source, first, most, expected)) is not None:
            return known
        half = f"{disk.NEW}{secrets.token_hex(8)}"
        state = hashlib.sha256()
        size = 0
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(half, flags, 0o444, dir_fd=self.fd)
        try:
            for block in disk.blocks(source):
                size += len(block)
                if size > most:
                    raise BootError(f"it has more than {most} bytes")
                state.update(block)
                disk.write_all(fd, block)
            digest = state.hexdigest()
            if expected is not None and digest != expected:
                raise BootError(f"its SHA-256 is {digest}, not {expected}")
        except BaseException:
            os.unlink(half, dir_fd=self.fd)
            raise
        finally:
            os.close(fd)
        if self.size(digest) == size:
            os.unlink(half, dir_fd=self.fd)
        else:
            self._pending[digest] = half, size
        return digest, size

    def _known(self, source: int, content: bytes, most: int, expected: str | None) -> tuple[str, int] | None:
        """A small content that is here already, which costs no write; None for every other."""
        digest = hashlib.sha256(content).hexdigest()
        fits = len(content) <= most and expected in (None, digest) and not os.pread(source, 1, len(content))
        return (digest, len(content)) if fits and self.size(digest) == len(content) else None

    def settle(self) -> None:
        """Put what was added on disk and give it its names. Raises OSError."""
        pending, self._pending = self._pending, {}
        many = len(pending) > disk.FEW
        if many:
            disk.sync_all(self.fd)
        folders = set()
        for digest, (half, _size) in pending.items():
            if not many:
                disk.sync(half, self.fd)
            above = digest[:2]
            if above not in folders and disk.make_folder(above, self.fd):
                folders.add(".")
            folders.add(above)
            os.rename(half, path(digest), src_dir_fd=self.fd, dst_dir_fd=self.fd)
        if many:
            disk.sync_all(self.fd)
        else:
            for above in sorted(folders):
                with disk.folder(above, self.fd) as fd:
                    os.fsync(fd)

    def open(self, digest: str) -> int:
        """A descriptor of what has this digest, to be read. Raises OSError."""
        return os.open(path(digest), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.fd)

    def sweep(self) -> None:
        """Remove what an interrupted call left. Raises OSError."""
        for name in disk.names(self.fd):
            if name.startswith(disk.NEW):
                disk.discard(name, self.fd)

    def keep_only(self, wanted: Iterable[str]) -> tuple[int, int]:
        """Remove every other content; how many there were, and their bytes. Raises OSError."""
        kept = set(wanted)
        count = size = 0
        for above in disk.names(self.fd):
            if above.startswith("."):
                continue
            with disk.folder(above, self.fd) as fd:
                for name in disk.names(fd):
                    if name not in kept:
                        size += os.stat(name, dir_fd=fd, follow_symlinks=False).st_size
                        os.unlink(name, dir_fd=fd)
                        count += 1
        return count, size


def path(digest: str) -> str:
    """Where a content lies inside the store. Raises BootError for what is no digest."""
    if not is_digest(digest):
        raise BootError("not a SHA-256")
    return f"{digest[:2]}/{digest}"
