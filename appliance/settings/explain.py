"""What the validator found, in the operator's words: place, key, problem, remedy. Pure."""

from __future__ import annotations

import difflib
import functools
import json
from typing import Any, TypeAlias

import pydantic
from annotated_types import MaxLen, MinLen

from appliance.errors import Problem
from appliance.settings import words
from appliance.settings.forms import CHECKS, Unfit
from appliance.settings.main import Settings
from appliance.settings.model import OutOfRange, arms, hints, item_of, marker, section_of
from appliance.settings.types import Form
from appliance.settings.units import shown
from appliance.settings.yamltext import Node

Path: TypeAlias = tuple[str | int, ...]

_BOUNDS = ("greater_than_equal", "less_than_equal")
_LENGTHS = ("too_short", "too_long", "string_too_short", "string_too_long")
_OLD_BOOLEANS = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}


def explained(root: Node, error: pydantic.ValidationError) -> dict[Path, Problem]:
    """One problem for each value that is wrong, by its path."""
    found: dict[Path, Any] = {}
    for detail in error.errors(include_url=False):
        path = _path_in(root, detail["loc"])
        if path not in found or detail["type"] in _BOUNDS:  # of a union's arms the one that came closest
            found[path] = detail
    # To the validator a list is also too short when its items are wrong (it counts those that are left), and no text.
    spoilt = {path[:at] for path in found for at, part in enumerate(path) if isinstance(part, int)}
    return {path: _problem(root, path, detail) for path, detail in found.items() if path not in spoilt}


def key_name(path: Path) -> str:
    """A path as people write it: ftp.listen[1]."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def is_section(path: Path) -> bool:
    """Whether the schema has a section of that path."""
    return path in _sections(Settings)


def node_at(root: Node, path: Path) -> Node | None:
    """The node at a path, or None."""
    node: Node | None = root
    for part in path:
        node = _below(node, part)
    return node


def _below(node: Node | None, part: str | int) -> Node | None:
    if node and isinstance(node.value, dict):
        return node.value.get(str(part))
    if node and isinstance(node.value, list) and isinstance(part, int):
        return node.value[part]
    return None


def _path_in(root: Node, loc: Path) -> Path:
    """The part of a validator's location that exists in the configuration; the rest names arms of unions."""
    path: Path = ()
    for part in loc:
        if node_at(root, (*path, part)) is not None:
            path = (*path, part)
        elif not isinstance(part, str) or not isinstance((node_at(root, path) or root).value, list):
            break
    return path


def _problem(root: Node, path: Path, detail: Any) -> Problem:
    node = node_at(root, path) or root
    if detail["type"] == "extra_forbidden":
        return node.key.problem("unknown key", _suggestion(path), key_name(path))
    if detail["type"] == "missing":
        name = str(detail["loc"][-1])
        wanted = words.expectation(hints(section_of(_hint_at(path)))[name])
        return node.place.problem(f"{name} is missing", f"write {name}: {wanted}", key_name(path))
    what, remedy = _explain(node, _hint_at(path), detail, str(path[-1]))
    return node.place.problem(what, remedy, key_name(path))


def _hint_at(path: Path) -> Any:
    hint: Any = Settings
    for part in path:
        hint = hints(section_of(hint))[part] if isinstance(part, str) else item_of(hint)
    return hint


def _suggestion(path: Path) -> str:
    name = str(path[-1])
    here = list(hints(section_of(_hint_at(path[:-1]))))
    if elsewhere := [key_name((*section, name)) for section in _sections(Settings) if name in _fields(section)]:
        return f"did you mean {' or '.join(elsewhere)}?"
    if near := difflib.get_close_matches(name[:60], here, n=1):
        return f"did you mean {near[0]}?"
    return f"the keys here are {', '.join(here)}"


def _fields(section: Path) -> dict[str, Any]:
    return hints(section_of(_hint_at(section)))


@functools.cache
def _sections(kind: Any, above: Path = ()) -> tuple[Path, ...]:
    below = [(name, section) for name, hint in hints(kind).items() if (section := section_of(hint))]
    return (above, *(path for name, hint in below for path in _sections(hint, (*above, name))))


def _explain(node: Node, hint: Any, detail: Any, name: str) -> tuple[str, str]:
    cause = detail.get("ctx", {}).get("error")
    write = f"write {words.expectation(hint)}"
    if isinstance(cause, Unfit):
        return cause.what, write if isinstance(cause, OutOfRange) else cause.remedy
    if detail["type"] in _LENGTHS:
        return _length(node, hint)
    if node.value is None:
        return "no value", f"{write}, or take the key out"
    wanted = words.kind_of(hint)
    written = _written(node)
    if wanted == "a section":
        keys = f"the keys of {name}" if not name.isdigit() else words.expectation(hint, item=True)
        return f"{written} where a section belongs", f"write {keys} below it, indented"
    if wanted == "a list":
        return f"{written} where a list belongs", write if isinstance(node.value, dict) else f"write {_list_of(node)}"
    if isinstance(node.value, (dict, list)):
        return f"{written} where {wanted} belongs", write
    return _scalar(node, hint, detail["type"], write)


def _scalar(node: Node, hint: Any, kind: str, write: str) -> tuple[str, str]:
    wanted = words.kind_of(hint)
    text = shown(node.text)
    if kind in _BOUNDS:
        return f"{text} is out of range", write
    if kind == "string_type" and _fits(node.text, hint):
        return f"{text} without quotes is not a text", f"write {json.dumps(text)}"
    if wanted == "true or false" and node.text.lower() in _OLD_BOOLEANS:
        return f"{text} is not {wanted}", f"write {_OLD_BOOLEANS[node.text.lower()]}"
    if wanted == "true or false" and node.text.lower() in ("true", "false"):
        return f"{json.dumps(text)} in quotes is a text", f"write {node.text.lower()} without quotes"
    return f"{text} is not {wanted}", write


def _fits(text: str, hint: Any) -> bool:
    form = next((mark for arm in arms(hint) if (mark := marker(arm, Form))), None)
    try:
        return form is not None and bool(CHECKS[form.kind](text))
    except Unfit:
        return False


def _length(node: Node, hint: Any) -> tuple[str, str]:
    what, items = ("a list", "items") if isinstance(node.value, list) else ("a text", "characters")
    bounds = f"{marker(hint, MinLen).min_length} to {marker(hint, MaxLen).max_length}"
    count = len(node.value) if isinstance(node.value, list) else len(node.text)
    return f"{what} of {count} {items}", f"write {what} of {bounds} {items}"


def _written(node: Node) -> str:
    if isinstance(node.value, bool):
        return shown(node.value)
    names: dict[type, str] = {dict: "a section", list: "a list", str: "a text"}
    return names.get(type(node.value), "a number")


def _list_of(node: Node) -> str:
    plain = node.text.isascii() and node.text.isprintable() and not set(node.text) & set(" ,[]{}:#&*!|>'\"%@`\\")
    return f"[{node.text if plain else json.dumps(node.text, ensure_ascii=False)}]"
