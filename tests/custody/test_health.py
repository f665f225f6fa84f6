"""custody.health: a fault is shown while a rehearsal fails, told once, and looked for without end or haste."""

from __future__ import annotations

import errno
from types import SimpleNamespace
from typing import Any, cast

import pytest

from appliance.custody import health
from appliance.custody.health import AGAIN_S, Health


class World:
    """A store whose rehearsals end with `errors`, one each, the last one for ever."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *errors: int) -> None:
        self.errors, self.rehearsals, self.fault, self.told = list(errors), 0, 0, list[str]()
        monkeypatch.setattr(health.store, "rehearse", self.rehearse)
        log = SimpleNamespace(error=self.tell, info=self.tell)
        self.health = Health(cast(Any, SimpleNamespace(set=self.set)), cast(Any, log))

    def rehearse(self) -> None:
        self.rehearsals += 1
        error = self.errors.pop(0) if len(self.errors) > 1 else self.errors[0]
        if error:
            raise OSError(error, "no")

    def set(self, name: str, value: int) -> None:
        assert name == "fault"
        self.fault = value

    def tell(self, text: str, **_more: Any) -> None:
        self.told.append(text)


def test_a_fault_is_told_once_and_goes_when_it_is_mended(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, errno.EROFS, errno.EROFS, errno.EIO, 0)
    world.health.turn(100.0)  # the first one looks without being asked
    assert world.fault == errno.EROFS
    for turn in range(1, 60):
        world.health.turn(100.0 + turn)
    assert world.told == ["uploads cannot be stored"] * 2 + ["uploads are stored again"]
    assert world.fault == 0 and world.rehearsals == 4  # none any more once it works


def test_what_only_one_upload_had_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, 0)
    world.health.doubt()
    for turn in range(5):
        world.health.turn(100.0 + turn)
    assert (world.fault, world.told, world.rehearsals) == (0, [], 1)


def test_a_thousand_doubts_cost_one_rehearsal_and_the_last_of_them_is_not_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(monkeypatch, 0, errno.ENOSPC)
    for _ in range(1000):
        world.health.doubt()
        world.health.turn(100.0)
    assert world.rehearsals == 1
    for turn in range(int(AGAIN_S)):
        world.health.turn(101.0 + turn)
        world.health.doubt()
    assert (world.rehearsals, world.fault) == (2, errno.ENOSPC)
