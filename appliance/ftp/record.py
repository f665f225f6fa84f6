"""The xferlog of a worker: lines into a descriptor that the supervisor opened, and opens anew at each reload.

Invariant: a line that cannot be written costs nothing but itself, and is counted.
"""

from __future__ import annotations

import os
from collections.abc import Callable


class Record:
    """Appends to the file of `descriptor`, which all workers share; -1 for none. One write for each line."""

    def __init__(self, descriptor: int, lost: Callable[[str], None]) -> None:
        """`lost` is called with the reason for each line that did not get into the file."""
        self._descriptor, self._lost = descriptor, lost
        self._torn = False  # the end of the last line is missing: the disk was full in the midst of it

    @property
    def on(self) -> bool:
        """Whether anything is written."""
        return self._descriptor >= 0

    def replace(self, descriptor: int) -> None:
        """Go on in another file: the administrator has moved this one away."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor, self._torn = descriptor, False

    def write(self, line: bytes) -> None:
        """Append one line with its end."""
        line = b"\n" + line if self._torn else line
        try:
            written = os.write(self._descriptor, line)
        except OSError as error:  # EFBIG too: Python ignores SIGXFSZ
            self._lost(os.strerror(error.errno or 0))
            return
        self._torn = written < len(line)
        if self._torn:
            self._lost("only a part of the line could be written")
