"""How the command line speaks: facts on standard output, remarks on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any

from appliance.errors import Problem


def fact(text: str) -> None:
    """One line (or several) of what was asked for, on standard output."""
    sys.stdout.write(text + "\n")


def document(value: object) -> None:
    """One JSON document on standard output."""
    fact(json.dumps(value, indent=2))


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
