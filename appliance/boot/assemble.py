"""From a plan and what was fetched to the files of a release and of an overlay. Pure.

Invariant: a file of the release is the content of a source that was noted as fetched, or was rendered by the planner.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from appliance.boot import grub, layout, model
from appliance.boot.records import BootError, Fetched, File, Given
from appliance.published.layers import INDEX, ONCE, index_text
from appliance.settings.plain import encode


@dataclass(frozen=True, slots=True)
class Tree:
    """Files of a release; `contents`: those that were rendered, by digest. `left_out`: members with unfit names.

    `placed`: those that come from sources, as the lint looks at them, with the digest of each.
    """

    files: tuple[File, ...]
    contents: Mapping[str, bytes]
    left_out: tuple[str, ...]
    placed: Mapping[layout.Placed, str] = field(default_factory=dict)


def listings(sources: tuple[model.Source, ...], fetched: Mapping[str, Fetched]) -> dict[str, dict[str, int]]:
    """What each source has, as the planner asks for it: a source that is one file has the member ""."""
    found: dict[str, dict[str, int]] = {}
    for source in sources:
        if (one := fetched.get(source.name)) is not None:
            single = is_single(source)
            found[source.name] = {"" if single else file.path: file.size for file in one.files}
    return found


def is_single(source: model.Source) -> bool:
    """Whether the source is one file as it is."""
    return source.unpack == "none" and source.kind != "dir"


def release(plan: model.Plan, fetched: Mapping[str, Fetched]) -> Tree:
    """The files of the release. Raises BootError for a source that is not there, ConfigError for what does not fit."""
    missing = [source.name for source in plan.sources if source.name not in fetched]
    if missing:
        raise BootError(f"not fetched yet: {', '.join(missing)} (appliance boot fetch)")
    for name, prefix in grub.images(plan.manifest).items():
        if not fetched[name].location.endswith(f" {prefix}"):
            raise BootError(f"{name} was made for another server or folder than {prefix} (appliance boot fetch)")
    placed, left_out = layout.layout(plan.takes, listings(plan.sources, fetched))
    single = {source.name: is_single(source) for source in plan.sources}
    members = {
        name: {"" if single.get(name) else file.path: file for file in one.files} for name, one in fetched.items()
    }
    found: dict[tuple[str, str], File] = {}
    for place in placed:
        file = members[place.source][place.member]
        origin = f"{file.origin}: {place.member}" if place.member else file.origin
        found[place.root, place.path] = File(place.path, file.size, file.sha256, origin, file.verified, (place.root,))
    contents: dict[str, bytes] = {}
    for one in plan.files:
        digest = hashlib.sha256(one.data).hexdigest()
        contents[digest] = one.data
        found[one.root, one.path] = File(one.path, len(one.data), digest, "rendered", "manifest", (one.root,))
    known = {place: members[place.source][place.member].sha256 for place in placed}
    return Tree(tuple(_joined(found)), contents, left_out, known)


def _joined(found: Mapping[tuple[str, str], File]) -> Iterator[File]:
    """One entry for a file that is the same in both roots."""
    for (root, path), file in sorted(found.items()):
        other = found.get(("tftp" if root == "ftp" else "ftp", path))
        if other is None or (other.sha256, other.origin) != (file.sha256, file.origin):
            yield file
        elif root == "ftp":
            yield File(path, file.size, file.sha256, file.origin, file.verified, ("tftp", "ftp"))


def overlay(made: model.Overlay, files: tuple[File, ...]) -> tuple[Given, ...]:
    """The files of an overlay; aliases are names for files of the release with these `files`."""
    trees = {root: {file.path: file for file in files if root in file.roots} for root in ("tftp", "ftp")}
    given: dict[tuple[str, str], Given] = {}
    keys: dict[str, dict[str, str]] = {"tftp": {}, "ftp": {}}
    for owned in made.machines:
        for one in _owned(owned, "", trees):
            given[one.root, one.path] = one
    for owned in made.once:
        for one in _owned(owned, f"{ONCE}/", trees):
            given[one.root, one.path] = one
            keys[one.root][one.path.removeprefix(f"{ONCE}/")] = owned.once.id if owned.once else ""
    for root, known in keys.items():
        if known:
            given[root, INDEX] = Given(root, INDEX, index_text(known))
    return tuple(given.values())


def _owned(owned: model.Owned, prefix: str, trees: Mapping[str, Mapping[str, File]]) -> Iterator[Given]:
    for alias in owned.aliases:
        tree = trees[alias.root]
        if alias.path.endswith("/"):
            for path, file in tree.items():
                if path.startswith(alias.target):
                    yield Given(alias.root, prefix + alias.path + path[len(alias.target) :], file.sha256)
        elif alias.target in tree:
            yield Given(alias.root, prefix + alias.path, tree[alias.target].sha256)
    for one in owned.files:
        yield Given(one.root, prefix + one.path, one.data)


def stored_plan(plan: model.Plan) -> Any:
    """What a release keeps, so that it can be rendered for machines again."""
    return {"manifest": encode(plan.manifest)}
