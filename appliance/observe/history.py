"""The events on disk: numbered segments of JSON lines in the working directory, bounded in bytes, the oldest removed.

Each process appends to a segment of its own, so an older one that still finishes is never in the way. Invariant: what
the disk refuses costs those lines and nothing else; a line that was torn is ended before the next one begins.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

SEGMENTS = 8  # a full history has so many
_NAME = re.compile(r"([0-9]{10})\.jsonl")
_MOST = 500  # segments, however small: a process that starts over and over leaves one each time
SHOWN_MAX = 200  # segments that are handed out at once


class History:
    """Appends lines. `limit`: bytes of all segments together; 0 keeps nothing."""

    def __init__(self, limit: int) -> None:
        self._limit, self._full = limit, max(1, limit // SEGMENTS)
        self._descriptor = -1
        self._size = 0
        self._torn = False

    def append(self, lines: bytes) -> None:
        """Write whole lines. Raises OSError; then they are lost, or a part of them."""
        while lines and self._limit:
            if self._descriptor < 0 or self._size + lines.index(b"\n") >= self._full:
                self._next()
            end = lines.rfind(b"\n", 0, max(0, self._full - self._size)) + 1
            end = end or lines.index(b"\n") + 1  # one that is longer than a segment
            self._write(lines[:end])
            lines = lines[end:]

    def _write(self, lines: bytes) -> None:
        lines = b"\n" + lines if self._torn else lines
        self._torn = True  # until all of it is written
        written = os.write(self._descriptor, lines)
        self._size += written
        if written < len(lines):
            written += os.write(self._descriptor, lines[written:])  # now the disk says why
        self._torn = written < len(lines)

    def close(self) -> None:
        """Let the segment go; the next line begins another."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor, self._size, self._torn = -1, 0, False

    def _next(self) -> None:
        self.close()
        number = max((number for number, _size in segments()), default=0) + 1
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        self._descriptor = os.open(_name(number), flags, 0o600)
        self._prune()

    def _prune(self) -> None:
        found = sorted(segments())
        room = self._limit - self._full  # the one that was just begun may become full
        for place, (number, size) in enumerate(reversed(found)):
            room -= size
            if room < 0 or place >= _MOST:
                os.unlink(_name(number))


def segments() -> Iterator[tuple[int, int]]:
    """Number and size of every segment in the working directory, in no order. Raises OSError."""
    with os.scandir(".") as entries:
        for entry in entries:
            fits = _NAME.fullmatch(entry.name)
            if fits and entry.is_file(follow_symlinks=False):
                yield int(fits[1]), entry.stat(follow_symlinks=False).st_size


def open_all() -> list[int]:
    """Descriptors to read every segment from, the oldest first; the latest SHOWN_MAX of them. Raises OSError."""
    opened: list[int] = []
    try:
        for number, size in sorted(segments())[-SHOWN_MAX:]:
            if size:
                opened.append(os.open(_name(number), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW))
    except OSError:
        for descriptor in opened:
            os.close(descriptor)
        raise
    return opened


def last_number() -> int:
    """Number of the last event that is kept; 0 when there is none, or it cannot be read. Raises OSError."""
    for number, size in sorted(segments(), reverse=True):
        if not size:
            continue
        descriptor = os.open(_name(number), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            tail = os.pread(descriptor, _TAIL, max(0, size - _TAIL))
        finally:
            os.close(descriptor)
        numbers = re.findall(rb'^\{"n": ?([0-9]{1,18}),', tail, re.MULTILINE)
        if numbers:
            return int(numbers[-1])
    return 0


_TAIL = 64 << 10


def _name(number: int) -> str:
    return f"{number:010}.jsonl"
