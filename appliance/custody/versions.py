"""What an upload is called once another has taken its place: NAME.~20261121T065706.123Z~. Pure.

The time is when its content was stored, in UTC and to the millisecond. Invariant: versions of one name sort as they
followed each other, also where the clock went back; and `rules.NameRules` refuses such a name from a client.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

LENGTH = len(".~20261121T065706.123Z~")
_FORM = re.compile(rb"(.+)\.~([0-9]{8}T[0-9]{6}\.[0-9]{3})Z~", re.DOTALL)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST_MS = 253_402_300_799_999  # the last millisecond of the year 9999


def base(name: bytes) -> bytes:
    """The name that a version is of; b"" for a name that is none of a version."""
    found = _FORM.fullmatch(name) if name.endswith(b"Z~") else None  # asked of every name of a large box
    return found[1] if found else b""


def name(base: bytes, stored_ns: int, latest: bytes) -> bytes:
    """The name of a version whose content was stored at `stored_ns` (nanoseconds since the epoch).

    `latest` is the newest version there is, or b"". A time that is not later than its counts on from it.
    """
    moment = _EPOCH + timedelta(milliseconds=min(max(stored_ns // 1_000_000, 0), _LATEST_MS))
    stamp = moment.isoformat(timespec="milliseconds")[:23].replace("-", "").replace(":", "")
    found = _FORM.fullmatch(latest)
    if found and stamp.encode() <= found[2]:
        stamp = _after(found[2].decode())
    return b"%b.~%bZ~" % (base, stamp.encode())


def _after(stamp: str) -> str:
    """The next stamp in order; it need not be a time of any calendar, only sort behind."""
    digits = f"{int(stamp.replace('T', '').replace('.', '')) + 1:017d}"
    return f"{digits[:8]}T{digits[8:14]}.{digits[14:]}"
