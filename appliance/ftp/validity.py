"""From when until when a certificate holds (RFC 5280 section 4.1.2.5). Pure: PEM bytes in, two times out.

The standard library decodes certificates of peers only; this reads as much DER as it takes to reach the two times.
"""

from __future__ import annotations

import base64
import calendar
import re
from typing import NamedTuple

_BLOCK = re.compile(rb"-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----(.+?)-----END", re.DOTALL)
_SEQUENCE, _VERSION, _UTC_TIME, _GENERALIZED_TIME = 0x30, 0xA0, 0x17, 0x18
_TIME = re.compile(rb"(\d{2}|\d{4})(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})Z")


class Validity(NamedTuple):
    """Seconds since 1970, UTC."""

    begins: float
    ends: float


def of(pem: bytes) -> Validity:
    """Of the first certificate in a PEM file. Raises ValueError when there is none, or it is damaged."""
    block = _BLOCK.search(pem)
    if block is None:
        raise ValueError("there is no certificate in it")
    outer = _contents(base64.b64decode(block[1]), _SEQUENCE)
    fields = _elements(_contents(outer, _SEQUENCE))
    if fields and fields[0][0] == _VERSION:
        del fields[0]
    try:
        times = _elements(_expect(fields[3], _SEQUENCE))  # after serial number, algorithm and issuer
        return Validity(_time(*times[0]), _time(*times[1]))
    except IndexError:
        raise ValueError("the certificate is damaged") from None


def _expect(element: tuple[int, bytes], tag: int) -> bytes:
    if element[0] != tag:
        raise ValueError("the certificate is damaged")
    return element[1]


def _contents(data: bytes, tag: int) -> bytes:
    """Of the element that `data` begins with."""
    kind, start, end = _element(data, 0)
    return _expect((kind, data[start:end]), tag)


def _elements(data: bytes) -> list[tuple[int, bytes]]:
    found, at = [], 0
    while at < len(data):
        tag, start, at = _element(data, at)
        found.append((tag, data[start:at]))
    return found


def _element(data: bytes, at: int) -> tuple[int, int, int]:
    """Tag, begin and end of the contents of one element (X.690 sections 8.1 and 10.1; tags of one byte)."""
    size, start = int.from_bytes(data[at + 1 : at + 2], "big"), at + 2
    if size & 0x80:
        count = size & 0x7F
        size, start = int.from_bytes(data[start : start + count], "big"), start + count
    if start + size > len(data) or start <= at + 1:
        raise ValueError("the certificate is damaged")
    return data[at], start, start + size


def _time(tag: int, text: bytes) -> float:
    parts = _TIME.fullmatch(text)
    if parts is None or (len(parts[1]), tag) not in ((2, _UTC_TIME), (4, _GENERALIZED_TIME)):
        raise ValueError("the certificate is damaged")
    year, *rest = (int(part) for part in parts.groups())
    if tag == _UTC_TIME:
        year += 1900 if year >= 50 else 2000
    return float(calendar.timegm((year, *rest)))
