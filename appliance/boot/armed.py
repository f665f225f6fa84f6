"""A machine that is armed for one boot, as `appliance boot host set --once` hands it to the keeper. Pure.

A file KEY.json in state_dir/armed, made under another name and renamed: one JSON object. KEY is new for every
arming, so what was said of one never counts for another.
"""

from __future__ import annotations

import dataclasses
import json
import re
import typing
from dataclasses import dataclass
from typing import Any

KEY_SIZE = 16  # hex digits
LARGEST = 64 << 10  # bytes of a file
LATEST = 1 << 40  # seconds since 1970
_OVERLAY_MAX = (1 << 31) - 1
_KEY = re.compile(r"[0-9a-f]{16}")
_TEXT_MAX, _NAMES_MAX = 1000, 64


@dataclass(frozen=True, slots=True)
class Armed:
    """`machine` boots `profile` once, unless `expires` (seconds since 1970) comes first.

    `overlay` is the first that has its files. `configs` are its loader configurations: who fetches one of them is this
    machine. `loads` are kernel and initrds: whoever was sent all of them whole has loaded the profile. Both are names
    as clients ask for them. `confirm`: the name of a file that the installer fetches when it is done; "" for none.
    """

    key: str
    machine: str
    profile: str
    overlay: int
    configs: tuple[str, ...]
    loads: tuple[str, ...]
    expires: int
    confirm: str = ""


def is_key(text: str) -> bool:
    """Whether this may name an arming."""
    return _KEY.fullmatch(text) is not None


def file_of(key: str) -> str:
    """The name of its file."""
    return f"{key}.json"


def encode(armed: Armed) -> bytes:
    """What stands in the file."""
    return json.dumps(dataclasses.asdict(armed), indent=1).encode() + b"\n"


def decode(content: bytes) -> Armed:
    """What `encode` made. Raises ValueError for anything else: another account wrote it."""
    if len(content) > LARGEST:
        raise ValueError("fewer bytes are expected")
    try:
        plain = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError("JSON is expected") from error
    hints = typing.get_type_hints(Armed)
    if not isinstance(plain, dict) or plain.keys() != hints.keys():
        raise ValueError("other fields are expected")
    armed = Armed(**{name: _value(plain[name], kind) for name, kind in hints.items()})
    if not is_key(armed.key) or not (0 < armed.overlay <= _OVERLAY_MAX and 0 < armed.expires <= LATEST):
        raise ValueError("key, overlay or time out of range")
    if not armed.machine or not armed.configs or not armed.loads:
        raise ValueError("machine, configs and loads are needed")
    return armed


def _value(plain: object, kind: object) -> Any:
    if kind is int and type(plain) is int:
        return plain
    if kind is str:
        return _text(plain)
    if kind == tuple[str, ...] and isinstance(plain, list) and len(plain) <= _NAMES_MAX:
        return tuple(_text(one) for one in plain)
    raise ValueError(f"{kind} is expected")


def _text(plain: object) -> str:
    if not isinstance(plain, str) or len(plain) > _TEXT_MAX or not plain.isprintable():
        raise ValueError("a text is expected")
    return plain
