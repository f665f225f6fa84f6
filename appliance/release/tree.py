"""The released tree: takes a copy of an upload, and gives it its name once it was found good.

Invariant: a copy is a new file of ours that has no name until then (O_TMPFILE), so nobody else ever had it open and
nothing is left of one that was interrupted. What has a name here is complete, on disk, hashed, and passed the scanner.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Sequence

from appliance.observe.text import printable
from appliance.release import folders
from appliance.release.folders import ReleaseError

MODE = 0o644
_KEEP_FREE = 64 << 20  # bytes of the disk that a copy never takes


class Place:
    """Where a released file goes: an open folder of ours, and a name in it. A context."""

    def __init__(self, root: int, path: str, parts: Sequence[bytes]) -> None:
        """`path` is the released tree inside the open root, `parts` lead on to the name. Raises ReleaseError."""
        *above, self.name = parts
        owners = {0, os.geteuid()}
        walk = [*os.fsencode(path).split(b"/"), *above]
        self._folder = folders.below(root, walk, owners, make=True, private=False)
        self.shown = printable(b"/".join([*walk, self.name]), 4096)

    def __enter__(self) -> Place:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._folder)

    def taken(self) -> bool:
        """Whether something has the name."""
        try:
            os.stat(self.name, dir_fd=self._folder, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def copy(self, source: int, size: int) -> int:
        """A descriptor of a new file without a name, with the first `size` bytes of another. Raises ReleaseError.

        The bytes are read and written: a reflink would share blocks with a file that a stranger's process may hold.
        """
        disk = os.fstatvfs(self._folder)
        if disk.f_blocks and size > disk.f_bavail * disk.f_frsize - _KEEP_FREE:  # it may also be a hole of any size
            raise ReleaseError("there is too little room on the disk for the copy")
        fd = -1
        try:
            fd = os.open(b".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600, dir_fd=self._folder)
            for block in folders.blocks(source, size):
                _write(fd, block)
            os.fsync(fd)
        except (OSError, ReleaseError) as error:
            if fd >= 0:
                os.close(fd)
            if isinstance(error, ReleaseError):
                raise
            raise _unfit(self.shown, error) from None
        return fd

    def give(self, fd: int, *, replace: bool) -> None:
        """Give the copy its name, in one step and durably. Raises ReleaseError, which says if it has it in spite."""
        try:
            os.fchmod(fd, MODE)
            os.fsync(fd)
            if replace:
                self._replace(fd)
            else:
                self._link(fd, self.name)
        except FileExistsError:
            raise ReleaseError(f"{self.shown} exists (--to another name, or --replace)") from None
        except OSError as error:
            raise folders.because(f"cannot put {self.shown} there", error) from None
        try:
            os.fsync(self._folder)
        except OSError as error:
            what = f"{self.shown} is there, but might not be after a power cut, so the upload is kept"
            raise folders.because(what, error) from None

    def _link(self, fd: int, name: bytes) -> None:
        """open(2), O_TMPFILE: the magic link of the descriptor is the one way to name such a file."""
        os.link(f"/proc/self/fd/{fd}", name, dst_dir_fd=self._folder, follow_symlinks=True)

    def _replace(self, fd: int) -> None:
        aside = b".release-" + secrets.token_hex(12).encode()
        self._link(fd, aside)
        try:
            os.rename(aside, self.name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        except OSError:
            os.unlink(aside, dir_fd=self._folder)
            raise


def _write(fd: int, block: bytes) -> None:
    rest = memoryview(block)
    while rest:
        rest = rest[os.write(fd, rest) :]


def _unfit(shown: str, error: OSError) -> ReleaseError:
    if error.errno in (errno.EOPNOTSUPP, errno.EISDIR):
        remedy = "put ftp.root on ext4, xfs, btrfs or tmpfs"
        return ReleaseError(f"the file system of {shown} has no files without a name ({remedy})")
    return folders.because(f"cannot copy to {shown}", error)
