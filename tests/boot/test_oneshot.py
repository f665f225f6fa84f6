"""boot.oneshot: every way that a one-shot boot goes, and that none of them installs for ever."""

from __future__ import annotations

import pytest

from appliance.boot.armed import Armed
from appliance.boot.oneshot import ALL, ANSWERS, KEPT_S, NOTHING, TABLE, Happened, OneShot, Stage

CONFIG, KERNEL, INITRD, DONE = "pxelinux.cfg/01-aa", "d/linux", "d/initrd", "done/web-1"
ARMED = Armed("0" * 16, "web-1", "debian", 7, (CONFIG, "grub.cfg-01-aa"), (KERNEL, INITRD), 1000, DONE)
SHOT = OneShot(ARMED)


def after(*fetches: tuple[str, str], shot: OneShot = SHOT, layer: str = "release") -> OneShot:
    """What was fetched: client and name."""
    for client, name in fetches:
        shot = shot.fetched(client, name, "once" if name in ARMED.configs else layer, 5)
    return shot


def test_whoever_fetched_the_configuration_and_then_all_of_it_has_loaded() -> None:
    shot = after(("a", CONFIG), ("a", KERNEL))
    assert (shot.stage, shot.client, shot.got, shot.serves) == (Stage.ARMED, "a", (KERNEL,), ALL)
    shot = after(("a", INITRD), shot=shot)
    assert (shot.stage, shot.at, shot.serves) == (Stage.LOADED, 5, ANSWERS)
    assert after(("a", INITRD), ("a", CONFIG), ("a", KERNEL), ("a", INITRD), shot=shot) == shot


@pytest.mark.parametrize(
    "fetches",
    [
        [("a", KERNEL), ("a", INITRD)],
        [("a", CONFIG), ("b", KERNEL), ("b", INITRD)],
        [("a", CONFIG), ("a", KERNEL), ("a", KERNEL)],
        [("a", CONFIG), ("a", KERNEL), ("a", CONFIG), ("a", INITRD)],
        [("a", CONFIG), ("a", KERNEL), ("b", CONFIG), ("a", INITRD)],
        [("a", CONFIG), ("a", "else"), ("a", INITRD)],
    ],
)
def test_anything_less_leaves_it_armed(fetches: list[tuple[str, str]]) -> None:
    assert after(*fetches).stage is Stage.ARMED


def test_the_configuration_of_every_day_begins_nothing() -> None:
    shot = SHOT.fetched("a", CONFIG, "overlay", 5)
    assert shot == SHOT and after(("a", KERNEL), ("a", INITRD), shot=shot) == SHOT


def test_the_installer_confirms_before_and_after() -> None:
    assert after(("a", CONFIG), ("a", DONE)).stage is Stage.CONFIRMED
    loaded = after(("a", CONFIG), ("a", KERNEL), ("a", INITRD))
    assert after(("z", DONE), shot=loaded).serves == NOTHING


def test_time_ends_what_never_began_and_what_was_loaded_stays_unconfirmed_and_is_served_nothing() -> None:
    assert SHOT.tick(999) == SHOT
    assert (SHOT.tick(1000).stage, SHOT.tick(1000).serves) == (Stage.EXPIRED, NOTHING)
    loaded = after(("a", CONFIG), ("a", KERNEL), ("a", INITRD))
    late = loaded.tick(2000)
    assert loaded.tick(999) is loaded and late.tick(3000) is late
    assert (late.stage, late.at, late.serves) == (Stage.LOADED, 5, NOTHING)  # an answer file may hold secrets
    assert not late.over(1 << 40) and late.fetched("z", DONE, "once", 2001).stage is Stage.CONFIRMED


def test_a_gap_ends_what_had_begun_and_nothing_else() -> None:
    assert SHOT.unseen(5) == SHOT
    assert after(("a", CONFIG)).unseen(6).stage is Stage.LOADED


def test_what_has_ended_is_remembered_for_a_while() -> None:
    gone = SHOT.tick(1000)
    assert not gone.over(1000 + KEPT_S) and gone.over(1001 + KEPT_S)
    assert not SHOT.over(10**9)


@pytest.mark.parametrize("stage", list(Stage))
@pytest.mark.parametrize("happened", list(Happened))
def test_a_one_shot_never_goes_back(stage: Stage, happened: Happened) -> None:
    order = list(Stage)
    found = OneShot(ARMED, stage).on(happened, 1).stage
    assert order.index(found) >= order.index(stage)
    assert (found is not stage) == (TABLE.get((stage, happened), stage) is not stage)
