"""What a rule has to say about settings that are each valid by themselves. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

Path: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """`keys[0]` is the key to point at; the others take part."""

    what: str
    remedy: str
    keys: tuple[Path, ...]
    severity: str = "error"
