"""What boot provisioning reads from the disk: the manifest, its templates, the machines, the catalogue, the secrets.

Only short-lived processes import this. Nothing is written here; `hostsfolder` writes machines.
"""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

from appliance.boot.draft import Draft, Unreadable
from appliance.boot.hosts import file_name, quick, written
from appliance.boot.manifest import read
from appliance.boot.model import Machine
from appliance.boot.resolve import Resolved, resolve
from appliance.errors import ConfigError, Problem
from appliance.settings.yamltext import LARGEST, clean, parse

HOSTS = "hosts.d"


@dataclass(frozen=True, slots=True)
class Loaded:
    """What there is to plan, with the values of the secrets: those go into no release, bundle, log or answer."""

    resolved: Resolved
    secrets: dict[str, str]


def load(manifest: str, state_dir: str, *, instead: Sequence[Machine] = (), secrets: bool = True) -> Loaded:
    """The manifest at a path with everything it refers to. Raises ConfigError with all that is wrong.

    `instead` are machines that are about to be written: they take the place of their files. Without `secrets` their
    file is not opened: enough to fetch, and for whoever may not read it.
    """
    folder = os.path.dirname(manifest)
    draft = read(manifest, _content(manifest), _texts(folder))
    known: dict[str, str] = {}
    wrong: list[Problem] = []
    if draft.secrets and secrets:
        known, wrong = _secrets(draft.secrets)
    recipes = catalog()
    try:
        resolved = resolve(draft, _with(machines(state_dir), instead), recipes, tuple(known))
    except ConfigError as error:
        raise ConfigError((*_placed(draft, state_dir, recipes, instead, error), *wrong)) from None
    if wrong:
        raise ConfigError(tuple(wrong))
    return Loaded(resolved, known)


def _with(drafts: list[Draft], instead: Sequence[Machine]) -> list[Draft]:
    """The drafts of hosts.d, with machines that are about to be written in the places of their files."""
    if not instead:
        return drafts
    files = {file_name(machine) for machine in instead}
    kept = [draft for draft in drafts if os.path.basename(draft.name) not in files]
    made = [read(f"{HOSTS}/{file_name(one)}", written(one), _no_texts, machines_only=True) for one in instead]
    return [*kept, *made]


def _placed(
    draft: Draft, state_dir: str, recipes: Mapping[str, Draft], instead: Sequence[Machine], error: ConfigError
) -> tuple[Problem, ...]:
    """The same problems, with the places in files that were read too quickly to know them."""
    files = frozenset(problem.file for problem in error.problems)
    try:
        resolve(draft, _with(machines(state_dir, slowly=files), instead), recipes)
    except ConfigError as again:
        return again.problems
    return error.problems


def machines(state_dir: str, *, slowly: frozenset[str] = frozenset()) -> list[Draft]:
    """The files of hosts.d, in the order of their names. Raises ConfigError for one that cannot be read.

    Those in `slowly` are read with every place in them.
    """
    names = sorted(glob.glob(os.path.join(glob.escape(os.path.join(state_dir, HOSTS)), "*.yaml")))
    return [_host(name, _content(name), slowly) for name in names]


def _host(name: str, content: bytes, slowly: frozenset[str]) -> Draft:
    draft = quick(name, content) if name not in slowly else None
    return draft or read(name, content, _no_texts, machines_only=True)


class Catalog(Mapping[str, Draft]):
    """The recipes that came with the program; each is read when it is asked for."""

    def __init__(self) -> None:
        self._folder = resources.files("appliance.boot").joinpath("catalog")
        files = (item.name for item in self._folder.iterdir())
        self._names = sorted(name.removesuffix(".yaml") for name in files if name.endswith(".yaml"))
        self._read: dict[str, Draft] = {}

    def __getitem__(self, name: str) -> Draft:
        if name not in self._names:
            raise KeyError(name)
        if name not in self._read:
            content = self._folder.joinpath(f"{name}.yaml").read_bytes()
            self._read[name] = read(f"catalogue:{name}.yaml", content, _no_texts)
        return self._read[name]

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def catalog() -> Catalog:
    """The recipes that came with the program, by name."""
    return Catalog()


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
