"""Where a fetched file lands: under its final name only when it is whole, and only then."""

from __future__ import annotations

import os
import secrets
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO


@contextmanager
def landing(path: str) -> Iterator[BinaryIO]:
    """A stream for the bytes of `path` (``-``: standard output). An exception in the block leaves nothing behind.

    A link is followed, and a device or FIFO is written to: only a regular file is replaced. Raises OSError.
    """
    if path == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    final = os.path.realpath(path)
    if os.path.exists(final) and not stat.S_ISREG(os.stat(final).st_mode):
        with open(final, "wb") as stream:
            yield stream
        return
    folder, name = os.path.split(final)
    half = os.path.join(folder, f".{name[:200]}.{secrets.token_hex(4)}.part")
    with open(half, "xb") as stream:
        try:
            yield stream
            stream.close()  # a full disk tells it here at the latest
            os.replace(half, final)
        except BaseException:
            os.unlink(half)
            raise
