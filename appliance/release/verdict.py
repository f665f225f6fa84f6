"""What a scanner found, from what it answered. Pure: exit code or answer in, a verdict out.

Invariant: only the one answer that means "clean" becomes CLEAN; whatever is not understood is no verdict.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

MOST_TEXT = 300  # bytes of a scanner's words that are kept: they may come from the upload itself
_FOUND = re.compile(rb"stream: (.+) FOUND", re.DOTALL)


class Kind(Enum):
    """`UNSCANNED`: there is no scanner. `ERROR`: there is one, and nobody knows what it thinks."""

    CLEAN = "clean"
    INFECTED = "infected"
    ERROR = "error"
    UNSCANNED = "unscanned"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`text` is the scanner's, or says what kept it from a verdict: bytes of a stranger, to be escaped when shown."""

    kind: Kind
    text: bytes = b""

    @property
    def passes(self) -> bool:
        """Whether an upload may be released: it is clean, or the operator has no scanner."""
        return self.kind in (Kind.CLEAN, Kind.UNSCANNED)


UNSCANNED = Verdict(Kind.UNSCANNED)


def error(text: str | bytes) -> Verdict:
    """No verdict, and why."""
    raw = text if isinstance(text, bytes) else text.encode("utf-8", "replace")
    return Verdict(Kind.ERROR, raw.strip()[:MOST_TEXT])


def of_exit(status: int, output: bytes, *, complete: bool) -> Verdict:
    """From how a program ended: an exit code, or the negative number of a signal. `complete`: it took every byte.

    The codes are those of clamscan(1) and its like: 0 clean, 1 found something, anything else a failure.
    """
    words = output.strip()[:MOST_TEXT]
    if status == 1:
        return Verdict(Kind.INFECTED, words)
    if status < 0:
        return error(b"the scanner was ended by signal %d %b" % (-status, words))
    if status:
        return error(b"the scanner ended with %d %b" % (status, words))
    return Verdict(Kind.CLEAN, words) if complete else error("the scanner ended before it had read everything")


def of_clamd(answer: bytes, *, complete: bool) -> Verdict:
    """From clamd's answer to INSTREAM (clamd(8)), with or without its final NUL. `complete`: every byte was sent."""
    words = answer.rstrip(b"\0\n")
    if found := _FOUND.fullmatch(words):
        return Verdict(Kind.INFECTED, found[1][:MOST_TEXT])
    if words == b"stream: OK" and complete:
        return Verdict(Kind.CLEAN)
    return error(words or b"clamd closed the connection without an answer")
