"""The text of our configuration that an import leads to. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from appliance.migrate.common import Imported


def text(made: Imported, source: str) -> str:
    """A YAML document that says what was imported, and in comments what was not."""
    lines = [
        f"# From {source} by `appliance import`. Keys that are not here have the defaults of appliance.yaml(5).",
        "",
    ]
    lines += _section(made.values, 0)
    if made.left:
        lines += ["", "# Not carried over:"]
        lines += [f"#   {left}" for left in made.left]
    return "\n".join(lines) + "\n"


def _section(values: dict[str, Any], depth: int) -> Iterator[str]:
    pad = "  " * depth
    for name, value in values.items():
        if isinstance(value, dict):
            yield f"{pad}{name}:"
            yield from _section(value, depth + 1)
        else:
            yield f"{pad}{name}: {json.dumps(value, ensure_ascii=False)}"


def drop(values: dict[str, Any], key: str) -> bool:
    """Take out what stands at a key (`tftp.remap[0].match` takes that rule); False when nothing is there."""
    place: Any = values
    names = key.replace("[", ".[").split(".")
    for index, name in enumerate(names):
        last = index == len(names) - 1
        if name.startswith("[") and isinstance(place, list):
            number = int(name.strip("[]"))
            if number < len(place):
                del place[number]
                return True
            return False
        if not isinstance(place, dict) or name not in place:
            return False
        if last:
            del place[name]
            return True
        place = place[name]
    return False
