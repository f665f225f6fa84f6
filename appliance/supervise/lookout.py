"""What the supervisor sees to by the clock: workers that stand still, systemd's watchdog, folders that moved, problems
that begin and end, and the clock itself.
"""

from __future__ import annotations

import math
import os
import time
from typing import TYPE_CHECKING

from appliance.supervise.naming import RESOLVER
from appliance.supervise.reload import Reload
from appliance.supervise.slot import FRESH_S, HANG_S
from appliance.supervise.states import Event, Run
from appliance.supervise.troubles import Clock, Troubles, Unwritten

if TYPE_CHECKING:
    from appliance.supervise.group import Group
    from appliance.supervise.loop import Supervisor

_AGAIN_S = 1.0  # a sign of life that was withheld
_LOOK_S = 2.0
_RETRY_S = 10.0  # until workers that could not follow their folder try again


class Lookout:
    """`timer` is called in every turn of the loop."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._look_at = self._watchdog_at = 0.0
        self._troubles, self._clock, self._unwritten = Troubles(), Clock(), Unwritten()
        self._tried: dict[str, tuple[Group, float]] = {}  # whom to follow was tried with, and when it may be again
        self._made = os.stat(__file__).st_mtime - 86400  # of a build elsewhere, in whatever time zone

    @property
    def due(self) -> float:
        """When the watchdog wants the next sign; never where there is none."""
        return self._watchdog_at if self._supervisor.notify.watchdog_s else math.inf

    def timer(self, now: float) -> bool:
        """See to what is due; True when it has looked around."""
        around = now >= self._look_at
        if around:
            self._look_at = now + _LOOK_S
            self._replace_what_hangs(now)
            self._follow(now)
        if now >= self.due:
            self._feed(now)
        if around:
            self._look_for_troubles(now)
        return around

    def problems(self) -> list[tuple[str, str]]:
        """What is wrong with the clock and with the log, and the remedy."""
        return [
            *self._clock.problems(time.time(), _steady(), self._made),
            *self._unwritten.problems(time.monotonic()),
        ]

    def _dropped(self) -> int:
        return sum(self._supervisor.totals(name).get("log_dropped", 0) for name in self._supervisor.groups)

    def _look_for_troubles(self, now: float) -> None:
        self._unwritten.look(self._dropped(), now)
        step = self._clock.look(time.time(), _steady())
        if step:
            self._supervisor.log.warning("the clock was set", seconds=round(step))
        for fault in self._troubles.look(self._supervisor.snapshot.problems()):
            self._supervisor.tell(fault)

    def _feed(self, now: float) -> None:
        """A sign that was withheld is given as soon as all turn again: a worker that stands still now and then, but
        never long enough to be replaced, must not make systemd end everything.
        """
        notify = self._supervisor.notify
        still = any(slot.stands_still(now, FRESH_S) for slot in self._supervisor.slots())
        self._watchdog_at = now + (min(_AGAIN_S, notify.watchdog_s) if still else notify.watchdog_s)
        if not still:
            notify.send("WATCHDOG=1")

    def _replace_what_hangs(self, now: float) -> None:
        for slot in self._supervisor.slots():
            if slot.stands_still(now, HANG_S):
                self._supervisor.log.error("worker hangs", service=slot.service.name, worker=slot.index, pid=slot.pid)
                slot.tell_of("hangs")
                slot.event(Event.FAULT, now)

    def _follow(self, now: float) -> None:
        """Workers whose folder is another one now are replaced, and so is a resolver that has read what is old.

        Where that was refused it is tried again, less often, and the workers' group is `stuck` until then.
        """
        log = self._supervisor.log
        if self._supervisor.state is not Run.SERVING:
            return
        for name, group in list(self._supervisor.groups.items()):
            if group.serving and group.jail_moved() == "replaced":
                tried, again = self._tried.get(name, (None, 0.0))
                group.stuck = tried is group
                if group.stuck and now < again:
                    continue
                self._tried[name] = group, now + _RETRY_S
                log.warning("the folder was replaced; its workers follow", service=name, folder=group.service.jail)
            elif name == RESOLVER and group.renewed:
                log.info("name servers or hosts have changed; the resolver follows")
            else:
                continue
            self._supervisor.state = Run.RELOADING
            self._supervisor.reload = Reload.roll(self._supervisor, group.service)
            return


def _steady() -> float:
    """Seconds of a clock that nobody sets, and that does not stand still while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
