"""A one-shot boot as a table: armed, loaded, confirmed or expired. Pure: what was seen comes in, with its time.

A machine is who fetched one of its loader configurations from `once/`; it has loaded when the same address was sent
kernel and initrds whole, and from then on gets what it gets every day. Whatever cannot be told for certain ends the
one-shot: a machine that installs once too rarely is better than one that installs for ever.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from appliance.boot.armed import Armed

KEPT_S = 7 * 86400  # how long it is told how a one-shot ended


class Stage(Enum):
    """Where a one-shot is. A machine is unconfirmed while it is LOADED and its `confirm` says something."""

    ARMED = "armed"
    LOADED = "loaded"
    CONFIRMED = "confirmed"
    EXPIRED = "expired"


class Happened(Enum):
    """What moves a one-shot on."""

    BEGAN = "its loader configuration was fetched"
    WHOLE = "kernel and initrds were sent whole"
    UNSEEN = "it had begun, and what came next was not seen"
    DONE = "the installer says that it is done"
    TIME = "its time is over"


TABLE: dict[tuple[Stage, Happened], Stage] = {
    (Stage.ARMED, Happened.BEGAN): Stage.ARMED,
    (Stage.ARMED, Happened.WHOLE): Stage.LOADED,
    (Stage.ARMED, Happened.UNSEEN): Stage.LOADED,
    (Stage.ARMED, Happened.DONE): Stage.CONFIRMED,
    (Stage.ARMED, Happened.TIME): Stage.EXPIRED,
    (Stage.LOADED, Happened.DONE): Stage.CONFIRMED,
    (Stage.LOADED, Happened.TIME): Stage.LOADED,
}  # everything else changes nothing: CONFIRMED and EXPIRED are the end


@dataclass(frozen=True, slots=True)
class OneShot:
    """One armed machine and how far it is. `client` has begun; `got` of `armed.loads`; `at`: seconds since 1970.

    `late`: its time is over, so that nothing of it is served, even to an installer that is still at work.
    """

    armed: Armed
    stage: Stage = Stage.ARMED
    client: str = ""
    got: tuple[str, ...] = ()
    at: int = 0
    late: bool = False

    def on(self, happened: Happened, now: int) -> OneShot:
        """After this has happened; itself when that changes nothing."""
        stage = TABLE.get((self.stage, happened), self.stage)
        return self if stage is self.stage else replace(self, stage=stage, at=now)

    def fetched(self, client: str, name: str, layer: str, now: int) -> OneShot:
        """A client was sent a file whole. `layer`: where that lies, as events tell it."""
        if self.armed.confirm and name == self.armed.confirm:
            return self.on(Happened.DONE, now)
        if self.stage is not Stage.ARMED:
            return self
        if layer == "once" and name in self.armed.configs:
            return replace(self, client=client, got=(), at=now)
        if client != self.client or name not in self.armed.loads:
            return self
        got = tuple(load for load in self.armed.loads if load == name or load in self.got)
        further = replace(self, got=got)
        return further.on(Happened.WHOLE, now) if got == self.armed.loads else further

    def unseen(self, now: int) -> OneShot:
        """Events were lost: what a machine that has begun did meanwhile is not known."""
        return self.on(Happened.UNSEEN, now) if self.client else self

    def tick(self, now: int) -> OneShot:
        """Time passes."""
        if now < self.armed.expires or self.late:
            return self
        return replace(self.on(Happened.TIME, now), late=True)

    @property
    def serves(self) -> int:
        """How much of `once/` is served for it (published.view): ALL, ANSWERS or NOTHING."""
        if self.late:
            return NOTHING
        return {Stage.ARMED: ALL, Stage.LOADED: ANSWERS}.get(self.stage, NOTHING)

    def over(self, now: int) -> bool:
        """Nobody needs to know of it any more; of one that loaded and was not confirmed an operator does."""
        return self.stage in (Stage.CONFIRMED, Stage.EXPIRED) and now > self.at + KEPT_S


NOTHING, ANSWERS, ALL = range(3)  # ANSWERS: what an installer reads, not what a loader begins with
