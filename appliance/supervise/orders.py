"""What an administrator asks of the supervisor, by `act.sock` or a signal, and where each of it goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance import wire
from appliance.supervise.acts import Asker
from appliance.supervise.reload import Reload
from appliance.supervise.states import Run, Signal, Slot

if TYPE_CHECKING:
    from appliance.supervise.loop import Supervisor


class Orders:
    """`again`: who asked for a reload while none could begin."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._again: list[Asker | None] = []

    def act(self, word: bytes, asker: Asker | None) -> None:
        """One of the words of `acts`, whole and well-formed; `asker` is None for a signal."""
        supervisor = self._supervisor
        if asker is not None and word.startswith((b"ban ", b"unban ")):
            supervisor.bans.by_hand(word.decode("ascii").split(" "), asker)
        elif asker is not None and word.startswith(b"kick "):
            self._kick(word.decode("ascii").split(" "), asker)
        elif word == b"release":
            supervisor.releases.asked(supervisor.wiring.services, asker)
        elif word == b"pinned" and asker is not None:
            supervisor.releases.told_pinned(supervisor.pinned(), asker)
        elif word == b"reload":
            self._reload(asker)
        else:
            self._end(word, asker)

    def catch_up(self) -> None:
        """Everything serves: one reload for all who asked for it meanwhile."""
        again, self._again = self._again, []
        for asker in again[:1]:
            self._reload(asker)
        for asker in again[1:]:
            if asker is not None:
                asker.end(True, "joined the reload that runs")

    def _reload(self, asker: Asker | None) -> None:
        supervisor = self._supervisor
        before = supervisor.state
        if before is not Run.SERVING:
            self._again.append(asker)
        supervisor.signal(Signal.RELOAD)
        if before is Run.SERVING:
            supervisor.reload = Reload.read(supervisor, asker)

    def _end(self, word: bytes, asker: Asker | None) -> None:
        self._supervisor.signal(Signal.TERM if word == b"drain" else Signal.STOP)
        if asker is not None:
            asker.end(
                True, "draining: new clients are refused, running transfers finish" if word == b"drain" else "stopping"
            )

    def _kick(self, words: list[str], asker: Asker) -> None:
        service, _dot, index = words[1].partition(".")
        told = [
            slot.send(wire.Kick(int(words[2])))
            for slot in self._supervisor.slots()
            if (slot.service.name, str(slot.index)) == (service, index) and slot.state in (Slot.SERVING, Slot.RETIRING)
        ]
        self._supervisor.log.info("kick", worker=words[1], number=int(words[2]), told=len(told))
        asker.end(any(told), "told its worker" if any(told) else f"there is no worker {words[1]}")
