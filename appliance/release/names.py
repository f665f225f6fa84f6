r"""Names as people type them. Pure.

A name is shown with \xNN for every byte that is not printable ASCII, and for the backslash (observe.text.printable);
what is shown can be typed back.
"""

from __future__ import annotations

import re

from appliance.custody.rules import LONGEST, NameRules

_ESCAPE = re.compile(rb"\\x([0-9a-f]{2})")
_FIT = NameRules(())


def typed(text: str) -> bytes:
    r"""The bytes that a person means: \xNN is a byte, everything else stands for itself."""
    return _ESCAPE.sub(lambda found: bytes.fromhex(found[1].decode()), text.encode("utf-8", "surrogateescape"))


def is_upload(name: bytes) -> bool:
    """Whether an upload can have this name: one name, and no hidden one (those are under way, or an operator's)."""
    return 0 < len(name) <= LONGEST and not name.startswith(b".") and b"/" not in name and b"\0" not in name


def target(path: bytes) -> tuple[bytes, ...]:
    """The parts of a path inside the released tree; () for one that is not allowed.

    They are held to the rules for names of uploads: whoever took the custodian over could make up any name.
    """
    parts = tuple(path.split(b"/"))
    return () if any(_FIT.judge(part) for part in parts) else parts
