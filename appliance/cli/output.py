"""How the command line speaks: facts on standard output, remarks on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any

from appliance.errors import Problem

_FORMULA = ("=", "+", "-", "@")


def fact(text: str) -> None:
    """One line (or several) of what was asked for, on standard output."""
    sys.stdout.write(text + "\n")


def document(value: object) -> None:
    """One JSON document on standard output."""
    fact(json.dumps(value, indent=2))


def csv(cells: Iterable[object]) -> str:
    """One row (RFC 4180, without the line's end). No text becomes a formula: an apostrophe stands before.

    What begins one, by OWASP's list: = + - @, tab and carriage return; names and addresses are strangers' texts.
    """
    return ",".join(map(_cell, cells))


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)
    text = "".join(letter if letter.isprintable() else "?" for letter in str(value))
    if text[:1] in _FORMULA or text.lstrip()[:1] in _FORMULA:
        text = f"'{text}"
    return '"' + text.replace('"', '""') + '"' if set(text) & set(',"') or text != text.strip() else text


def remark(text: str) -> None:
    """One line for a person, on standard error; what was asked for stays clean."""
    sys.stdout.flush()  # so that both stand in their order on a terminal
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def problems(found: Iterable[Problem]) -> list[dict[str, Any]]:
    """Problems as plain values for JSON."""
    names = ("severity", "file", "line", "column", "key", "what", "remedy")
    return [{name: getattr(problem, name) for name in names} for problem in found]


def size(count: float) -> str:
    """Bytes for a person: 64.0 MiB."""
    if count < 1024:
        return f"{count:.0f} bytes"
    units = ("KiB", "MiB", "GiB", "TiB")
    power = next((power for power in range(1, 4) if count < 1024 ** (power + 1)), 4)
    return f"{count / 1024**power:.1f} {units[power - 1]}"
