"""The digests of a release's files, where what serves can read them: ROOT/.releases/ID.sums, as `sha256sum` writes it.

Lines `DIGEST  PATH`, sorted by the bytes of the path, so that one is found by some twenty reads in a file of any length
and nothing is kept in memory. `cd ROOT/.releases/ID && sha256sum --check ../ID.sums` checks a tree by hand.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

_DIGEST = re.compile(rb"[0-9a-f]{64}")
SUFFIX = b".sums"
_HEAD = 64 + 2  # bytes before the path
_PIECE = 4096  # more than a line may have
_LONGEST = 1024  # bytes of a path


def file_of(release: str) -> str:
    """The name of the file beside the tree of a release."""
    return release + SUFFIX.decode()


def text(files: Iterable[tuple[str, str]]) -> bytes:
    """The file for these paths, relative to the tree, each with its digest in hex. Raises ValueError for a bad one."""
    lines = []
    for path, digest in files:
        name = path.encode("utf-8", "surrogateescape")
        if not _DIGEST.fullmatch(digest.encode()) or not name or b"\n" in name or len(name) > _LONGEST:
            raise ValueError(f"{path!r}: {digest!r} cannot be told")
        lines.append((name, digest.encode()))
    return b"".join(b"%b  %b\n" % (digest, name) for name, digest in sorted(lines))


def find(descriptor: int, path: bytes) -> str | None:
    """The digest of a path in hex; None where it is not told. Raises OSError."""
    low, high = 0, os.fstat(descriptor).st_size  # the line is one that begins in low ... high
    while low < high:
        middle = (low + high) // 2
        start, line = _line_from(descriptor, low, middle)
        name = line[_HEAD:]
        if name == path:
            digest = line[:64]
            return digest.decode() if _DIGEST.fullmatch(digest) and line[64:_HEAD] == b"  " else None
        if name < path and line:
            low = start + len(line) + 1
        else:
            high = min(middle, start) if line else middle
    return None


def _line_from(descriptor: int, low: int, middle: int) -> tuple[int, bytes]:
    """The first line that begins at `middle` or later, or the one before it; where it begins, and without its end.

    `low` is the beginning of a line.
    """
    start = max(low, middle - _PIECE)
    piece = os.pread(descriptor, 2 * _PIECE, start)
    before = piece.rfind(b"\n", 0, middle - start)
    begin = before + 1 if before >= 0 else 0
    end = piece.find(b"\n", begin)
    return start + begin, piece[begin:end] if end >= 0 else b""
