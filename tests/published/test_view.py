"""published.view: what a worker was told, at its birth and later."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from appliance.published.layers import PLAIN, index_text
from appliance.published.pins import SIZE, Pins
from appliance.published.view import Published
from tests.published import trees


def test_nothing_is_published_before_somebody_says_so() -> None:
    published = Published()
    published.born(None)
    assert published.current == PLAIN and not published.on


def test_the_release_that_was_told_last_is_in_force() -> None:
    published = Published()
    published.born({"known": [[1, trees.name(1)], [2, trees.name(2)]], "now": [2, trees.name(2), 5]})
    assert published.on
    assert published.current.places(b"a") == (
        b".releases/overlay-5/a",
        f".releases/{trees.name(2)}/a".encode(),
        b"a",
    )
    published.take(1, trees.name(1), 6)
    assert published.current[:3] == (1, b".releases/overlay-6/", f".releases/{trees.name(1)}/".encode())


def test_what_is_remembered_has_a_bound() -> None:
    published = Published()
    for number in range(1, 1000):
        published.take(number, trees.name(number), number)
    assert published.current.number == 999
    assert len(published._releases) == 256


@pytest.fixture
def pinning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Published:
    monkeypatch.chdir(tmp_path)
    for number in (1, 2):
        trees.release(tmp_path, number, {})
    published = Published(Pins(600.0))
    published.take(1, trees.name(1), 1)
    return published


def seen(published: Published, client: str = "a", *, fresh: bool = False) -> tuple[int, bytes, bytes]:
    layers = published.layers(client, fresh=fresh)
    return layers.number, layers.overlay, layers.release


OLD = (1, b".releases/overlay-2/", f".releases/{trees.name(1)}/".encode())
NEW = (2, b".releases/overlay-2/", f".releases/{trees.name(2)}/".encode())


def test_a_pinned_client_sees_its_release_with_the_present_overlay(pinning: Published) -> None:
    pinning.pin("a", pinning.layers("a", fresh=False).number)
    pinning.take(2, trees.name(2), 2)
    assert (seen(pinning), seen(pinning, "b"), seen(pinning, fresh=True)) == (OLD, NEW, NEW)
    assert (pinning.knows("a"), pinning.knows("b")) == (True, False)
    pinning.keep("a", 2)  # what ends now began with another, but it is pinned to this one
    assert seen(pinning) == OLD
    pinning.keep("b", 1)
    assert seen(pinning, "b") == OLD
    pinning.pin("a", 2)
    assert seen(pinning) == NEW


def test_who_is_being_sent_something_stays_pinned_however_long_that_takes(
    pinning: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.monotonic()
    pinning.pin("a", 1)
    pinning.take(2, trees.name(2), 2)
    for passed in range(0, 1300, 100):
        monkeypatch.setattr(time, "monotonic", lambda passed=passed: now + passed)
        pinning.renew(iter([("a", 1), ("nothing published", 0)]), now + passed)
        assert seen(pinning) == OLD
    calls: list[object] = []
    monkeypatch.setattr(Published, "keep", lambda _self, *what: calls.append(what))
    pinning.renew([("a", 1)], now + 1300)
    pinning.renew([("a", 1)], now + 1349)
    assert calls == []
    pinning.renew([("a", 1)], now + 1351)
    assert calls == [("a", 1)]


def test_a_release_that_is_not_known_or_not_there_is_not_served(pinning: Published, tmp_path: Path) -> None:
    pinning.pin("a", 77)
    assert seen(pinning) == (1, b".releases/overlay-1/", OLD[2])
    pinning.pin("a", 1)
    pinning.take(2, trees.name(2), 2)
    (tmp_path / ".releases" / trees.name(1)).rmdir()
    assert seen(pinning) == NEW


def test_a_release_that_a_sibling_has_heard_of_first_is_served(pinning: Published) -> None:
    table = memoryview(bytearray(SIZE)).cast("Q")
    sibling, ours = Pins(600.0, table), Pins(600.0)
    ours.link(1, table)
    sibling.in_force(2, trees.name(2), time.monotonic())
    sibling.pin("a", 2, time.monotonic())
    published = Published(ours)
    published.take(1, trees.name(1), 1)
    assert seen(published) == (2, b".releases/overlay-1/", NEW[2])
    table[5] = 0
    assert seen(published) == (2, b".releases/overlay-1/", NEW[2])  # it is known from then on


def test_without_anything_published_nobody_is_pinned() -> None:
    published = Published(Pins(600.0))
    published.pin("a", published.layers("a", fresh=False).number)
    published.keep("a", 0)
    assert published.layers("a", fresh=False) == PLAIN


def test_a_name_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="no name of a release"):
        Published().take(1, "../../etc", 1)


KEY = 0x0123456789ABCDEF


def test_of_a_one_shot_is_served_what_the_keeper_says_and_nothing_before(tmp_path: Path, pinning: Published) -> None:
    files = {"grub.cfg-01-aa": f"{KEY:016x}", "ks": f"{KEY:016x}", "other": "f" * 16}
    trees.overlay(tmp_path, 2, {"once/.index": index_text(files)})
    pinning.one_shot(KEY, 2)
    pinning.take(1, trees.name(1), 2)
    assert set(pinning.layers("a", fresh=True).once) == {b"grub.cfg-01-aa", b"ks"}
    assert pinning.layers("a", fresh=False).once[b"ks"] == b".releases/overlay-2/once/ks"
    pinning.one_shot(KEY, 1)
    assert set(pinning.layers("a", fresh=True).once) == {b"ks"}
    pinning.one_shot(KEY, 0)
    assert not pinning.layers("a", fresh=True).once
    late = Published()
    late.born({"known": [], "now": [1, trees.name(1), 2], "once": [[KEY, 2]]})
    assert set(late.layers("a", fresh=True).once) == {b"grub.cfg-01-aa", b"ks"}


def test_an_index_that_cannot_be_read_is_none(tmp_path: Path, pinning: Published) -> None:
    (tmp_path / ".releases" / "overlay-3" / "once" / ".index").mkdir(parents=True)
    pinning.one_shot(KEY, 2)
    pinning.take(1, trees.name(1), 3)
    assert not pinning.layers("a", fresh=True).once
