"""Which names a box takes. Pure: the bytes of a name in, a reason or nothing out."""

from __future__ import annotations

import fnmatch
import re
import unicodedata
from collections.abc import Iterable

from appliance.custody import versions
from appliance.custody.wire import Reason

LONGEST = 255  # bytes, NAME_MAX
PARTIAL = ".up-"  # what the custodian calls an upload under way; no client can name it, a leading dot is refused
# Marks that turn the direction of text, or are not to be seen: a name must read as what it is
_DECEPTIVE = frozenset("\u061c\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff")
_REFUSED_CATEGORIES = ("Cc", "Zl", "Zp")


class NameRules:
    """The rules with the operator's `deny_names` patterns, which are matched without regard to case.

    `versioned`: names leave room for what a version of them is called.
    """

    def __init__(self, deny: Iterable[str], *, versioned: bool = False) -> None:
        self._longest = LONGEST - versions.LENGTH * versioned
        patterns = [fnmatch.translate(pattern.casefold()) for pattern in deny]
        self._denied = re.compile("|".join(patterns)).match if patterns else None

    def judge(self, name: bytes) -> Reason | None:
        """Why a name is refused, or None for a good one."""
        if not 1 <= len(name) <= self._longest:
            return Reason.NAME_LENGTH
        try:
            text = name.decode("utf-8")
        except UnicodeDecodeError:
            return Reason.NAME_TEXT
        if text[0] in ".-":
            return Reason.NAME_START
        if any(_bad(character) for character in text):
            return Reason.NAME_CHARACTER
        if versions.base(name) or (self._denied is not None and self._denied(text.casefold())):
            return Reason.NAME_DENIED  # what versions are called is ours to give
        return None

    def judge_known(self, name: bytes) -> Reason | None:
        """Why nothing that is read back can have this name: as `judge`, but versions have theirs."""
        return self.judge(versions.base(name) or name)


def _bad(character: str) -> bool:
    return (
        character == "/"
        or character in _DECEPTIVE
        or (not " " <= character <= "~" and unicodedata.category(character) in _REFUSED_CATEGORIES)
    )
