"""Rules that turn the name a client asks for into another.

A rule searches the clean name (no leading slash, "/" only); what it found is replaced, the rest stays, as the `r` rules
of tftpd-hpa do. The first hit ends it unless the rule says continue; one that says refuse is the answer. What a rule
makes is a name like any other: it is cleaned again, and one that is too long or goes upwards is refused.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from typing import NamedTuple

from appliance.settings import patterns
from appliance.settings.tftp import TftpRemap
from appliance.tftp.admission import Networks
from appliance.tftp.files import Refusal, clean, forbidden


class Hit(NamedTuple):
    """Rule `rule` (from 0) turned one name into another."""

    rule: int
    before: bytes
    after: bytes


class _Rule:
    def __init__(self, setting: TftpRemap) -> None:
        self._pattern = re.compile(setting.match.encode())
        self._parts = patterns.parts(setting.to)
        self._networks = Networks(setting.networks)
        self.stops, self.refuses = setting.then == "stop", setting.then == "refuse"
        self._not_for = {"all": None, "read": True, "write": False}[setting.requests]

    def apply(self, name: bytes, host: str, write: bool) -> bytes | None:
        """The new name; None when the rule is not for this request, this client or this name."""
        if write is self._not_for:
            return None
        if self._networks and host not in self._networks:
            return None
        found = self._pattern.search(name)
        if found is None:
            return None
        return name[: found.start()] + self._expand(found, host) + name[found.end() :]

    def _expand(self, found: re.Match[bytes], host: str) -> bytes:
        pieces = []
        for kind, value in self._parts:
            if kind == "group":
                pieces.append(found[int(value) if value.isdigit() else value] or b"")
            else:
                pieces.append((value if kind == "text" else _address(kind, host)).encode())
        return b"".join(pieces)


def _address(kind: str, host: str) -> str:
    r"""\i: 192.0.2.1. \x: C0000201, as PXELINUX and tftpd-hpa write it; IPv6 in 32 digits."""
    address = ipaddress.ip_address(host.partition("%")[0])
    return str(address) if kind == "address" else address.packed.hex().upper()


class Remap:
    """All rules of one configuration, compiled."""

    def __init__(self, settings: Sequence[TftpRemap]) -> None:
        """Raises ValueError or re.error for rules that the settings reader cannot have let through."""
        self._rules = [_Rule(setting) for setting in settings]

    def rename(self, name: bytes, host: str, *, write: bool = False) -> tuple[bytes | Refusal, list[Hit]]:
        """The name that a clean name of a client becomes, and the rules that did it."""
        hits: list[Hit] = []
        for number, rule in enumerate(self._rules):
            made = rule.apply(name, host, write)
            if made is None:
                continue
            hits.append(Hit(number, name, made))
            if rule.refuses:
                return forbidden(f"tftp.remap[{number}] refuses it"), hits
            cleaned = clean(made)
            if isinstance(cleaned, Refusal) or rule.stops:
                return cleaned, hits
            name = cleaned
        return name, hits
