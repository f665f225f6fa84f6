"""Who uploaded a file, written on the file itself (user.appliance.client), so that no index can disagree with the box.

Invariant: the mark is on the hidden file before it gets its name, and goes where the file goes. What cannot be read or
is not of our form is nobody: such a file counts for no client, and no client may read it as its own.
"""

from __future__ import annotations

import errno
import os

from appliance.custody.wire import MAX_CLIENT

NAME = "user.appliance.client"
# Always this many bytes: the system call filter lets no other size pass, which keeps access lists (4 + 8 n bytes) out
SIZE = MAX_CLIENT


def write(fd: int, client: str) -> bool:
    """Write it on an open file; False on a file system without user attributes. Raises OSError for anything else."""
    try:
        os.setxattr(fd, NAME, client.encode("ascii").ljust(SIZE, b"\0"))
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        return False
    return True


def read(file: int | bytes) -> str:
    """The client of an open file or a name (links are not followed); "" when there is none to be known."""
    try:
        raw = os.getxattr(file, NAME) if isinstance(file, int) else os.getxattr(file, NAME, follow_symlinks=False)
    except OSError:
        return ""
    client = raw.rstrip(b"\0")
    if len(raw) != SIZE or not client.isascii():
        return ""
    text = client.decode("ascii")
    return text if text.isprintable() else ""
