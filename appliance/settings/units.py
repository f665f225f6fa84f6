"""Sizes and durations: text with a unit to a number and back. Pure.

Invariant: parsing what was formatted gives the same number, for every size and duration that a setting can have.
"""

from __future__ import annotations

import re
from decimal import Decimal

from appliance.settings.forms import Unfit

SIZES = {
    "TiB": 1 << 40,
    "TB": 10**12,
    "GiB": 1 << 30,
    "GB": 10**9,
    "MiB": 1 << 20,
    "MB": 10**6,
    "KiB": 1 << 10,
    "kB": 10**3,
    "B": 1,
}
DURATIONS = {"d": Decimal(86400), "h": Decimal(3600), "m": Decimal(60), "s": Decimal(1), "ms": Decimal("0.001")}
SIZE_LIKE = "write a size like 512KiB, 64MiB or 1GB"
DURATION_LIKE = "write a duration like 250ms, 30s, 5m, 2h or 30d"

# "MB", "mb" and "mib" are sizes; "Mb" means bits to many, so a mixed spelling other than the usual one is refused.
_SPELLINGS = {way: factor for unit, factor in SIZES.items() for way in (unit, unit.lower(), unit.upper())}
_NUMBER = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,9})?) ?([A-Za-z]*)", re.ASCII)
_SECONDS = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,400})?) ?([A-Za-z]*)", re.ASCII)


def parse_size(value: object) -> int:
    """Bytes of "64MiB", "1.5 GB" or a plain whole number. Raises Unfit."""
    if type(value) is int and value >= 0:
        return value
    match = _NUMBER.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise Unfit(f"{shown(value)} is not a size", SIZE_LIKE)
    number, unit = match.groups()
    if not unit:
        raise Unfit(f"{shown(value)} has no unit", f"write {number}B, or {SIZE_LIKE.removeprefix('write ')}")
    if unit not in _SPELLINGS:
        raise Unfit(f"{shown(value)} is not a size", _size_remedy(number, unit))
    total = Decimal(number) * _SPELLINGS[unit]
    if total != int(total):
        raise Unfit(f"{shown(value)} is not a whole number of bytes", SIZE_LIKE)
    return int(total)


def _size_remedy(number: str, unit: str) -> str:
    near = [name for name in SIZES if name.lower() in (unit.lower(), f"{unit.lower()}b", f"{unit.lower()}ib")]
    return f"write {' or '.join(f'{number}{name}' for name in near)}" if near else SIZE_LIKE


def format_size(value: int) -> str:
    """The shortest exact way to write so many bytes: 64MiB, 1GB, 1536B."""
    unit = next(unit for unit, factor in SIZES.items() if value % factor == 0 and (value or unit == "B"))
    return f"{value // SIZES[unit]}{unit}"


def parse_duration(value: object) -> float:
    """Seconds of "250ms", "30s" or "1.5h"; the only plain number is 0. Raises Unfit."""
    if type(value) in (int, float):
        if value == 0:
            return 0.0
        raise Unfit(f"{shown(value)} has no unit", f"write {shown(value)}s, or another of ms, s, m, h, d")
    match = _SECONDS.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise Unfit(f"{shown(value)} is not a duration", DURATION_LIKE)
    number, unit = match.groups()
    if not unit:
        raise Unfit(f"{shown(value)} has no unit", f"write {number}s, or another of ms, s, m, h, d")
    if unit not in DURATIONS:
        raise Unfit(f"{shown(value)} is not a duration", DURATION_LIKE)
    return float(Decimal(number) * DURATIONS[unit])


def format_duration(value: float) -> str:
    """The shortest exact way to write so many seconds: 250ms, 30s, 5m."""
    exact = Decimal(repr(float(value)))  # what a person would write, not the binary expansion
    for unit, factor in DURATIONS.items():
        number = exact / factor
        if exact and number == int(number):
            return f"{int(number)}{unit}"
    return f"{exact:f}s" if exact else "0s"


def shown(value: object) -> str:
    """A scalar as it stands in a configuration, cut to a length that a message can hold."""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    if not text or not text.isprintable():
        text = ascii(text)
    return f"{text[:60]}..." if len(text) > 63 else text
