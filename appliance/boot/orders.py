"""What the command line has the publisher do; content of any size goes along as descriptors."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from appliance.boot import records, talk
from appliance.boot.children import Child
from appliance.boot.publish import Keep
from appliance.boot.records import BootError, Given, Release

_STEP_S = 7200.0
_BATCH = 50


@dataclass(frozen=True, slots=True)
class Served:
    """What is served after an order. `how`: files linked, cloned and copied into the roots."""

    id: str
    overlay: int
    unchanged: bool
    how: Mapping[str, int]


def take(publisher: Child, contents: Iterable[bytes]) -> None:
    """Rendered files into the store. Raises BootError."""
    waiting = list(contents)
    for start in range(0, len(waiting), _BATCH):
        batch = waiting[start : start + _BATCH]
        with documents(*batch) as fds:
            most = max(map(len, batch))
            publisher.ask({"verb": "take", "most": most, "expected": [None] * len(fds)}, fds, _STEP_S)


def publish(publisher: Child, release: Release, overlay: Sequence[Given], keep: Keep) -> Served:
    """Serve a release and an overlay from now on. Raises BootError; then all is as it was."""
    with documents(records.encode(release), *_packed(overlay)) as fds:
        return _served(publisher.ask({"verb": "publish", **_kept(keep)}, fds, _STEP_S))


def rollback(publisher: Child, name: str, overlay: Sequence[Given], now: int) -> Served:
    """Serve an older release again. Raises BootError."""
    with documents(*_packed(overlay)) as fds:
        return _served(publisher.ask({"verb": "rollback", "id": name, "now": now}, fds, _STEP_S))


def render(publisher: Child, overlay: Sequence[Given], now: int) -> Served:
    """Serve the current release with a new overlay. Raises BootError."""
    with documents(*_packed(overlay)) as fds:
        return _served(publisher.ask({"verb": "render", "now": now}, fds, _STEP_S))


def collect(publisher: Child, keep: Keep, sources: Collection[str] | None) -> tuple[tuple[str, ...], int, int]:
    """Remove what no kept release needs: ids of releases, contents, their bytes. Raises BootError."""
    order = {"verb": "collect", **_kept(keep), "sources": None if sources is None else sorted(sources)}
    told = publisher.ask(order, (), _STEP_S)
    return tuple(map(str, told["releases"])), int(told["contents"]), int(told["size"])


def adopt(publisher: Child, release: Release) -> None:
    """Take over a release whose contents are in the store. Raises BootError."""
    with documents(records.encode(release)) as fds:
        publisher.ask({"verb": "adopt"}, fds, _STEP_S)


def _kept(keep: Keep) -> dict[str, Any]:
    held = None if keep.held is None else sorted(keep.held)
    return {"keep": keep.releases, "now": keep.now, "pin": keep.pin, "held": held}


@contextmanager
def documents(*contents: bytes) -> Iterator[tuple[int, ...]]:
    """Descriptors of files without a name."""
    with ExitStack() as opened:
        fds = []
        for content in contents:
            fds.append(talk.document(content))
            opened.callback(os.close, fds[-1])
        yield tuple(fds)


def _packed(overlay: Sequence[Given]) -> tuple[bytes, bytes]:
    """The index, and the contents one after the other."""
    index = [[one.root, one.path, one.content if isinstance(one.content, str) else len(one.content)] for one in overlay]
    return json.dumps(index).encode(), b"".join(one.content for one in overlay if isinstance(one.content, bytes))


def _served(told: dict[str, Any]) -> Served:
    try:
        return Served(
            records.release_id(told["id"]),
            int(told["overlay"]),
            bool(told["unchanged"]),
            {str(name): int(count) for name, count in told["how"].items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BootError("the publisher speaks nonsense") from error
