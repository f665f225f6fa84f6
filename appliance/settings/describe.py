"""The schema and settings as text: the commented configuration file, the effective one, and JSON Schema for editors."""

from __future__ import annotations

import dataclasses
import json
import re
import textwrap
from collections.abc import Iterator
from typing import Any

from appliance.settings import model, units, words
from appliance.settings.main import Settings
from appliance.settings.types import Unit
from appliance.settings.yamltext import scalar

_WIDTH = 100
_HEAD = """\
# Every key of the appliance with its default. A key that is left out has the value that stands here; so has a file that
# says nothing. Files in conf.d beside this one override it key by key, in the order of their names.
# `appliance check` tells what is wrong, with line and remedy; `appliance reload` takes a change up.
"""
_PLAIN = re.compile(r"[A-Za-z0-9/_][A-Za-z0-9/_.@+-]*")


def commented(settings: Settings) -> str:
    """The text of a configuration file that says `settings`, with what each key means and may hold above it."""
    return _HEAD + "".join(f"{line}\n" for line in _lines(settings, 0, comments=True))


def dump(settings: Settings) -> str:
    """The text of a configuration file that says `settings`; `load` gives the same value back."""
    return "".join(f"{line}\n" for line in _lines(settings, 0, comments=False))


def _lines(section: Any, depth: int, *, comments: bool) -> Iterator[str]:
    pad = "  " * depth
    kind: Any = type(section)
    for number, (name, hint) in enumerate(model.hints(kind).items()):
        value = getattr(section, name)
        if comments:
            yield from [""] if number or not depth else []
            yield from _comment(hint, pad, nested=dataclasses.is_dataclass(value))
        if dataclasses.is_dataclass(value):
            yield f"{pad}{name}:"
            yield from _lines(value, depth + 1, comments=comments)
        else:
            yield from _keys_of_items(hint, pad) if comments else []
            yield f"{pad}{name}: {written(hint, value)}"


def _comment(hint: Any, pad: str, *, nested: bool) -> list[str]:
    text = model.help_of(hint)
    text = text[0].upper() + text[1:]
    if not nested:
        text += f" ({words.expectation(hint)})."
    return textwrap.wrap(text, _WIDTH, break_on_hyphens=False, initial_indent=f"{pad}# ", subsequent_indent=f"{pad}# ")


def _keys_of_items(hint: Any, pad: str) -> Iterator[str]:
    """What the keys mean of a section that may be left out, or that is an item of a list."""
    inner: Any = model.section_of(model.item_of(hint)) or model.section_of(hint)
    found = model.hints(inner) if inner else {}
    for name, below in found.items():
        text = f"{name}: {model.help_of(below)} ({words.expectation(below)})."
        yield from textwrap.wrap(
            text, _WIDTH, break_on_hyphens=False, initial_indent=f"{pad}#   ", subsequent_indent=f"{pad}#     "
        )


def written(hint: Any, value: Any) -> str:
    """A value as one writes it in the file."""
    if isinstance(value, tuple):
        item_hint = model.item_of(hint)
        return f"[{', '.join(written(item_hint, item) for item in value)}]"
    if dataclasses.is_dataclass(value):
        return _item(value)
    if unit := model.marker(hint, Unit):
        return units.format_size(value) if unit.kind == "size" else units.format_duration(value)
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return _text(value) if isinstance(value, str) else str(value)


def _item(section: Any) -> str:
    """A section that is an item of a list: on one line, without the keys that have their default."""
    kind: Any = type(section)
    said = {
        field.name: written(model.hints(kind)[field.name], getattr(section, field.name))
        for field in dataclasses.fields(section)
        if getattr(section, field.name) != field.default
    }
    return f"{{{', '.join(f'{name}: {text}' for name, text in said.items())}}}"


def _text(value: str) -> str:
    """A text without quotes where it stays a text without them."""
    plain = _PLAIN.fullmatch(value) and isinstance(scalar(value), str)
    return value if plain else json.dumps(value, ensure_ascii=False)


def schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a configuration file, for editors that complete and check while one types."""
    found = model.whole().model_json_schema()
    _tidy(found, Settings)
    for name, definition in found["$defs"].items():
        _tidy(definition, _kinds(Settings)[name])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **found,
        "title": "Configuration of the appliance",
    }


def _tidy(definition: dict[str, Any], kind: Any) -> None:
    """Defaults as one writes them, and no titles that only repeat the name of the key."""
    definition.pop("title", None)
    defaults = {field.name: field.default for field in dataclasses.fields(kind)}
    for name, hint in model.hints(kind).items():
        entry = definition["properties"][name]
        entry.pop("title", None)
        entry.pop("default", None)
        value = defaults[name]
        if value is not dataclasses.MISSING:
            entry["default"] = written(hint, value) if model.marker(hint, Unit) else _json(value)


def _json(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _kinds(kind: Any) -> dict[str, Any]:
    """The dataclasses of all sections by name."""
    found: dict[str, Any] = {}
    for hint in model.hints(kind).values():
        for below in (model.bare(hint), model.bare(model.item_of(hint)), *map(model.bare, model.arms(hint))):
            if dataclasses.is_dataclass(below):
                found |= {getattr(below, "__name__", ""): below} | _kinds(below)
    return found
