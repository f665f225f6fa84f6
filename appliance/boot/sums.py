"""Find the digest of a file in a list of digests, as sha256sum, BSD's sha256 and mirrors write them. Pure."""

from __future__ import annotations

import posixpath
import re

_GNU = re.compile(r"\\?([0-9a-fA-F]{64}) [ *](.+)")
_BSD = re.compile(r"SHA256 \((.+)\) = ([0-9a-fA-F]{64})")


class SumsError(Exception):
    """The list does not say what the digest is; the text says why."""


def find(text: str, path: str) -> str:
    """The SHA-256 that a list gives for a file.

    `path` is where the file lies as seen from the list (`netboot/netboot.tar.gz`). A line with that path counts, else a
    line with its last part alone. Raises SumsError when there is none, or when two disagree.
    """
    exact, loose = set[str](), set[str]()
    wanted = posixpath.normpath(path)
    for line in text.splitlines():
        if found := _GNU.fullmatch(line.rstrip()):
            digest, name = found[1], found[2]
        elif found := _BSD.fullmatch(line.rstrip()):
            digest, name = found[2], found[1]
        else:
            continue
        name = posixpath.normpath(name)
        if name == wanted:
            exact.add(digest.lower())
        elif name == posixpath.basename(wanted):
            loose.add(digest.lower())
    digests = exact or loose
    if len(digests) != 1:
        what = "does not have" if not digests else "has more than one digest of"
        raise SumsError(f"the list of digests {what} {wanted[:200]!a}")
    return digests.pop()
