"""What scanners said of uploads that still lie in the drop box, kept so that `appliance incoming list` can show it.

Invariant: it is the operator's own file, outside the box, and decides nothing: a release asks again about its copy. A
verdict is of one inode with its size and times; whatever happens to the upload makes it unknown again.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from appliance.release.box import Upload
from appliance.release.verdict import Kind, Verdict

NAME = "incoming-verdicts.json"
_FORMAT = 1
_LARGEST = 64 << 20


@dataclass(frozen=True, slots=True)
class Judged:
    """The SHA-256 of what was looked at, the verdict, and when (seconds since the epoch)."""

    sha256: str
    verdict: Verdict
    at: float


class Verdicts:
    """The file in `folder`; whoever changes it holds its lock."""

    def __init__(self, folder: str) -> None:
        self._path = f"{folder}/{NAME}"

    def read(self) -> dict[str, Judged]:
        """By the stamp of the upload; nothing where there is no file, or none that can be read."""
        try:
            with open(self._path, "rb") as file:
                found = json.loads(file.read(_LARGEST))
            return {str(stamp): _judged(plain) for stamp, plain in found["verdicts"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}

    def add(self, new: dict[str, Judged], present: Collection[Upload]) -> None:
        """Keep these, and forget what is of no upload that is `present`. Raises OSError."""
        with self._locked():
            stamps = {upload.stamp for upload in present}
            kept = {stamp: one for stamp, one in {**self.read(), **new}.items() if stamp in stamps}
            half = f"{self._path}.new"
            fd = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with open(fd, "w") as file:
                json.dump({"format": _FORMAT, "verdicts": {stamp: _plain(one) for stamp, one in kept.items()}}, file)
            os.rename(half, self._path)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        fd = os.open(f"{self._path}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)


def _plain(one: Judged) -> dict[str, Any]:
    return {"sha256": one.sha256, "kind": one.verdict.kind.value, "text": one.verdict.text.hex(), "at": one.at}


def _judged(plain: dict[str, Any]) -> Judged:
    verdict = Verdict(Kind(plain["kind"]), bytes.fromhex(plain["text"]))
    return Judged(str(plain["sha256"]), verdict, float(plain["at"]))
