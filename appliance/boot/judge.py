"""Everything that is wrong with a manifest and its machines, as one list, before anything is fetched."""

from __future__ import annotations

import os
from collections.abc import Callable

from appliance.boot import folder, lint, plan
from appliance.errors import ConfigError, Problem
from appliance.settings import dhcp
from appliance.settings.boot import BootSettings

UNSEEN = "observe.events is off, so nobody sees machines boot, and nothing of a one-shot boot is served"


def judge(boot: BootSettings, state_dir: str, root: str, now: int, *, events: bool) -> list[Problem]:
    """Problems of a manifest, its machines, templates and names; `now` is seconds since 1970.

    What lies in `root`, the folder of TFTP, by hand counts as being there. `events`: whether observe.events is on.
    """
    try:
        loaded = folder.load(boot.manifest, state_dir)
        found = loaded.resolved
        done = plan.plan(found.manifest, found.hosts, loaded.secrets, now)
    except ConfigError as error:
        return list(error.problems)
    everyone = plan.everyone(found.manifest, found.hosts)
    told = dhcp.told(boot.dhcp, boot.dhcp_server.files)
    problems = lint.lint(lint.Tree(done, everyone, None, lambda _file, _length: b"", by_hand(root), told))
    if done.overlay.once and not events:
        armed, *others = [owned.key for owned in done.overlay.once]
        what = f"{UNSEEN}; {armed} is armed" + (f", and {len(others)} more" if others else "")
        problems.append(Problem("warning", what, "write observe: {events: true}", f"machines.{armed}"))
    return problems


def by_hand(root: str) -> Callable[[str], bool]:
    """Whether a path lies in the folder of TFTP itself, put there by a person."""
    return lambda path: os.path.isfile(os.path.join(root, path))
