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
# A name must read as what it is, so no marks that turn the direction of text, and none that are not to be seen: what
# Unicode calls Default_Ignorable_Code_Point (UAX 44), but for what honest names need: joiners, and variation selectors
_UNSEEN = (
    (0xAD, 0xAD), (0x34F, 0x34F), (0x61C, 0x61C), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180E, 0x180E),
    (0x200B, 0x200B), (0x200E, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0x3164, 0x3164), (0xFEFF, 0xFEFF),
    (0xFFA0, 0xFFA0), (0xFFF0, 0xFFF8), (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0xE0000, 0xE00FF), (0xE01F0, 0xE0FFF),
)  # fmt: skip
_DECEPTIVE = frozenset(chr(code) for first, last in _UNSEEN for code in range(first, last + 1))
_REFUSED_CATEGORIES = ("Cc", "Zl", "Zp")


class NameRules:
    """The rules with the operator's `deny_names` patterns, which are matched without regard to case, to the normal form
    of accents, and to dots and spaces at the end: Windows drops those from the name of what it has downloaded.

    `versioned`: names leave room for what a version of them is called.
    """

    def __init__(self, deny: Iterable[str], *, versioned: bool = False) -> None:
        self._longest = LONGEST - versions.LENGTH * versioned
        patterns = [fnmatch.translate(_folded(pattern)) for pattern in deny]
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
        if text != text.strip():
            return Reason.NAME_SPACE
        if versions.base(name) or self._is_denied(_folded(text)):
            return Reason.NAME_DENIED  # what versions are called is ours to give
        return None

    def _is_denied(self, folded: str) -> bool:
        denied = self._denied
        return denied is not None and bool(denied(folded) or denied(folded.rstrip(". ")))

    def judge_known(self, name: bytes) -> Reason | None:
        """Why nothing that is read back can have this name: as `judge`, but versions have theirs."""
        return self.judge(versions.base(name) or name)


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()


def _bad(character: str) -> bool:
    return (
        character == "/"
        or character in _DECEPTIVE
        or (not " " <= character <= "~" and unicodedata.category(character) in _REFUSED_CATEGORIES)
    )
