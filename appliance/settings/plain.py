"""Settings values to plain JSON values and back, without a validator: what crosses from the reader to a worker."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from typing import Any, TypeVar

T = TypeVar("T")


def encode(value: Any) -> Any:
    """Turn a (nested) frozen settings value into dicts, lists and scalars."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [encode(item) for item in value]
    return value


def decode(kind: type[T], plain: dict[str, Any], *, older: bool = False) -> T:
    """Build `kind` from what `encode` made. Raises TypeError or KeyError on a shape that `encode` cannot have made.

    `older`: it may have been made by a build that did not know all fields yet; those have their defaults.
    """
    hints = _hints(typing.cast("Any", kind))
    left_out = hints.keys() - plain.keys()
    if plain.keys() - hints.keys() or (left_out and not (older and left_out <= _defaults(typing.cast("Any", kind)))):
        raise KeyError(f"{kind.__name__}: {sorted(plain.keys() ^ hints.keys())}")
    return kind(**{name: _value(hints[name], what, older=older) for name, what in plain.items()})


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


@functools.cache
def _defaults(kind: Any) -> frozenset[str]:
    missing = dataclasses.MISSING
    fields = dataclasses.fields(kind)
    return frozenset(one.name for one in fields if one.default is not missing or one.default_factory is not missing)


def _value(hint: Any, plain: Any, *, older: bool) -> Any:
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return decode(typing.cast("type[Any]", hint), plain, older=older)
    origin = typing.get_origin(hint)
    if origin is tuple and isinstance(plain, (list, tuple)):
        return tuple(_value(typing.get_args(hint)[0], item, older=older) for item in plain)
    if origin in (typing.Union, types.UnionType) and isinstance(plain, (dict, list, tuple)):
        arms = typing.get_args(hint)
        return next(_value(arm, plain, older=older) for arm in arms if _takes(arm, plain))
    return plain


def _takes(arm: Any, plain: Any) -> bool:
    """Whether a member of a union is the one for a section, or for a list."""
    return dataclasses.is_dataclass(arm) if isinstance(plain, dict) else typing.get_origin(arm) is tuple
