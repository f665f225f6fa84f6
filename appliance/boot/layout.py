"""From what is taken to single files: folders spread out over what the sources really have. Pure.

Invariant: every path of a root is there once, no path is at the same time a folder, and each is one that `tree_path`
takes; what a source holds beyond that is left out by name, never renamed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from appliance.boot.model import Root, Take
from appliance.boot.reading import tree_path
from appliance.errors import ConfigError, Problem
from appliance.settings.forms import Unfit
from appliance.settings.yamltext import clean

Listing = Mapping[str, int]  # the regular files of a source, links followed: member -> size in bytes
_MOST = 100


@dataclass(frozen=True, slots=True)
class Placed:
    """One file of a release: where it is served, and which member of which source it is."""

    root: Root
    path: str
    source: str
    member: str
    size: int


def layout(takes: Sequence[Take], listings: Mapping[str, Listing]) -> tuple[tuple[Placed, ...], tuple[str, ...]]:
    """Every file of the release, and the members that were left out because of their names.

    A source that is one file has the member "". A file that is taken by name wins over one that comes with a folder; of
    two folders the one taken later wins. Raises ConfigError with everything that is missing or in the way.
    """
    problems: list[Problem] = []
    left: list[str] = []
    placed: dict[tuple[Root, str], Placed] = {}
    for take in sorted(takes, key=lambda one: not one.path.endswith("/")):  # folders first
        for path, member, size in _members(take, listings.get(take.source, {}), problems, left):
            for root in take.roots:
                placed[root, path] = Placed(root, path, take.source, member, size)
    problems += _in_the_way(placed)
    if problems:
        raise ConfigError(tuple(problems[:_MOST]))
    return tuple(placed.values()), tuple(dict.fromkeys(left))


def _members(take: Take, listing: Listing, problems: list[Problem], left: list[str]) -> Iterator[tuple[str, str, int]]:
    if not take.path.endswith("/"):
        if take.member in listing:
            yield take.path, take.member, listing[take.member]
        elif not take.optional:
            problems.append(_missing(take, listing))
        return
    base, start = take.path.removeprefix("/"), take.member.removeprefix("/")
    found = False
    for member, size in sorted(listing.items()):
        if member.startswith(start) and member != start:
            found = True
            try:
                yield tree_path(base + member[len(start) :]), member, size
            except Unfit:
                left.append(f"{take.source}: {clean(member)}")
    if not found and not take.optional:
        problems.append(_missing(take, listing))


def _missing(take: Take, listing: Listing) -> Problem:
    what = f"{take.source} has no {take.member}" if take.member else f"{take.source} was not fetched"
    name = take.member.rstrip("/").rpartition("/")[2]
    near = sorted(member for member in listing if name and f"/{member}".endswith(f"/{name}"))[:3]
    remedy = f"there is {' and '.join(clean(one) for one in near)}" if near else "look into the source, and mend take:"
    return Problem("error", what, remedy if take.member else "run appliance boot fetch", f"tree: {take.path}")


def _in_the_way(placed: Mapping[tuple[Root, str], Placed]) -> Iterator[Problem]:
    for root, path in placed:
        parts = path.split("/")
        for i in range(1, len(parts)):
            above = "/".join(parts[:i])
            if (root, above) in placed:
                what = f"{above} is a file, and {path} would lie below it"
                yield Problem("error", what, "give one of them another path", f"tree: {path}")
