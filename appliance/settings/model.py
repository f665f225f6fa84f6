"""The validator, derived from the settings dataclasses: their hints and markers become a pydantic model.

Only short-lived processes and the command line import this; workers get finished values (`settings.plain`).
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from typing import Annotated, Any

import pydantic
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, Strict, WithJsonSchema

from appliance.settings import forms, units
from appliance.settings.main import Settings
from appliance.settings.plain import decode
from appliance.settings.types import Form, Help, Unit

_PATTERNS = {
    "size": r"^[0-9]+(\.[0-9]+)? ?([kKMGT]i?)?[Bb]$",
    "duration": r"^[0-9]+(\.[0-9]+)? ?(ms|s|m|h|d)$",
    "endpoint": r"^([0-9.]+|\[[0-9A-Fa-f:.]+(%[A-Za-z0-9._-]+)?\]):[0-9]{1,5}$",
    "port-range": r"^[0-9]{1,5} ?- ?[0-9]{1,5}$",
    "path": "^/",
    "relative-path": "^[^/]",
    "user": r"^[a-z_][a-z0-9_.-]{0,30}\$?$",
    "pattern": "^[^/]+$",
    "name": "^[^/]+$",
    "host-name": r"^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?\.?$",
    "public-address": r"^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?\.?$",
    "ipv4": r"^[0-9]{1,3}(\.[0-9]{1,3}){3}$",
    "interface": r"^[A-Za-z0-9._-]{1,15}$",
    "address-range": r"^[0-9]{1,3}(\.[0-9]{1,3}){3} ?- ?[0-9]{1,3}(\.[0-9]{1,3}){3}$",
    "loader-path": r"^[A-Za-z0-9_.+-][A-Za-z0-9_./+-]*$",
    "stored-password": "^scrypt:",
    "mac": "^([0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}$",
}


def validate(plain: Any) -> Settings:
    """Settings from what YAML says. Raises pydantic.ValidationError with every error."""
    return decode(Settings, whole().model_validate(plain).model_dump())


@functools.cache
def whole() -> type[pydantic.BaseModel]:
    """The model of the whole configuration."""
    return _model(Settings)


def _model(kind: Any) -> type[pydantic.BaseModel]:
    fields: dict[str, Any] = {}
    for item in dataclasses.fields(kind):
        hint = hints(kind)[item.name]
        if item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
            fields[item.name] = (_translated(hint), Field(description=help_of(hint)))
        elif item.default_factory is dataclasses.MISSING:
            fields[item.name] = (_translated(hint), Field(default=item.default, description=help_of(hint)))
        else:
            fields[item.name] = (
                _translated(hint),
                Field(default_factory=dict, validate_default=True, description=help_of(hint)),
            )
    return pydantic.create_model(
        kind.__name__, __config__=ConfigDict(extra="forbid", strict=True, defer_build=True), **fields
    )


@functools.cache
def hints(kind: Any) -> dict[str, Any]:
    """The hints of a settings dataclass with their markers."""
    return typing.get_type_hints(kind, include_extras=True)


def markers(hint: Any) -> tuple[Any, ...]:
    """The markers on a hint."""
    return hint.__metadata__ if typing.get_origin(hint) is Annotated else ()


def marker(hint: Any, kind: type[Any]) -> Any:
    """The marker of one kind on a hint, or None."""
    return next((item for item in markers(hint) if isinstance(item, kind)), None)


def bare(hint: Any) -> Any:
    """A hint without its markers."""
    return hint.__origin__ if typing.get_origin(hint) is Annotated else hint


def help_of(hint: Any) -> str:
    """The sentence that documents a key; empty for a hint that is not one of a key."""
    found = marker(hint, Help)
    return found.text if found else ""


def arms(hint: Any) -> tuple[Any, ...]:
    """What a value may be: the members of a union, or the hint itself."""
    if typing.get_origin(bare(hint)) in (typing.Union, types.UnionType):
        return typing.get_args(bare(hint))
    return (hint,)


def section_of(hint: Any) -> Any:
    """The dataclass of a section, also of one that may be left out as null; None for what is no section."""
    return next((bare(arm) for arm in arms(hint) if dataclasses.is_dataclass(bare(arm))), None)


def item_of(hint: Any) -> Any:
    """What the items of a list are; of a union, those of the member that is a list. None where there is no list."""
    lists = [bare(arm) for arm in arms(hint) if typing.get_origin(bare(arm)) is tuple]
    return typing.get_args(lists[0])[0] if lists else None


def _translated(hint: Any) -> Any:
    extras = [extra for mark in markers(hint) for extra in _validators(mark)]
    kind = _kind(bare(hint))
    return Annotated[(kind, *extras)] if extras else kind


def _kind(kind: Any) -> Any:
    if dataclasses.is_dataclass(kind):
        return _model(kind)
    if typing.get_origin(kind) is tuple:
        # YAML knows lists only; a frozen value holds tuples.
        item: Any = _translated(typing.get_args(kind)[0])
        return Annotated[tuple[item, ...], Strict(False)]
    if len(arms(kind)) > 1:
        return typing.Union[tuple(_translated(arm) for arm in arms(kind))]  # noqa: UP007 (built, not written)
    return kind


def _validators(mark: Any) -> list[Any]:
    if isinstance(mark, Help):
        return []
    if isinstance(mark, Form):
        check = AfterValidator(forms.CHECKS[mark.kind])
        pattern = _PATTERNS.get(mark.kind)
        return [check, WithJsonSchema({"type": "string", "pattern": pattern})] if pattern else [check]
    if isinstance(mark, Unit):
        return [BeforeValidator(functools.partial(_measured, mark)), WithJsonSchema(_unit_schema(mark))]
    return [mark]


def _measured(unit: Unit, value: object) -> float:
    number = units.parse_size(value) if unit.kind == "size" else units.parse_duration(value)
    if not (unit.minimum <= number <= unit.maximum or (unit.zero and number == 0)):
        raise OutOfRange(f"{units.shown(value)} is out of range", "")
    return number


class OutOfRange(forms.Unfit):
    """A number with the right unit and the wrong size."""


def _unit_schema(unit: Unit) -> dict[str, Any]:
    text = {"type": "string", "pattern": _PATTERNS[unit.kind]}
    if unit.kind == "duration":
        return {"anyOf": [text, {"const": 0}]} if unit.zero or unit.minimum == 0 else text
    number = {"type": "integer", "minimum": int(unit.minimum), "maximum": int(unit.maximum)}
    return {"anyOf": [text, number, {"const": 0}]} if unit.zero else {"anyOf": [text, number]}
