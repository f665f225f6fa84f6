"""What an import of another server's configuration is made of. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Left:
    """One line that was not carried over, and why; `why` also tells what to do where something can be done."""

    file: str
    line: int
    what: str
    why: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.what}: {self.why}"


@dataclass(slots=True)
class Imported:
    """Our configuration as nested plain values, and what is not in it."""

    values: dict[str, Any] = field(default_factory=dict)
    left: list[Left] = field(default_factory=list)

    def put(self, key: str, value: Any) -> None:
        """Say a value for a dotted key."""
        *sections, name = key.split(".")
        place = self.values
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = value

    def get(self, key: str, default: Any = None) -> Any:
        """What was said for a dotted key."""
        place: Any = self.values
        for name in key.split("."):
            if not isinstance(place, dict) or name not in place:
                return default
            place = place[name]
        return place


def listens(address: str, port: int) -> list[str]:
    """The text of `listen` for an address ("" is all of both families)."""
    if not address:
        return [f"0.0.0.0:{port}", f"[::]:{port}"]
    return [f"[{address}]:{port}" if ":" in address else f"{address}:{port}"]
