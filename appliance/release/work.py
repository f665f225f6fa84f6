"""Release one upload: copy, hash, scan, and only then a name.

Invariant: what is hashed and scanned is the copy, which nobody can change any more, and never the upload itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from appliance.observe.text import printable
from appliance.release.box import Box, Opened, Upload, digest
from appliance.release.folders import ReleaseError
from appliance.release.tree import Place
from appliance.release.verdict import Verdict

Scanner: TypeAlias = Callable[[int, int], Verdict]  # an open file and its size


@dataclass(frozen=True, slots=True)
class Outcome:
    """`removed`: the upload is gone from the box; not so when it was held, or cannot be removed."""

    upload: Upload
    sha256: str
    verdict: Verdict
    removed: bool

    @property
    def released(self) -> bool:
        """Whether the copy got its name."""
        return self.verdict.passes


def release(box: Box, opened: Opened, place: Place, scan: Scanner, *, replace: bool) -> Outcome:
    """Release an upload, and remove the original when the copy has its name. Raises ReleaseError and OSError.

    An upload that the scanner does not find clean is held: it stays in the box, and nothing of the copy is left. One
    that was taken out of the box until then, by a reject or a purge, is not released.
    """
    if not replace and place.taken():
        raise ReleaseError(f"{place.shown} exists (--to another name, or --replace)")
    upload = opened.upload
    copy = place.copy(opened.fd, upload.size)
    try:
        sha256 = digest(copy, upload.size)
        verdict = scan(copy, upload.size)
        if not verdict.passes:
            return Outcome(upload, sha256, verdict, removed=False)
        with box.undisturbed():
            if not box.has(upload):  # a scanner takes its time, and rejecting must be the last word
                what = f"{printable(upload.name)} was taken out of the drop box meanwhile; it is not released"
                raise ReleaseError(what)
            place.give(copy, replace=replace)
            removed = _removed(box, upload)
    finally:
        os.close(copy)
    return Outcome(upload, sha256, verdict, removed=removed)


def _removed(box: Box, upload: Upload) -> bool:
    try:
        return box.take(upload)
    except ReleaseError:
        return False  # it is released all the same, and has to be told and logged as that
