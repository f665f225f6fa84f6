"""Find the configuration, and turn its text into settings, or into all that is wrong with it.

Only short-lived processes and the command line import this. What one file says is read by `yamltext`, what keys may
hold is checked by `model`, what they may not say together by `rules`; `explain` finds the words.
"""

from __future__ import annotations

import glob
import json
import os
import pwd
import re
import stat
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pydantic

from appliance.errors import ConfigError, Problem
from appliance.settings import explain, model, rules
from appliance.settings.finding import Finding
from appliance.settings.main import Settings
from appliance.settings.yamltext import LARGEST, Document, Node, Place, parse

SYSTEM_FILE = "/etc/appliance/appliance.yaml"
EMBEDDED = "embedded default"
_MOST = 100  # problems; the rest is counted
_PART = re.compile(r"[^.\[\]]+")


def load(documents: list[tuple[str, bytes]]) -> tuple[Settings, list[Problem]]:
    """Settings and warnings from (name, content) of the main file and the files of conf.d in order.

    A later file overrides key by key: sections merge, everything else is replaced. Raises ConfigError with every
    problem.
    """
    files = [parse(name, content) for name, content in documents]
    problems = [problem for document in files for problem in document.problems]
    warnings = [_empty(name) for (name, _), document in zip(documents, files, strict=True) if _is_empty(document)]
    root, strange = _root(documents[0][0], files)
    problems += strange
    wrong, settings = _validated(root)
    problems += wrong.values()
    if not any(document.broken for document in files):
        found = [_placed(root, finding) for finding in rules.judge(settings) if not _touched(finding, wrong)]
        problems += [problem for problem in found if problem.severity == "error"]
        warnings += [problem for problem in found if problem.severity == "warning"]
    if problems:
        raise ConfigError(_sorted(problems, [name for name, _ in documents]))
    return settings, warnings


def located(documents: list[tuple[str, bytes]], problems: list[Problem]) -> list[Problem]:
    """Findings of the world with the place of their key: where it is written, or only the file when it is a default."""
    root, _ = _root(documents[0][0], [parse(name, content) for name, content in documents])
    return [problem if problem.file else _at_key(root, problem) for problem in problems]


def _at_key(root: Node, problem: Problem) -> Problem:
    path: list[str | int] = [int(part) if part.isdigit() else part for part in _PART.findall(problem.key)]
    while path and (node := explain.node_at(root, tuple(path))) is None:
        path.pop()  # an item of a default list, a key of a default section
    place = node.place if path and node else root.place
    return replace(problem, file=place.file, line=place.line, column=place.column)


def _root(name: str, files: list[Document]) -> tuple[Node, list[Problem]]:
    root, strange = Node({}, Place(name, 0, 0), Place(name, 0, 0)), []
    for document in files:
        if document.root and isinstance(document.root.value, dict):
            root = _merged(root, document.root)
        elif document.root:
            strange.append(document.root.place.problem("this is not a list of keys", "write KEY: VALUE lines"))
    return root, strange


def _is_empty(document: Document) -> bool:
    return document.root is None and not document.problems


def _empty(name: str) -> Problem:
    remedy = "appliance config show --commented lists every key"
    return Problem("warning", "the file says nothing: every key has its default", remedy, file=name)


def _merged(below: Node, above: Node) -> Node:
    """`above` wins; a section without any key says nothing."""
    if isinstance(below.value, dict) and above.value is None:
        return below
    if not (isinstance(below.value, dict) and isinstance(above.value, dict)):
        return above
    merged = dict(below.value)
    for name, node in above.value.items():
        merged[name] = _merged(merged[name], node) if name in merged else node
    return Node(merged, below.place, below.key)


def _validated(root: Node) -> tuple[dict[explain.Path, Problem], Settings]:
    """What is wrong by itself, and settings in which every such value is its default."""
    try:
        return {}, model.validate(_plain(root, frozenset()))
    except pydantic.ValidationError as error:
        wrong = explain.explained(root, error)
    # An item that is wrong, or has a key that is, spoils its list.
    lists = ({n for n, part in enumerate(path) if isinstance(part, int)} for path in wrong)
    spoilt = frozenset(path[: min(items, default=None)] for path, items in zip(wrong, lists, strict=True))
    return wrong, model.validate(_plain(root, spoilt))


def _plain(node: Node, without: frozenset[explain.Path], path: explain.Path = ()) -> Any:
    if isinstance(node.value, dict):
        below = ((name, item) for name, item in node.value.items() if (*path, name) not in without)
        return {
            name: _plain(item, without, (*path, name)) for name, item in below if not _says_nothing(path, name, item)
        }
    if isinstance(node.value, list):
        return [_plain(item, without, (*path, i)) for i, item in enumerate(node.value)]
    return node.value


def _says_nothing(path: explain.Path, name: str, node: Node) -> bool:
    """A section of which every key is commented out."""
    return node.value is None and explain.is_section((*path, name))


def _touched(finding: Finding, wrong: Mapping[explain.Path, Problem]) -> bool:
    """Whether a key of the finding, its section or one of its items is wrong by itself."""
    return any(path[: len(key)] == key[: len(path)] for key in finding.keys for path in wrong)


def _placed(root: Node, finding: Finding) -> Problem:
    """A finding at the first of its keys that is written somewhere; a default has no place."""
    key = explain.key_name(finding.keys[0])
    written = (node for path in finding.keys if (node := explain.node_at(root, path)))
    place = next((node.place for node in written), root.place)
    return place.problem(finding.what, finding.remedy, key, finding.severity)


def _sorted(problems: list[Problem], names: list[str]) -> tuple[Problem, ...]:
    problems = sorted(problems, key=lambda problem: (names.index(problem.file), problem.line, problem.column))
    if len(problems) > _MOST:
        more = f"{len(problems) - _MOST} more problems"
        problems = [*problems[:_MOST], Problem("error", more, "mend these first", file=problems[_MOST].file)]
    return tuple(problems)


def read(path: str | None) -> tuple[str, list[tuple[str, bytes]]]:
    """Name and documents of the configuration: `path`, else the system's file if present, else the embedded default.

    An appliance.yaml may have a folder conf.d beside it, whose *.yaml files follow in the order of their names. Raises
    ConfigError for a file that cannot be read.
    """
    if path is None and not os.path.lexists(SYSTEM_FILE):
        return EMBEDDED, [(EMBEDDED, embedded(os.environ, os.geteuid()))]
    main = SYSTEM_FILE if path is None else path
    folder = os.path.join(os.path.dirname(main), "conf.d")
    beside = os.path.basename(main) == os.path.basename(SYSTEM_FILE)
    extra = sorted(glob.glob(os.path.join(glob.escape(folder), "*.yaml"))) if beside else []
    return main, [(name, _content(name)) for name in (main, *extra)]


def _content(name: str) -> bytes:
    try:
        with open(name, "rb") as file:
            return file.read(LARGEST + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        what = f"cannot be read: {error.strerror if isinstance(error, OSError) else error}"
        raise ConfigError((Problem("error", what, _remedy(name, error), file=name),)) from None


def _remedy(name: str, error: Exception) -> str:
    if isinstance(error, PermissionError):
        return f"chmod a+r {name}, or run as root"
    if isinstance(error, IsADirectoryError):
        return f"name the file: -c {name.rstrip('/')}/appliance.yaml"
    return "name a file that exists: -c FILE; without -c an embedded default is used"


def embedded(environ: Mapping[str, str], uid: int) -> bytes:
    """The configuration of someone who has written none: unprivileged ports, a state folder of the user `uid`'s own."""
    state = _state_dir(environ, uid)
    run = _run_dir(environ, uid) or f"{state}/run"
    tree = _quoted(f"{state}/tree")
    hosts = ["127.0.0.1", "[::1]"] if _has_ipv6() else ["127.0.0.1"]  # a first try is nobody else's business
    listen = {f"listen_{port}": json.dumps([f"{host}:{port}" for host in hosts]) for port in (6969, 2121)}
    return _EMBEDDED.format(state=_quoted(state), run=_quoted(run), tree=tree, **listen).encode()


def _has_ipv6() -> bool:
    try:
        return bool(Path("/proc/net/if_inet6").read_text())
    except OSError:
        return False


def _state_dir(environ: Mapping[str, str], uid: int) -> str:
    state_home = environ.get("XDG_STATE_HOME", "")
    if state_home.startswith("/") and state_home.isprintable():  # the specification ignores relative ones
        return f"{os.path.normpath(state_home)}/appliance"
    home = environ.get("HOME") or _home(uid)
    if home.startswith("/") and home.isprintable() and os.access(home, os.W_OK | os.X_OK):
        return f"{os.path.normpath(home)}/.local/state/appliance"
    return f"/tmp/appliance-{uid}"  # noqa: S108 (whether it is ours is checked before it is used)


def _home(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_dir
    except KeyError:
        return ""


def _run_dir(environ: Mapping[str, str], uid: int) -> str:
    folder = environ.get("XDG_RUNTIME_DIR", "")
    try:
        found = os.stat(folder)
    except (OSError, ValueError):
        return ""
    usable = folder.startswith("/") and folder.isprintable() and stat.S_ISDIR(found.st_mode) and found.st_uid == uid
    return f"{os.path.normpath(folder)}/appliance" if usable else ""


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


_EMBEDDED = """\
state_dir: {state}
run_dir: {run}
confinement: best-effort
tftp:
  listen: {listen_6969}
  root: {tree}
ftp:
  listen: {listen_2121}
  root: {tree}
  passive_ports: "62000-62999"
  active: {{source_port: 0}}
  incoming: {{enabled: true, path: incoming, max_size: 256MiB, quota: 1GiB, per_client_quota: 512MiB}}
  limits: {{sessions: 1000}}
observe: {{log: text}}
"""
