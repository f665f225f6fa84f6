"""What boot provisioning reads from the disk: the manifest, its templates, the machines, the catalogue, the secrets.

Only short-lived processes import this. Nothing is written here.
"""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources

from appliance.boot.manifest import Draft, Unreadable, read
from appliance.boot.resolve import Resolved, resolve
from appliance.errors import ConfigError, Problem
from appliance.settings.yamltext import LARGEST, clean, parse

HOSTS = "hosts.d"


@dataclass(frozen=True, slots=True)
class Loaded:
    """What there is to plan, with the values of the secrets: those go into no release, bundle, log or answer."""

    resolved: Resolved
    secrets: dict[str, str]


def load(manifest: str, state_dir: str) -> Loaded:
    """The manifest at a path with everything it refers to. Raises ConfigError with all that is wrong."""
    folder = os.path.dirname(manifest)
    draft = read(manifest, _content(manifest), _texts(folder))
    hosts = machines(state_dir)
    known: dict[str, str] = {}
    wrong: list[Problem] = []
    if draft.secrets:
        known, wrong = _secrets(draft.secrets)
    try:
        resolved = resolve(draft, hosts, catalog(), tuple(known))
    except ConfigError as error:
        raise ConfigError((*error.problems, *wrong)) from None
    if wrong:
        raise ConfigError(tuple(wrong))
    return Loaded(resolved, known)


def machines(state_dir: str) -> list[Draft]:
    """The files of hosts.d, in the order of their names. Raises ConfigError for one that cannot be read."""
    names = sorted(glob.glob(os.path.join(glob.escape(os.path.join(state_dir, HOSTS)), "*.yaml")))
    return [read(name, _content(name), _no_texts, machines_only=True) for name in names]


def catalog() -> dict[str, Draft]:
    """The recipes that came with the program, by name."""
    found = {}
    for item in sorted(resources.files("appliance.boot").joinpath("catalog").iterdir(), key=lambda one: one.name):
        if item.name.endswith(".yaml"):
            name = item.name.removesuffix(".yaml")
            found[name] = read(f"catalogue:{item.name}", item.read_bytes(), _no_texts)
    return found


def _content(name: str) -> bytes:
    try:
        with open(name, "rb") as file:
            return file.read(LARGEST + 1)
    except (OSError, ValueError) as error:
        what = f"cannot be read: {error.strerror if isinstance(error, OSError) else error}"
        remedy = "write it (docs/BOOT.md has an example), or name another: boot.manifest"
        if isinstance(error, PermissionError):
            remedy = f"chmod a+r {name}, or run as root"
        raise ConfigError((Problem("error", what, remedy, file=name),)) from None


def _texts(folder: str) -> Callable[[str], str]:
    def text(name: str) -> str:
        try:
            with open(os.path.join(folder, name), "rb") as file:
                content = file.read(LARGEST + 1)
            if len(content) > LARGEST:
                raise Unreadable(f"{name}: a template of more than {LARGEST >> 20} MiB")
            return content.decode()
        except (OSError, ValueError) as error:
            cause = error.strerror if isinstance(error, OSError) else "not UTF-8"
            raise Unreadable(f"{name} cannot be read: {cause}") from None

    return text


def _no_texts(name: str) -> str:
    raise Unreadable(f"{name}: a file of its own belongs to a manifest only")


def _secrets(name: str) -> tuple[dict[str, str], list[Problem]]:
    """Names and values of a file that nobody else may read; what is wrong with it never repeats a value."""
    try:
        mode = os.stat(name).st_mode
    except OSError as error:
        remedy = "write it: NAME: VALUE lines, chmod 0600"
        return {}, [Problem("error", f"cannot be read: {error.strerror}", remedy, "secrets", name)]
    if mode & (stat.S_IRWXO | stat.S_IWGRP):
        return {}, [Problem("error", "others may read or change it", f"chmod 0600 {name}", "secrets", name)]
    document = parse(name, _content(name))
    places = [
        Problem("error", "not a list of NAME: VALUE lines", "mend it", "secrets", name, one.line, one.column)
        for one in document.problems
    ]
    if document.root is None or places:
        return {}, places
    if not isinstance(document.root.value, dict):
        return {}, [Problem("error", "not a list of NAME: VALUE lines", "mend it", "secrets", name)]
    known, strange = {}, []
    for key, node in document.root.value.items():
        if isinstance(node.value, (dict, list)) or not key.isidentifier():
            strange.append(node.place.problem("no NAME: VALUE", "write one text for a name", f"secrets.{clean(key)}"))
        else:
            known[key] = node.text
    return known, strange
