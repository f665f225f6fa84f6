"""Everything that is wrong with a manifest and its machines, as one list, before anything is fetched."""

from __future__ import annotations

from appliance.boot import folder, lint, plan
from appliance.errors import ConfigError, Problem


def judge(manifest: str, state_dir: str, now: int) -> list[Problem]:
    """Problems of the manifest at a path, its machines, templates and names; `now` is seconds since 1970."""
    try:
        loaded = folder.load(manifest, state_dir)
        found = loaded.resolved
        done = plan.plan(found.manifest, found.hosts, loaded.secrets, now)
    except ConfigError as error:
        return list(error.problems)
    everyone = plan.everyone(found.manifest, found.hosts)
    return lint.lint(lint.Tree(done, everyone, None, lambda _file, _length: b""))
