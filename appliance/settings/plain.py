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


def decode(kind: type[T], plain: dict[str, Any]) -> T:
    """Build `kind` from what `encode` made. Raises TypeError or KeyError on a shape that `encode` cannot have made."""
    hints = _hints(typing.cast("Any", kind))
    if plain.keys() != hints.keys():
        raise KeyError(f"{kind.__name__}: {sorted(plain.keys() ^ hints.keys())}")
    return kind(**{name: _value(hint, plain[name]) for name, hint in hints.items()})


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _value(hint: Any, plain: Any) -> Any:
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return decode(typing.cast("type[Any]", hint), plain)
    origin = typing.get_origin(hint)
    if origin is tuple and isinstance(plain, (list, tuple)):
        return tuple(_value(typing.get_args(hint)[0], item) for item in plain)
    if origin in (typing.Union, types.UnionType) and isinstance(plain, (dict, list, tuple)):
        arms = typing.get_args(hint)
        return next(_value(arm, plain) for arm in arms if _takes(arm, plain))
    return plain


def _takes(arm: Any, plain: Any) -> bool:
    """Whether a member of a union is the one for a section, or for a list."""
    return dataclasses.is_dataclass(arm) if isinstance(plain, dict) else typing.get_origin(arm) is tuple
