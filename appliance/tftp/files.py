"""A name from a request becomes an open regular file, or a Refusal. Opened once; nothing is looked at before the open.

Guards: no name leaves the working directory (the jail's root). Inside a chroot the kernel sees to that, symbolic links
included. Without one the links are followed component by component and never through the kernel (`published.walk`).
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from appliance.published.walk import Folder, walk
from appliance.tftp.packet import ErrorCode

# The longest that DHCP option 67 carries; a longer name comes from no boot client, and pattern rules stay cheap.
NAME_MAX = 255
_CLEAN = re.compile(rb"[^./\\\0][^/\\\0]*(?:/[^./\\\0][^/\\\0]*)*")  # nearly every name is one already
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_MISSING = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENXIO, errno.ENODEV}
OURS = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN}


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not served: `code` and the constant `text` are for the peer, `cause` is for the operator."""

    code: ErrorCode
    text: str
    cause: str


class OpenFile(NamedTuple):
    """A regular file as it was when it was opened. `identity` changes with everything that can change its bytes.

    A small one may be all `content`, and then has no descriptor.
    """

    descriptor: int
    size: int
    identity: tuple[int, ...]
    changed_ns: int  # the later of mtime and ctime
    content: bytes | None = None

    def close(self) -> None:
        """Let the descriptor go."""
        if self.content is None:
            os.close(self.descriptor)


class Served(NamedTuple):
    """Which file was served: its path inside the root, the layer that it lies in, and the release that has it."""

    path: bytes
    layer: bytes
    release: bytes = b""


NOWHERE = Served(b"", b"")


def identity_of(facts: os.stat_result) -> tuple[int, ...]:
    """What tells one state of a file from any other: device, inode, size, mtime and ctime."""
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns


def _missing(cause: str) -> Refusal:
    return Refusal(ErrorCode.NOT_FOUND, "File not found", cause)


def forbidden(cause: str) -> Refusal:
    """What is not for this client."""
    return Refusal(ErrorCode.ACCESS, "Access violation", cause)


def clean(name: bytes) -> bytes | Refusal:
    r"""The path, relative to the root, that a name means: "\" is "/" (WinPE), extra slashes and "." vanish."""
    if len(name) > NAME_MAX:
        return Refusal(ErrorCode.ACCESS, "File name too long", "name too long")
    if _CLEAN.fullmatch(name):
        return name
    parts = [part for part in name.replace(b"\\", b"/").split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        return forbidden("name goes upwards")
    if not parts or b"\0" in name:
        return _missing("no name")
    return b"/".join(parts)


def open_file(name: bytes, *, world_readable_only: bool, chrooted: bool) -> OpenFile | Refusal:
    """Open what `name` means. Raises OSError only where the server itself is out of something (descriptors, memory)."""
    path = clean(name)
    if isinstance(path, Refusal):
        return path
    return open_path(path, world_readable_only=world_readable_only, chrooted=chrooted)


def open_path(
    path: bytes, *, world_readable_only: bool, chrooted: bool, keep_out: Collection[Folder] = ()
) -> OpenFile | Refusal:
    """As `open_file`, for a path that `clean` has made, or that stands in the settings.

    `keep_out`: folders that nothing is opened in, whichever links and spellings lead there.
    """
    try:
        descriptor = os.open(path, _READ) if chrooted and not keep_out else walk(path.split(b"/"), keep_out)
    except OSError as error:
        if error.errno in OURS:
            raise
        return _refusal(error)
    return _judge(descriptor, world_readable_only)


def open_folder(path: bytes, *, chrooted: bool) -> int:
    """A descriptor of the folder at a clean path, b"." for the root. Raises OSError, NotADirectoryError for a file."""
    descriptor = os.open(path, _READ) if chrooted else walk([] if path == b"." else path.split(b"/"))
    if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    return descriptor


def adopt(descriptor: int) -> OpenFile | Refusal:
    """The file behind a descriptor that was handed over; takes it over."""
    return _judge(descriptor, world_readable_only=False)


def is_chrooted() -> bool:
    """Whether the working directory is "/": then the kernel keeps every look-up inside it."""
    return os.path.samestat(os.stat("."), os.stat("/"))


def _refusal(error: OSError) -> Refusal:
    return _refused(error.errno or 0)


@cache
def _refused(number: int) -> Refusal:
    """One for each error number, however many names are remembered to be missing."""
    cause = os.strerror(number)
    if number in _MISSING:
        return _missing(cause)
    if number in _FORBIDDEN:
        return forbidden(cause)
    return Refusal(ErrorCode.UNDEFINED, "Read error", cause)


def _judge(descriptor: int, world_readable_only: bool) -> OpenFile | Refusal:
    refusal: Refusal | None = None
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            refusal = forbidden("not a regular file")
        elif world_readable_only and not facts.st_mode & stat.S_IROTH:
            refusal = forbidden("not readable by everyone")
    except OSError as error:
        refusal = _refusal(error)
    if refusal is not None:
        os.close(descriptor)
        return refusal
    return OpenFile(descriptor, facts.st_size, identity_of(facts), max(facts.st_mtime_ns, facts.st_ctime_ns))
