"""What is said about machines on the command line: which machine is meant, and what options make of one."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import typer

from appliance.errors import ApplianceError

if TYPE_CHECKING:
    from appliance.boot.folder import Loaded
    from appliance.boot.model import Machine, Var

_DAY = 86400.0
_LONGEST = 365 * _DAY


def index(loaded: Loaded) -> dict[str, Machine]:
    """Every machine by each of its names and addresses."""
    found: dict[str, Machine] = {}
    for one in (*loaded.resolved.manifest.machines, *loaded.resolved.hosts):
        found |= {key: one for key in (one.name, *one.macs, one.uuid, one.serial, one.ip) if key}
    return found


def find(loaded: Loaded, who: str) -> Machine | None:
    """The machine that somebody means."""
    known = index(loaded)
    return known.get(who) or known.get(who.lower().replace("-", ":"))


def may_change(folder: str, machine: Machine | None) -> None:
    """Raises ApplianceError for a machine that a person wrote into a file."""
    from appliance.boot import hostsfolder

    if machine is not None and not hostsfolder.mine(folder, machine):
        raise ApplianceError(f"{machine.name} was written by hand, at {machine.origin}: change it there")


def new(who: str, name: str | None) -> Machine:
    """A machine nobody knew: of an address, or of a name."""
    from appliance.boot.model import Machine
    from appliance.settings import forms

    try:
        address = forms.mac(who)
    except forms.Unfit:
        return Machine(who)
    return Machine(name or address.replace(":", "-"), (address,))


def changed(
    old: Machine, given: dict[str, str | None], macs: Iterable[str], labels: Iterable[str], values: Iterable[str]
) -> Machine:
    """A machine with what the options of `set` say about it. Raises BadParameter."""
    said: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    return replace(
        old,
        macs=tuple(dict.fromkeys((*old.macs, *macs))),
        labels=_pairs(old.labels, labels, "--label"),
        vars=_pairs(old.vars, values, "--var"),
        **said,
    )


def _pairs(old: Sequence[Var], given: Iterable[str], option: str) -> tuple[Var, ...]:
    from appliance.boot.model import Var

    found = {var.name: var for var in old}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals:
            raise typer.BadParameter(f"{text} is not NAME=VALUE", param_hint=option)
        found |= {key: Var(key, value)}
        if not value:
            found.pop(key)
    return tuple(found.values())


def checked(machine: Machine) -> Machine:
    """The machine as its file would be read. Raises ConfigError with what is wrong with it."""
    from appliance.boot.draft import Unreadable
    from appliance.boot.hosts import written
    from appliance.boot.manifest import read
    from appliance.errors import ConfigError, Problem

    def no_texts(name: str) -> str:
        raise Unreadable(name)

    draft = read("", written(machine), no_texts, machines_only=True)
    if draft.problems:
        raise ConfigError(tuple(Problem("error", one.what, one.remedy, one.key) for one in draft.problems))
    return draft.machines[0]


def armed(profile: str, hold: str) -> Any:
    """One boot of a profile, waited for that long. Raises BadParameter."""
    from appliance.boot.model import Once
    from appliance.settings import forms, units

    try:
        seconds = units.parse_duration(hold)
    except forms.Unfit as error:
        raise typer.BadParameter(f"{error.what}: {error.remedy}", param_hint="--for") from None
    if not 60 <= seconds <= _LONGEST:
        raise typer.BadParameter(f"{hold} is out of range: 1m to 365d", param_hint="--for")
    return Once(profile, int(time.time() + seconds), secrets.token_hex(8))


def sort_out(
    loaded: Loaded, listed: Sequence[Machine], profile: str, folder: str, *, update: bool
) -> tuple[list[Machine], list[str]]:
    """What is to be written, and the names of what is known and stays."""
    by = index(loaded)
    made, known = [], []
    for one in listed:
        keys = (*one.macs, one.uuid, one.serial, one.ip)
        old = next((by[key] for key in keys if key in by), None)
        if old is None:
            name = one.name if one.name not in by else f"{one.name[:40]}-{next(filter(None, keys)).replace(':', '')}"
            made.append(replace(one, name=name, profile=one.profile or profile, origin=""))
        elif update:
            may_change(folder, old)
            said = {key: getattr(one, key) or getattr(old, key) for key in ("macs", "uuid", "serial", "ip", "arch")}
            made.append(replace(old, profile=one.profile or profile or old.profile, **said))
        else:
            known.append(old.name)
    return made, known
