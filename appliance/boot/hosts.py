"""The file of one machine in hosts.d: how it is written, and how thousands of them are read quickly. Pure.

What is written is JSON, and so it is YAML too: a person may edit it, or write such a file by hand. Invariant: `quick`
either gives what `manifest.read` gives, up to places, or nothing; then `manifest.read` is asked, which tells what is
wrong.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from appliance.boot.draft import Draft
from appliance.boot.model import ARCHES, Machine, Once, Var
from appliance.boot.reading import plain_name, printable, uuid, variable_name
from appliance.settings import forms
from appliance.settings.forms import Unfit
from appliance.settings.yamltext import Place

_TEXTS: dict[str, Callable[[str], str]] = {
    "uuid": uuid,
    "serial": printable,
    "ip": forms.ipv4,
    "arch": lambda text: text if text in ARCHES else "",
    "profile": plain_name,
}


def file_name(machine: Machine) -> str:
    """The name of its file; dots cannot come first in a machine's name."""
    return f"{machine.name}.yaml"


def written(machine: Machine) -> bytes:
    """The file that says one machine and nothing else."""
    said: dict[str, Any] = {"mac": list(machine.macs)} if machine.macs else {}
    said |= {name: value for name in _TEXTS if (value := getattr(machine, name))}
    said |= {"labels": {var.name: var.value for var in machine.labels}} if machine.labels else {}
    said |= {"vars": {var.name: var.value for var in machine.vars}} if machine.vars else {}
    if machine.once is not None:
        once = machine.once
        said["once"] = {"profile": once.profile, "until": once.until, "id": once.id}
    text = json.dumps({"machines": {machine.name: said}}, indent=1, ensure_ascii=False)
    return f"{text}\n".encode()


def quick(name: str, content: bytes) -> Draft | None:
    """What `written` wrote; None for everything else, and for what cannot be meant."""
    try:
        whole = json.loads(content, object_pairs_hook=_once_each)
        ((machine_name, said),) = whole["machines"].items()
        draft = Draft(name)
        draft.machines.append(_machine(name, machine_name, said))
        if len(whole) != 1:
            return None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):  # Unfit is a ValueError
        return None
    draft.places["machine", machine_name] = Place(name, 3, 1)
    return draft


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key twice")
    return found


def _machine(file: str, name: str, said: dict[str, Any]) -> Machine:
    known = {key: said.pop(key) for key in tuple(_TEXTS) if key in said}
    texts = {key: _TEXTS[key](_text(value)) for key, value in known.items()}
    macs, labels, values, once = (said.pop(key, None) for key in ("mac", "labels", "vars", "once"))
    if said or "" in texts.values() or not (macs or known.keys() & {"uuid", "serial", "ip"}):
        raise Unfit("not ours", "")
    return Machine(
        plain_name(name),
        tuple(forms.mac(_text(mac)) for mac in (macs or ())),
        labels=tuple(Var(variable_name(key), printable(_text(value))) for key, value in (labels or {}).items()),
        vars=tuple(Var(variable_name(key), _value(value)) for key, value in (values or {}).items()),
        once=_once(once) if once is not None else None,
        origin=f"{file}:3",
        **texts,
    )


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise Unfit("no text", "")
    return value


def _value(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_text(item) for item in value)
    if isinstance(value, (dict, float)):
        raise Unfit("no value", "")
    return value


def _once(said: dict[str, Any]) -> Once:
    if said.keys() != {"profile", "until", "id"} or type(said["until"]) is not int or said["until"] <= 0:
        raise Unfit("no arming", "")
    return Once(plain_name(_text(said["profile"])), said["until"], plain_name(_text(said["id"])))
