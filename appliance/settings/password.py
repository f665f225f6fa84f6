"""A password as it stands in a configuration: its scrypt hash (RFC 7914), with salt and costs. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

MEMORY_MAX = 64 << 20  # bytes that trying one password may take
_FORM = re.compile(r"scrypt:([1-9][0-9]?):([1-9][0-9]?):([1-9][0-9]?):([0-9a-f]{32}):([0-9a-f]{64})")


class Stored(NamedTuple):
    """Costs as RFC 7914 names them (N = 2 ** log_n), salt and hash."""

    log_n: int
    r: int
    p: int
    salt: bytes
    derived: bytes

    def __str__(self) -> str:
        return f"scrypt:{self.log_n}:{self.r}:{self.p}:{self.salt.hex()}:{self.derived.hex()}"


def parse(text: str) -> Stored | None:
    """What a text of the configuration holds; None for another form, and for costs that no request may have."""
    found = _FORM.fullmatch(text)
    if found is None:
        return None
    log_n, r, p = (int(found.group(i)) for i in (1, 2, 3))
    if not (10 <= log_n <= 17 and r <= 16 and p <= 4 and 128 * r << log_n <= MEMORY_MAX // 2):
        return None
    return Stored(log_n, r, p, bytes.fromhex(found.group(4)), bytes.fromhex(found.group(5)))
