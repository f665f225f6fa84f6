"""The kernel's IPv4 neighbour table, through a descriptor that is opened before a process is locked in."""

from __future__ import annotations

import os
from collections.abc import Callable

_TABLE, _MOST = "/proc/net/arp", 4 << 20


def reader() -> Callable[[], bytes]:
    """Opens it now, for as long as the process lives; what is returned reads it, and nothing where there is none."""
    try:
        table = os.open(_TABLE, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return bytes

    def read() -> bytes:
        text = b""
        try:
            os.lseek(table, 0, os.SEEK_SET)
            while (piece := os.read(table, 1 << 16)) and len(text) < _MOST:
                text += piece
        except OSError:
            pass  # what was read counts; the rest is unknown
        return text

    return read
