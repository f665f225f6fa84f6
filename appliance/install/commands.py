"""The command line as a plain value, for what is generated from it: the manual and the completion of shells. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Parameter:
    """An option (`names` begin with a dash) or an argument (no `names`); `value`: what follows it, "" for a switch."""

    names: tuple[str, ...]
    value: str
    help: str
    required: bool


@dataclass(frozen=True, slots=True)
class Command:
    """One verb, or a group of verbs when there are `below`."""

    name: str
    short: str
    help: str
    parameters: tuple[Parameter, ...]
    below: tuple[Command, ...]


def walk(command: Command, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Command]]:
    """Every command with the words that call it, groups before what is below them."""
    words = (*above, command.name)
    yield words, command
    for one in command.below:
        yield from walk(one, words)
