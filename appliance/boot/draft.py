"""What one document of boot provisioning says, and where; it is judged together with others by `resolve`. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from appliance.boot import model
from appliance.boot.model import FileRule, Group, Loader, Machine, Menu, Profile, Source, Take
from appliance.errors import Problem
from appliance.settings.yamltext import Place


class Unreadable(Exception):
    """A template's file cannot be read; the text says why."""


@dataclass(slots=True)
class Draft:
    """What one document says, with the places of its parts by (kind, name)."""

    name: str
    problems: list[Problem] = field(default_factory=list)
    places: dict[tuple[str, str], Place] = field(default_factory=dict)
    title: str = ""
    experimental: str = ""
    seen: str = ""  # how a recipe was seen working
    server: str = ""
    secrets: str = ""  # the file they are in
    recipes: tuple[str, ...] = ()
    default: str = ""
    sources: dict[str, Source] = field(default_factory=dict)
    takes: list[Take] = field(default_factory=list)
    loaders: list[Loader] = field(default_factory=list)
    profiles: dict[str, tuple[str, Profile]] = field(default_factory=dict)  # name -> what it inherits, itself
    more_args: dict[str, str] = field(default_factory=dict)
    groups: list[Group] = field(default_factory=list)
    machines: list[Machine] = field(default_factory=list)
    files: list[FileRule] = field(default_factory=list)
    templates: dict[str, str] = field(default_factory=dict)
    vars: tuple[model.Var, ...] = ()
    menu: Menu | None = None

    def place(self, kind: str, name: str) -> Place:
        """Where something stands; the head of the file for what does not."""
        return self.places.get((kind, name), Place(self.name, 1, 1))
