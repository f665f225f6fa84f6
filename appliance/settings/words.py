"""What a key may hold, in words: for the remedies of problems and the comments of `config/appliance.yaml`. Pure."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any, Literal

from annotated_types import Ge, Le, MaxLen, MinLen

from appliance.settings import units
from appliance.settings.model import arms, bare, hints, marker
from appliance.settings.types import Form, Unit

_FORMS = {
    "endpoint": "ADDRESS:PORT, like 0.0.0.0:69 or [::]:69",
    "network": "a network like 192.0.2.0/24 or 2001:db8::/32, or an address",
    "port-range": "FIRST-LAST, like 61000-65535",
    "path": "an absolute path",
    "relative-path": "a path inside the root",
    "user": "the name of an account",
    "pattern": "a shell pattern of a name, like *.tmp",
    "public-address": "an IPv4 address like 192.0.2.7 or a host name like ftp.example.org",
    "ipv4": "an IPv4 address like 192.0.2.7",
    "interface": "the name of a network interface",
    "address-range": "FIRST-LAST, like 192.0.2.50-192.0.2.99",
    "loader-path": "a path inside the TFTP root of plain characters",
    "name": "the name of a file",
    "host-name": "a host name like ftp.example.org",
    "stored-password": "what `appliance board password` prints",
    "mac": "a MAC address like 52:54:00:12:34:56",
    "regex": "a regular expression",
    "replacement": r"a text, with \1, \g<name>, \i and \x",
}


def expectation(hint: Any, *, item: bool = False) -> str:
    """What may be written for a key, or for an item of a list, in one phrase."""
    members = arms(hint)
    return _one(hint, item=item) if len(members) == 1 else ", or ".join(_one(arm) for arm in members)


def kind_of(hint: Any) -> str:
    """What a value has to be, in a word or two that follow "is not" or "where ... belongs"."""
    if _is_list(hint):
        return "a list"
    if marker(hint, Unit):
        return f"a {marker(hint, Unit).kind}"
    members = [arm for arm in arms(hint) if arm is not type(None)]
    if dataclasses.is_dataclass(bare(members[0])):
        return "a section"
    if len(members) > 1 or typing.get_origin(bare(members[0])) is Literal:
        return "one of the choices"
    return {bool: "true or false", int: "a whole number"}.get(bare(members[0]), "a text")


def _is_list(hint: Any) -> bool:
    return typing.get_origin(bare(hint)) is tuple


def _one(hint: Any, *, item: bool = False) -> str:
    if _is_list(hint):
        return f"a list, each item {expectation(typing.get_args(bare(hint))[0], item=True)}"
    if typing.get_origin(bare(hint)) is Literal:
        *most, last = typing.get_args(bare(hint))
        return f"{', '.join(most)} or {last}" if most else str(last)
    if marker(hint, Form) and marker(hint, Form).kind in _FORMS:
        return _FORMS[marker(hint, Form).kind]
    if marker(hint, Unit):
        return _measure(marker(hint, Unit))
    if bare(hint) is int:
        return f"a whole number from {marker(hint, Ge).ge} to {marker(hint, Le).le}"
    if bare(hint) is str:
        return f"a text of {marker(hint, MinLen).min_length} to {marker(hint, MaxLen).max_length} characters"
    if dataclasses.is_dataclass(bare(hint)) and item:
        return f"{{{', '.join(hints(bare(hint)))}}}"
    return {bool: "true or false", type(None): "null"}.get(bare(hint), "a section")


def _measure(unit: Unit) -> str:
    if unit.kind == "size":
        low, high = units.format_size(int(unit.minimum)), units.format_size(int(unit.maximum))
    else:
        low, high = units.format_duration(unit.minimum), units.format_duration(unit.maximum)
    return f"a {unit.kind} from {low} to {high}{', or 0' if unit.zero else ''}"
