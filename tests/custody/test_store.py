"""custody.store: names appear complete or not at all, whatever fails."""

from __future__ import annotations

import errno
import os
import stat
import time
from pathlib import Path

import pytest

from appliance.custody import store
from appliance.custody.wire import Reason


@pytest.fixture(autouse=True)
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def begun(content: bytes = b"content") -> store.Partial:
    partial = store.create()
    os.write(partial.fd, content)
    return partial


def test_a_partial_is_hidden_and_its_owners_alone(box: Path) -> None:
    partial = begun()
    (path,) = box.iterdir()
    assert path.name.startswith(".up-") and stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.read(partial.fd, 1)
    partial.discard()
    partial.discard()
    assert list(box.iterdir()) == []


def test_a_finished_upload_has_its_name_once(box: Path) -> None:
    assert begun().finish(b"a", 7) is None
    assert [path.name for path in box.iterdir()] == ["a"]
    assert stat.S_IMODE((box / "a").stat().st_mode) == 0o640


@pytest.mark.parametrize("size", [6, 8])
def test_another_size_than_the_one_received_is_incomplete(box: Path, size: int) -> None:
    partial = begun()
    assert partial.finish(b"a", size) is Reason.INCOMPLETE
    partial.discard()
    assert list(box.iterdir()) == []


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_a_name_that_exists_is_never_replaced(box: Path, kind: str) -> None:
    if kind == "file":
        (box / "a").write_bytes(b"first")
    elif kind == "folder":
        (box / "a").mkdir()
    else:
        (box / "a").symlink_to("/nonexistent")
    before = os.lstat(box / "a")
    partial = begun()
    assert store.exists(b"a")
    assert partial.finish(b"a", 7) is Reason.EXISTS
    partial.discard()
    assert os.lstat(box / "a").st_ino == before.st_ino


@pytest.mark.parametrize("call", ["fstat", "fsync", "fchmod", "link"])
def test_any_call_that_fails_leaves_nothing_under_the_name(
    box: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    partial = begun()

    def fail(*_args: object, **_options: object) -> None:
        raise OSError(errno.EIO, "planted")

    with monkeypatch.context() as patch:
        patch.setattr(store.os, call, fail)
        with pytest.raises(OSError, match="planted"):
            partial.finish(b"a", 7)
    partial.discard()
    assert list(box.iterdir()) == []


def test_a_folder_that_cannot_be_synced_leaves_nothing_under_the_name(
    box: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    partial = begun()

    def fail() -> None:
        raise OSError(errno.EIO, "planted")

    monkeypatch.setattr(store, "sync_folder", fail)
    with pytest.raises(OSError, match="planted"):
        partial.finish(b"a", 7)
    partial.discard()
    assert list(box.iterdir()) == []


def test_a_start_removes_partials_and_nothing_else(box: Path) -> None:
    begun().close()
    begun().close()
    (box / "a").touch()
    (box / ".up-folder").mkdir()
    assert store.clear_partials() == 2
    assert sorted(path.name for path in box.iterdir()) == [".up-folder", "a"]


def test_a_start_leaves_what_another_custodian_still_writes(box: Path) -> None:
    ours = begun()
    pid = os.fork()
    if pid == 0:
        os._exit(store.clear_partials())
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    ours.close()
    assert store.clear_partials() == 1


def test_the_sweep_removes_what_is_old_and_tells_what_is_there(box: Path) -> None:
    now = time.time()
    for name, age in (("old", 100), ("young", 1)):
        (box / name).write_bytes(b"12345")
        os.utime(box / name, (now - age, now - age))
    (box / "folder").mkdir()
    os.utime(box / "folder", (0, 0))
    (box / "link").symlink_to("old")
    under_way = begun()
    os.utime(under_way.hidden, (0, 0))
    assert store.sweep(now - 50) == ({b"young": 5}, [b"old"])
    assert os.path.exists(under_way.hidden)
    assert store.sweep(float("-inf")) == ({b"young": 5}, [])
    under_way.close()


def test_some_of_the_disk_is_never_given_away(box: Path) -> None:
    disk = os.statvfs(box)
    assert 0 <= store.free() < disk.f_bavail * disk.f_frsize
