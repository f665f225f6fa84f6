"""The two files that say how names are looked up here: resolv.conf(5) and hosts(5). Pure: their bytes in."""

from __future__ import annotations

import ipaddress
import re

_MOST = 3  # name servers that count: MAXNS of resolv.h


def servers(text: bytes) -> list[str]:
    """Addresses of the name servers; without any it is the machine itself, as resolv.conf(5) has it."""
    found = []
    for fields in _lines(text, b"[#;]"):
        if fields[0] == "nameserver" and len(fields) > 1 and _address(fields[1]):
            found.append(fields[1])
    return found[:_MOST] or ["127.0.0.1"]


def hosts(text: bytes) -> dict[str, list[str]]:
    """The IPv4 addresses of each name, names in lower case."""
    found: dict[str, list[str]] = {}
    for fields in _lines(text, b"#"):
        if _address(fields[0]) and ":" not in fields[0]:
            for name in fields[1:]:
                found.setdefault(name.lower().rstrip("."), []).append(fields[0])
    return found


def _lines(text: bytes, comment: bytes) -> list[list[str]]:
    lines = []
    for line in text.splitlines():
        if fields := re.split(comment, line, maxsplit=1)[0].decode("ascii", "replace").split():
            lines.append(fields)
    return lines


def _address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
