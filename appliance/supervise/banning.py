"""Who asks for bans, and who is told of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from appliance import wire
from appliance.observe import events
from appliance.observe.log import Log
from appliance.supervise.acts import Asker
from appliance.supervise.bans import Bans
from appliance.supervise.slot import WorkerSlot
from appliance.supervise.states import Slot

RIGHT = "ban"  # of a service: to ask for bans, and to be told of them


class Banning:
    """The table of bans, kept in step with what the workers were told. `slots` are all that are not gone."""

    def __init__(
        self, log: Log, slots: Callable[[], Iterable[WorkerSlot]], tell: Callable[[events.Event], None]
    ) -> None:
        """`tell` tells the events service."""
        self.table = Bans()
        self._log, self._slots, self._tell = log, slots, tell

    def greet(self, slot: WorkerSlot) -> None:
        """Tell a worker that serves from now on."""
        if RIGHT in slot.service.requests:
            now = time.monotonic()
            for client, entry in self.table.active(now).items():
                slot.send(wire.Ban(max(1, round(entry.until - now)), client))

    def offence(self, slot: WorkerSlot, offence: wire.Offence) -> None:
        """A worker asks for a ban."""
        seconds = self.table.offence(offence.client, offence.seconds, time.monotonic())
        self._log.warning("client banned", client=offence.client, service=slot.service.name, seconds=seconds)
        self._spread(offence.client, seconds, slot.service.name)

    def by_hand(self, words: list[str], asker: Asker) -> None:
        """An administrator says `ban CLIENT SECONDS` or `unban CLIENT`."""
        client = words[1]
        if words[0] == "unban":
            done = self.table.lift(client)
            if done:
                self._log.info("ban lifted", client=client, service="administrator")
                self._spread(client, 0, "administrator")
            asker.end(done, f"{client} is served again" if done else f"{client} was not banned")
            return
        seconds = self.table.by_hand(client, int(words[2]), time.monotonic())
        self._log.warning("client banned", client=client, service="administrator", seconds=seconds)
        self._spread(client, seconds, "administrator")
        asker.end(True, f"{client} is not served for {seconds} s")

    def _spread(self, client: str, seconds: int, by: str) -> None:
        self._tell(events.Ban(seconds, client.encode(), by.encode()))
        for slot in self._slots():
            if RIGHT in slot.service.requests and slot.state in (Slot.SERVING, Slot.RETIRING):  # it has sessions too
                slot.send(wire.Ban(seconds, client))
