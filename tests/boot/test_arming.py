"""boot.arming: what is armed reaches the keeper's folder once, whole, and whatever lies there already."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from appliance.boot import armed
from appliance.boot.arming import hand_over
from appliance.boot.model import Once, Owned

KEY = "0123456789abcdef"
ONCE = Owned("web-1", "debian", ("pxelinux.cfg/01-aa",), ("d/linux", "d/initrd"), (), (), Once("debian", 1 << 31, KEY))
PLAIN = Owned("web-2", "debian", ("pxelinux.cfg/01-bb",), ("d/linux",), ())
DISK = Owned("web-3", "disk", ("pxelinux.cfg/01-cc",), (), (), (), Once("disk", 1 << 31, "f" * 16))


def test_each_one_shot_is_handed_over_once(tmp_path: Path) -> None:
    folder = tmp_path / "armed"
    folder.mkdir()
    assert hand_over(str(tmp_path), [ONCE, PLAIN, DISK], 7) == 1
    (place,) = folder.iterdir()
    found = armed.decode(place.read_bytes())
    assert (place.name, found.machine, found.overlay, found.loads) == (f"{KEY}.json", "web-1", 7, ONCE.loads)
    assert place.stat().st_mode & 0o777 == 0o644
    assert hand_over(str(tmp_path), [ONCE], 8) == 0
    assert armed.decode(place.read_bytes()) == found


def test_what_the_keeper_may_have_put_there_is_neither_followed_nor_written(tmp_path: Path) -> None:
    (tmp_path / "armed").mkdir()
    (tmp_path / "victim").write_text("whole")
    (tmp_path / "armed" / f"{KEY}.given").symlink_to("../victim")
    assert hand_over(str(tmp_path), [ONCE], 7) == 1
    assert (tmp_path / "victim").read_text() == "whole"
    assert not (tmp_path / "armed" / f"{KEY}.json").is_symlink()
    os.rename(tmp_path / "armed", tmp_path / "other")
    (tmp_path / "armed").symlink_to("other")
    with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        hand_over(str(tmp_path), [ONCE], 7)


def test_without_a_keeper_that_ever_ran_it_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        hand_over(str(tmp_path), [ONCE], 7)
