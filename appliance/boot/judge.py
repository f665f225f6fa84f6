"""Everything that is wrong with a manifest and its machines, as one list, before anything is fetched."""

from __future__ import annotations

import os
from collections.abc import Callable

from appliance.boot import folder, lint, plan
from appliance.errors import ConfigError, Problem


def judge(manifest: str, state_dir: str, root: str, now: int) -> list[Problem]:
    """Problems of the manifest at a path, its machines, templates and names; `now` is seconds since 1970.

    What lies in `root`, the folder of TFTP, by hand counts as being there.
    """
    try:
        loaded = folder.load(manifest, state_dir)
        found = loaded.resolved
        done = plan.plan(found.manifest, found.hosts, loaded.secrets, now)
    except ConfigError as error:
        return list(error.problems)
    everyone = plan.everyone(found.manifest, found.hosts)
    return lint.lint(lint.Tree(done, everyone, None, lambda _file, _length: b"", by_hand(root)))


def by_hand(root: str) -> Callable[[str], bool]:
    """Whether a path lies in the folder of TFTP itself, put there by a person."""
    return lambda path: os.path.isfile(os.path.join(root, path))
