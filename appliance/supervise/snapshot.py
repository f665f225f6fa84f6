"""The document that `status --json` prints, built when it is asked for."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING

from appliance import __version__
from appliance.supervise import facts
from appliance.supervise.states import Run

if TYPE_CHECKING:
    from appliance.supervise.loop import Supervisor

_LARGEST = 120_000  # fits one message of the channel


class Snapshot:
    """Looks at the supervisor; changes nothing."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._born = time.monotonic()

    @property
    def ready(self) -> bool:
        """Every listener of every service is served."""
        supervisor = self._supervisor
        return supervisor.state in (Run.SERVING, Run.RELOADING) and all(g.serving for g in supervisor.groups.values())

    def text(self) -> bytes:
        """The document as JSON."""
        supervisor = self._supervisor
        groups = list(supervisor.groups.values())
        document = {
            "config": supervisor.name,
            "ready": self.ready,
            "state": supervisor.state.value,
            "pid": os.getpid(),
            "version": __version__,
            "uptime_s": round(time.monotonic() - self._born, 1),
            "services": facts.services(groups, supervisor.old, supervisor.releases.facts, supervisor.totals),
            "bans": facts.bans(supervisor.bans.table.active(time.monotonic()), time.monotonic()),
            "problems": self.problems(),
        }
        text = json.dumps(document).encode()
        if len(text) > _LARGEST:
            text = json.dumps({**document, "services": {}, "bans": [], "problems": [_TOO_LARGE]}).encode()
        return text

    def problems(self) -> list[dict[str, str]]:
        """What an operator should know now, each with the remedy."""
        supervisor = self._supervisor
        services = supervisor.wiring.services
        return [
            *facts.problems(supervisor.groups.values(), supervisor.wiring.warnings),
            *(facts.problem("error", *found) for found in supervisor.releases.problems(services)),
            *(facts.problem(one.severity, one.what, one.remedy) for one in supervisor.naming.problems(services)),
            *(facts.problem("warning", *found) for found in supervisor.lookout.problems()),
        ]

    def summary(self) -> str:
        """One line for systemd."""
        groups = self._supervisor.groups.values()
        return "Serving " + ", ".join(f"{g.service.name} on {' '.join(g.addresses())}" for g in groups if g.public)

    def level(self) -> str:
        """The weakest confinement of all workers: full, user or partial."""
        levels = {slot.report.level for group in self._supervisor.groups.values() for slot in group.slots}
        return next(level for level in ("partial", "user", "full") if level in levels)


_TOO_LARGE = facts.problem("warning", "too many workers to show", "ask for fewer workers")
