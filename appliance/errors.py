"""The exception tree, the problem value and the exit codes; imports nothing of ours."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class ExitCode(IntEnum):
    """What every verb of the command line ends with."""

    DONE = 0
    FAILED = 1
    USAGE = 2


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding about the configuration or the world, with the remedy that mends it.

    ``severity`` is ``error`` or ``warning``; ``line`` and ``column`` count from 1, 0 where there is no place for them.
    """

    severity: str
    what: str
    remedy: str = ""
    key: str = ""
    file: str = ""
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}: " if self.line else (f"{self.file}: " if self.file else "")
        key = f"{self.key}: " if self.key else ""
        mark = "warning: " if self.severity == "warning" else ""
        remedy = f" ({self.remedy})" if self.remedy else ""
        return f"{place}{mark}{key}{self.what}{remedy}"


class ApplianceError(Exception):
    """Base of everything we raise on purpose across a room's border; its text is for the operator."""


class ConfigError(ApplianceError):
    """The configuration cannot be used; carries every problem found, not the first."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


class ConfinementError(ApplianceError):
    """A layer of the confinement could not be put on, or did not hold when it was tried."""


class StartError(ApplianceError):
    """The supervisor cannot start; the text says what to do."""


class WireError(ApplianceError):
    """A message between supervisor and child that is not in the table: the sender is ended."""
