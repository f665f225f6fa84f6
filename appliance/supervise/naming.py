"""What the resolver says of names, and who is told."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from appliance import wire
from appliance.errors import Problem
from appliance.observe.log import Log
from appliance.supervise.addresses import Addresses
from appliance.supervise.service import Service
from appliance.supervise.slot import WorkerSlot
from appliance.supervise.states import Slot

RIGHT = "address"  # of a service: to be told the addresses of names
RESOLVER = "resolver"


class Naming:
    """The addresses of names, kept in step with what the workers were told. `slots` are all that are not gone."""

    def __init__(self, log: Log, slots: Callable[[], Iterable[WorkerSlot]]) -> None:
        self.table = Addresses()
        self._log, self._slots = log, slots

    def greet(self, slot: WorkerSlot) -> None:
        """Tell a worker that serves from now on."""
        if RIGHT in slot.service.requests:
            for name, address in self.table.known.items():
                slot.send(wire.Address(address, name))

    def resolved(self, slot: WorkerSlot, message: wire.Resolved) -> bool:
        """Take the resolver's word; False when it may not speak of this name."""
        if message.name not in names(slot.service):
            return False
        if self.table.learn(message.name, message.address):
            self._log.info("address", name=message.name, address=message.address)
            for worker in self._slots():
                if RIGHT in worker.service.requests and worker.state is Slot.SERVING:
                    worker.send(wire.Address(message.address, message.name))
        return True

    def keep(self, services: Iterable[Service]) -> None:
        """Forget the names that these services do not have."""
        self.table.keep(name for service in services for name in names(service))

    def problems(self, services: Iterable[Service]) -> list[Problem]:
        """What `status` should say."""
        return [problem for service in services for problem in self.table.problems(names(service))]


def names(service: Service) -> list[str]:
    """What this service may speak of: the resolver alone has names."""
    return list(service.settings["names"]) if service.name == RESOLVER else []
