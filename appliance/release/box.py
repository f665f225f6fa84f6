"""The drop box as an operator sees it: what lies in it, one upload to be read, and taking it away.

Invariant: the folder belongs to an account that hears from the network, so every name may be another file a moment
later. An upload is opened once; removing takes only the file that was seen, and never leaves the folder.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from appliance.custody import marks
from appliance.observe.text import printable
from appliance.release import folders, names
from appliance.release.folders import ReleaseError

MOST = 100_000  # uploads that one call looks at


@dataclass(frozen=True, slots=True)
class Upload:
    """A finished upload. `client`: who sent it, as far as known; `stored`: seconds since the epoch.

    `stamp` is another one as soon as anything happens to the file.
    """

    name: bytes
    client: str
    size: int
    stored: float
    inode: int
    stamp: str


@dataclass(slots=True)
class Opened:
    """An upload and the one descriptor by which it is read; a context."""

    upload: Upload
    fd: int

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)

    def digest(self) -> str:
        """SHA-256 of what it holds now, in hex. Raises ReleaseError and OSError."""
        return digest(self.fd, self.upload.size)


def digest(fd: int, size: int) -> str:
    """SHA-256 of an open file of `size` bytes, in hex. Raises ReleaseError and OSError."""
    state = hashlib.sha256()
    for block in folders.blocks(fd, size):
        state.update(block)
    return state.hexdigest()


class Box:
    """The folder at `path` inside the open root; it belongs to one of `owners`. A context."""

    def __init__(self, root: int, path: str, owners: Collection[int]) -> None:
        """Raises ReleaseError."""
        parts = os.fsencode(path).split(b"/")
        self._folder = folders.below(root, parts, owners, make=False, private=True)

    def __enter__(self) -> Box:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._folder)

    def uploads(self) -> Iterator[Upload]:
        """Up to MOST finished uploads, in no order. Raises ReleaseError when the folder cannot be read."""
        count = 0
        try:
            with os.scandir(self._folder) as entries:
                for entry in entries:
                    found = self._seen(os.fsencode(entry.name))
                    if found is None:
                        continue
                    yield found
                    count += 1
                    if count == MOST:
                        return
        except OSError as error:
            raise folders.because("cannot list the drop box", error) from None

    def _seen(self, name: bytes) -> Upload | None:
        """What `open` would find; None for what is gone, or is no upload."""
        if not names.is_upload(name):
            return None
        try:
            with self.open(name) as opened:
                return opened.upload
        except ReleaseError:
            return None

    def open(self, name: bytes) -> Opened:
        """Open an upload. Raises ReleaseError when there is none of that name, or something else has it."""
        if not names.is_upload(name):
            raise ReleaseError(f"{printable(name)} is not the name of an upload")
        try:
            fd, found = folders.regular(name, self._folder)
        except FileNotFoundError:
            raise ReleaseError(f"there is no upload {printable(name)} (appliance incoming list)") from None
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise ReleaseError(f"{printable(name)} is a link, and no upload") from None
            raise folders.because(f"cannot open {printable(name)}", error) from None
        stamp = f"{found.st_ino}.{found.st_size}.{found.st_mtime_ns}.{found.st_ctime_ns}"
        return Opened(Upload(name, marks.read(fd), found.st_size, found.st_mtime, found.st_ino, stamp), fd)

    def has(self, upload: Upload) -> bool:
        """Whether its name still has the file that was seen. Raises ReleaseError."""
        try:
            found = os.stat(upload.name, dir_fd=self._folder, follow_symlinks=False)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise folders.because(f"cannot look at {printable(upload.name)}", error) from None
        return stat.S_ISREG(found.st_mode) and found.st_ino == upload.inode

    @contextlib.contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Nobody else at this command releases or removes meanwhile: of two that do so at once, one is told the truth.

        Where the file system has no locks (NFS) they have to agree by themselves.
        """
        with contextlib.suppress(OSError):
            fcntl.flock(self._folder, fcntl.LOCK_EX)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                fcntl.flock(self._folder, fcntl.LOCK_UN)

    def remove(self, upload: Upload) -> bool:
        """Remove an upload, if its name still has the file that was seen. False when not. Raises ReleaseError."""
        with self.undisturbed():
            return self.take(upload)

    def take(self, upload: Upload) -> bool:
        """As `remove`, for who is `undisturbed` already."""
        if not self.has(upload):
            return False
        try:
            os.unlink(upload.name, dir_fd=self._folder)  # the custodian's own folder: at worst another file of its own
        except FileNotFoundError:
            return False
        except OSError as error:
            raise folders.because(f"cannot remove {printable(upload.name)}", error) from None
        return True
