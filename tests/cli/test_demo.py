from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from appliance.cli import demo
from appliance.errors import ApplianceError


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "BIG", 2 << 20)


@pytest.mark.usefixtures("small")
def test_the_tree_has_what_the_tour_promises(tmp_path: Path) -> None:
    root = tmp_path / "state" / "tree"
    assert demo.make(str(root), "incoming")
    found = {str(path.relative_to(root)) for path in root.rglob("*")}
    assert found >= {"README", "hello.txt", "big.bin", "pxelinux.cfg/default", "a/b/c/three.txt", "incoming"}
    assert (root / "hello.txt").read_text() == "Hello from the appliance.\n"
    assert os.listdir(root.parent) == ["tree"]


def test_big_is_64_mib_and_the_same_everywhere() -> None:
    assert demo.BIG == 64 * 1024 * 1024
    assert demo.piece(0)[:8].hex() == "8f970ca42c849ca0"
    assert demo.piece(0) != demo.piece(1)


@pytest.mark.usefixtures("small")
def test_everyone_may_read_the_tree_whatever_the_umask_and_nobody_the_drop_box(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        demo.make(str(tmp_path / "tree"), "incoming")
    finally:
        os.umask(before)
    root = tmp_path / "tree"
    assert (root / "incoming").stat().st_mode & 0o777 == 0o700
    for path in [root, *root.rglob("*")]:
        if path.name != "incoming":
            assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644)


@pytest.mark.usefixtures("small")
def test_it_is_made_once_and_what_was_changed_or_removed_stays_so(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    demo.make(str(root), "incoming")
    (root / "hello.txt").write_text("mine\n")
    (root / "big.bin").unlink()
    assert not demo.make(str(root), "incoming")
    assert (root / "hello.txt").read_text() == "mine\n"
    assert not (root / "big.bin").exists()


def test_a_dangling_link_in_its_place_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "tree").symlink_to("nowhere")
    assert not demo.make(str(tmp_path / "tree"), "incoming")
    assert os.listdir(tmp_path) == ["tree"]


@pytest.mark.usefixtures("small")
def test_a_failure_in_the_middle_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_number: int) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(demo, "piece", fail)
    with pytest.raises(ApplianceError, match=r"No space left on device \(choose another place with XDG_STATE_HOME"):
        demo.make(str(tmp_path / "tree"), "incoming")
    assert os.listdir(tmp_path) == []


@pytest.mark.usefixtures("small")
def test_two_first_starts_at_once_make_one_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, rename = tmp_path / "tree", os.rename

    def late(source: str, target: str) -> None:
        shutil.copytree(source, target)  # the other start was quicker
        rename(source, target)

    monkeypatch.setattr(os, "rename", late)
    assert not demo.make(str(root), "incoming")
    assert (root / "hello.txt").exists()
    assert os.listdir(tmp_path) == ["tree"]
