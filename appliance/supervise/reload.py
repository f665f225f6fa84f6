"""One reload, from the first byte read to the last old worker told to finish. Nothing is touched before all new
workers serve.

Also used to roll one service whose folder was replaced: the same, without reading.
"""

from __future__ import annotations

import selectors
import time
from typing import TYPE_CHECKING

from appliance.errors import StartError
from appliance.observe import events
from appliance.supervise.acts import Asker
from appliance.supervise.change import Change, difference
from appliance.supervise.group import Group
from appliance.supervise.listeners import close_except
from appliance.supervise.reading import BadConfiguration, Reading, Wiring
from appliance.supervise.service import Service
from appliance.supervise.slot import WorkerSlot
from appliance.supervise.states import Event

if TYPE_CHECKING:
    from appliance.supervise.loop import Supervisor


class Reload:
    """See the module. `groups` are the new generations while they start."""

    def __init__(self, supervisor: Supervisor, asker: Asker | None) -> None:
        self.groups: list[Group] = []
        self._supervisor = supervisor
        self._asker = asker
        self._reading: Reading | None = None
        self._wiring: Wiring = supervisor.wiring
        self._change = Change((), (), ())
        self._trial = False  # of what was read; a folder that was replaced is followed whatever the files are like

    @classmethod
    def read(cls, supervisor: Supervisor, asker: Asker | None) -> Reload | None:
        """Begin by reading the configuration; None when that failed at once (and was told)."""
        reload = cls(supervisor, asker)
        supervisor.reload = reload
        try:
            reload._reading = Reading(supervisor.path, supervisor.name)
        except BadConfiguration as bad:
            reload._refuse(bad.problems, config=True)
            return supervisor.reload
        except OSError as error:
            reload._refuse([f"cannot read the configuration: {error.strerror}"])
            return supervisor.reload
        supervisor.selector.register(reload._reading, selectors.EVENT_READ, reload._answer)
        return reload

    @classmethod
    def roll(cls, supervisor: Supervisor, service: Service) -> Reload | None:
        """Begin with a new generation of one service."""
        reload = cls(supervisor, None)
        supervisor.reload = reload
        reload._begin(Change((), (service,), ()))
        return supervisor.reload

    # -- reading

    def _answer(self) -> None:
        assert self._reading is not None
        if not self._reading.feed():
            return
        try:
            wiring = self._reading.result()
        except BadConfiguration as bad:
            self._refuse(bad.problems, config=True)
        except StartError as error:
            self._refuse([str(error)])
        else:
            self._stop_reading()
            self._compare(wiring)

    def _stop_reading(self) -> None:
        if self._reading is not None:
            self._supervisor.selector.unregister(self._reading)
            self._reading.close()
            self._reading = None

    def _compare(self, wiring: Wiring) -> None:
        for name in ("run_dir", "state_dir"):
            if getattr(wiring, name) != getattr(self._supervisor.wiring, name):
                self._refuse([f"{name} cannot change while running (restart the appliance)"], config=True)
                return
        try:
            self._supervisor.renew_records(wiring.services)
        except StartError as error:
            self._refuse([str(error)])
            return
        self._supervisor.releases.look(wiring.services)
        self._wiring, self._trial = wiring, True
        renewed = frozenset(name for name, group in self._supervisor.groups.items() if group.renewed)
        self._begin(difference(self._supervisor.wiring.services, wiring.services, renewed))

    # -- starting the new generations

    def _begin(self, change: Change) -> None:
        self._change = change
        try:
            for service in (*change.added, *change.replaced):
                self.groups.append(self._make(service))
        except StartError as error:
            self._refuse([str(error)])
            return
        except Exception as error:  # otherwise the reload would never be over, and no other could begin
            self._supervisor.log.crash("reload")
            self._refuse([f"cannot make the new workers: {error}"])
            return
        now = time.monotonic()
        for group in self.groups:
            group.start(now)
        self._look()

    def _make(self, service: Service) -> Group:
        current = self._supervisor.groups.get(service.name)
        have = current.bound if current else {}
        bound = self._supervisor.bind(service, have)
        try:
            newly = current is not None and (current.renewed or current.service.files != service.files)
            return self._supervisor.generation(service, bound, trial=self._trial and newly)
        except BaseException:
            close_except(bound, have)
            raise

    def slot_changed(self, slot: WorkerSlot) -> None:
        """A slot took a step: the new generation may be complete, or cannot start."""
        if any(slot in group.slots for group in self.groups):
            if slot.failures:
                self._refuse(
                    [f"{slot.service.name}: a new worker cannot start ({slot.last_exit}; its log line says why)"]
                )
            else:
                self._look()

    def _look(self) -> None:
        if self._reading is None and all(group.complete for group in self.groups):
            self._commit()

    def timer(self, now: float) -> None:
        """Give a reader up that does not answer."""
        if self._reading is not None and now > self._reading.deadline:
            self._refuse(["the settings reader did not answer"])

    # -- the end, either way

    def _commit(self) -> None:
        supervisor, now = self._supervisor, time.monotonic()
        new, self.groups = {group.service.name: group for group in self.groups}, []
        leaving = [supervisor.groups[name] for name in (*new, *self._change.removed) if name in supervisor.groups]
        current = {**supervisor.groups, **new}
        supervisor.groups = {s.name: current[s.name] for s in self._wiring.services}
        if self._wiring.log != supervisor.wiring.log:
            supervisor.log.take(self._wiring.log)
        supervisor.wiring = self._wiring
        supervisor.admit()
        supervisor.old += leaving
        supervisor.hand_over()
        for group in leaving:
            successor = new.get(group.service.name)
            close_except(group.bound, successor.bound if successor else {})
            group.tell(Event.RETIRE, now)
        self._tell(True, [f"reloaded: {self._change}", *self._wiring.warnings])

    def abandon(self, reason: str) -> None:
        """Give up and end what was started; the supervisor is going another way."""
        self._undo()
        self._supervisor.reload = None
        if self._asker is not None:
            self._asker.end(False, reason)

    def _refuse(self, lines: list[str], *, config: bool = False) -> None:
        self._undo()
        self._tell(False, [*lines, "nothing was changed"], config=config)

    def _undo(self) -> None:
        self._stop_reading()
        now = time.monotonic()
        groups, self.groups = self.groups, []
        self._supervisor.old += groups
        for group in groups:
            current = self._supervisor.groups.get(group.service.name)
            close_except(group.bound, current.bound if current else {})
            group.tell(Event.END, now)

    def _tell(self, done: bool, lines: list[str], *, config: bool = False) -> None:
        log = self._supervisor.log
        self._supervisor.tell(events.Reload(int(done), "; ".join(lines).encode("utf-8", "backslashreplace")))
        for line in lines:
            (log.info if done else log.error)("reload", result=line)
            if self._asker is not None:
                self._asker.say(line)
        if self._asker is not None:
            self._asker.end(done, config=config)
        self._supervisor.reload_over()
