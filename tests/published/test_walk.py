"""published.walk: links never lead into the folder of the releases, whichever way they take."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from appliance.published.walk import Guard, KeptOut, folder_at, walk
from tests.published import trees


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    trees.release(tmp_path, 1, {"kernel": b"k", "deep/initrd": b"i"})
    trees.make(tmp_path, {"file": b"f", "sub/file": b"s"})
    (tmp_path / "direct").symlink_to(f".releases/{trees.name(1)}/kernel")
    (tmp_path / "folder").symlink_to(f"/.releases/{trees.name(1)}")
    (tmp_path / "sub" / "up").symlink_to(f"../sub/../.releases/{trees.name(1)}/deep")
    (tmp_path / "two").symlink_to("direct")
    (tmp_path / "right").symlink_to("sub/file")
    (tmp_path / "loop").symlink_to("loop")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(path: bytes) -> tuple[int, int]:
    facts = os.stat(path)
    return facts.st_dev, facts.st_ino


@pytest.mark.parametrize("path", [b"direct", b"two", b"sub/up/initrd", b"sub/up"])
def test_a_link_into_the_releases_leads_astray(root: Path, path: bytes) -> None:
    guard = Guard()
    assert guard.astray(path, found(path))
    assert guard.astray(path, found(path))  # and it is not forgotten
    with pytest.raises(KeptOut):
        walk(path.split(b"/"), [folder_at(b".releases") or (0, 0)])


def test_an_absolute_link_begins_at_the_root(root: Path) -> None:
    with pytest.raises(KeptOut):
        walk([b"folder", b"kernel"], [folder_at(b".releases") or (0, 0)])


def test_everything_else_is_right_and_looked_at_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guard = Guard()
    for path in (b"file", b"right", b"sub/file", b"sub", b"."):
        assert not guard.astray(path, found(path))
    monkeypatch.setattr("appliance.published.walk.walk", lambda *_: pytest.fail("walked again"))
    for path in (b"file", b"right", b"sub/file", b"sub", b"."):
        assert not guard.astray(path, found(path))


def test_a_link_that_is_turned_is_looked_at_again(root: Path) -> None:
    guard = Guard()
    assert not guard.astray(b"right", found(b"right"))
    (root / "right").unlink()
    (root / "right").symlink_to(f".releases/{trees.name(1)}/kernel")
    assert guard.astray(b"right", found(b"right"))


def test_without_releases_nothing_leads_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert folder_at(b".releases") is None
    (tmp_path / "a").touch()
    assert not Guard().astray(b"a", found(b"a"))
    assert not Guard().astray(b"gone", (1, 1))


def test_what_the_guard_remembers_has_a_bound(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.published.walk._REMEMBERED", 3)
    guard = Guard()
    for number in range(10):
        (root / str(number)).touch()
        assert not guard.astray(str(number).encode(), found(str(number).encode()))
    assert list(guard._right) == [b"7", b"8", b"9"]


def test_links_in_a_ring_end_as_in_the_kernel(root: Path) -> None:
    with pytest.raises(OSError, match="Too many levels"):
        walk([b"loop"])
