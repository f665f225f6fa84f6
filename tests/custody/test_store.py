"""custody.store: names appear complete or not at all, whatever fails."""

from __future__ import annotations

import errno
import itertools
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from appliance.custody import marks, store, versions
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
    found = store.sweep(now - 50, {under_way.hidden})
    assert (found.files, found.removed, found.strangers) == ({b"young": (5, "")}, [b"old"], 0)
    assert os.path.exists(under_way.hidden)
    assert store.sweep(float("-inf")) == store.Found({b"young": (5, "")}, [], strangers=7)
    under_way.close()


def test_what_cannot_be_removed_stays_and_counts(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen: on a disk that had become read-only one old upload ended every custodian that was started."""
    (box / "old").write_bytes(b"12345")
    os.utime(box / "old", (store._UNDATED, store._UNDATED))
    left = begun()
    left.close()

    def unlink(_name: bytes) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patched:
        patched.setattr(store.os, "unlink", unlink)
        assert store.clear_partials() == 0
        assert store.sweep(time.time()) == store.Found({b"old": (5, "")}, [], strangers=7)
    assert store.clear_partials() == 1
    assert store.sweep(time.time()).removed == [b"old"]


def test_a_file_system_that_does_not_tell_its_size_is_not_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen: `452 The disk is full.` on ramfs."""
    monkeypatch.setattr(store.os, "statvfs", lambda _path: os.statvfs_result((4096, 4096, 0, 0, 0, 0, 0, 0, 0, 255)))
    assert store.free() > 1 << 60


@pytest.mark.parametrize("call", ["", "write", "fchmod", "fsync", "link", "unlink"])
def test_a_rehearsal_does_what_an_upload_needs_and_leaves_nothing(
    box: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    real = os.unlink

    def fails(*args: Any, **_options: Any) -> None:
        if call == "unlink":
            real(*args)  # once it is done what fails is told all the same
        raise OSError(errno.EPERM, "Operation not permitted")

    with monkeypatch.context() as patched:
        if not call:
            store.rehearse()
        else:
            patched.setattr(store.os, call, fails)
            with pytest.raises(OSError, match="not permitted"):
                store.rehearse()
        patched.setattr(store, "free", lambda: 0)
        with pytest.raises(OSError, match="No space"):
            store.rehearse()
    assert list(box.iterdir()) == []


def test_an_upload_that_came_while_the_clock_was_wrong_outlives_the_moment_it_is_right(box: Path) -> None:
    (box / "early").write_bytes(b"12345")
    for when in (0, 86400 * 30, time.mktime((2024, 12, 30, 0, 0, 0, 0, 0, 0))):
        os.utime(box / "early", (when, when))
        assert store.sweep(time.time() - 50).files == {b"early": (5, "")}
    os.utime(box / "early", (store._UNDATED, store._UNDATED))
    assert store.sweep(time.time() - 50).removed == [b"early"]


def test_some_of_the_disk_is_never_given_away(box: Path) -> None:
    disk = os.statvfs(box)
    assert 0 <= store.free() < disk.f_bavail * disk.f_frsize


# --- replacing


def put(name: bytes, content: bytes, client: str = "c", version: bytes = b"") -> Reason | None:
    """An upload from its beginning to its end, over whatever has the name."""
    partial = begun(content)
    reason = partial.finish(name, len(content), client, store.look(name), version)
    partial.discard()
    return reason


def contents(box: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in box.iterdir()}


VERSION = versions.name(b"a", 0, b"")


def test_a_replaced_file_is_gone_and_the_new_one_is_another_inode(box: Path) -> None:
    put(b"a", b"old")
    before = os.stat("a")
    with open("a", "rb") as reader:
        assert put(b"a", b"new!", "d") is None
        assert reader.read() == b"old", "who reads the old file reads it to its end"
    assert contents(box) == {"a": b"new!"}
    assert os.stat("a").st_ino != before.st_ino
    assert marks.read(b"a") == "d"


def test_a_replaced_file_is_kept_under_the_name_of_its_version(box: Path) -> None:
    put(b"a", b"old")
    before = os.stat("a")
    assert put(b"a", b"new!", "d", VERSION) is None
    assert contents(box) == {"a": b"new!", VERSION.decode(): b"old"}
    kept = os.stat(VERSION)
    assert (kept.st_ino, kept.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert (marks.read(b"a"), marks.read(VERSION)) == ("d", "c")


def test_what_is_no_file_of_ours_is_seen_as_such(box: Path) -> None:
    (box / "folder").mkdir()
    (box / "link").symlink_to("a")
    put(b"a", b"old")
    os.mkfifo("fifo")
    seen = {name: store.look(name) for name in (b"folder", b"link", b"a", b"fifo", b"none")}
    assert {name: found.ours for name, found in seen.items() if found} == {
        b"folder": False, b"link": False, b"a": True, b"fifo": False,
    }  # fmt: skip
    assert seen[b"none"] is None
    mine = seen[b"a"]
    assert mine is not None and (mine.size, mine.client) == (3, "c")


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: chown")
def test_a_file_of_another_account_is_not_ours(box: Path) -> None:
    put(b"a", b"old")
    os.chown("a", 777, 777)
    found = store.look(b"a")
    assert found is not None and not found.ours


def test_of_two_that_replace_one_file_the_first_one_wins(box: Path) -> None:
    put(b"a", b"old")
    over = store.look(b"a")
    first, second = begun(b"first"), begun(b"second!")
    assert first.finish(b"a", 5, "c", over) is None
    assert second.finish(b"a", 7, "c", over) is Reason.UNDER_WAY
    second.discard()
    assert contents(box) == {"a": b"first"}


def test_a_version_that_another_custodian_left_half_made_is_taken_over(box: Path) -> None:
    put(b"a", b"old")
    os.link("a", VERSION)
    assert put(b"a", b"new!", "d", VERSION) is None
    assert contents(box) == {"a": b"new!", VERSION.decode(): b"old"}


def test_the_name_of_a_version_that_is_another_file_is_left_alone(box: Path) -> None:
    put(b"a", b"old")
    (box / VERSION.decode()).write_bytes(b"other")
    assert put(b"a", b"new!", "d", VERSION) is Reason.UNDER_WAY
    assert contents(box) == {"a": b"old", VERSION.decode(): b"other"}


def test_a_folder_that_cannot_be_synced_brings_the_old_file_back(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise OSError(errno.EIO, "planted")

    put(b"a", b"old")
    for version in (b"", VERSION):
        with monkeypatch.context() as patch:
            patch.setattr(store, "sync_folder", fail)
            with pytest.raises(OSError, match="planted"):
                put(b"a", b"new!", "d", version)
        store.clear_partials()
        assert contents(box) == {"a": b"old"}


# --- whatever goes wrong, wherever

CALLS = ("open", "fstat", "lstat", "fchmod", "fsync", "link", "rename", "unlink", "close", "setxattr")


class Fault:
    """Counts the system calls of the store; at the chosen one `strike` is called instead."""

    def __init__(self, patch: pytest.MonkeyPatch, at: int, strike: Callable[[], object]) -> None:
        self.at, self.strike, self.count = at, strike, 0
        for call in CALLS:
            patch.setattr(store.os, call, self._counted(getattr(os, call)))

    def _counted(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.count += 1
            if self.count == self.at:
                self.strike()
            return real(*arguments, **options)

        return call


def die() -> None:
    os._exit(9)


def break_down() -> None:
    raise OSError(errno.EIO, "planted")


def left_behind(box: Path, version: bytes) -> dict[str, bytes]:
    """The box after the next start and its sweep."""
    store.clear_partials()
    found = store.sweep(float("-inf"))
    left = contents(box)
    assert set(found.files) == {os.fsencode(name) for name in left}
    assert {marks.read(os.fsencode(name)) for name, content in left.items() if content == b"new!"} <= {"d"}
    assert all(marks.read(os.fsencode(name)) == "c" for name, content in left.items() if content == b"old")
    assert left in (
        {"a": b"old"},
        {"a": b"new!"},
        {"a": b"new!", version.decode(): b"old"},
    )
    return left


@pytest.mark.parametrize("version", [b"", VERSION])
def test_a_custodian_that_is_killed_at_any_call_leaves_the_old_file_or_the_new_one(
    box: Path, monkeypatch: pytest.MonkeyPatch, version: bytes
) -> None:
    monkeypatch.setattr(store, "_SETTLED_S", -1.0)
    seen = []
    for at in itertools.count(1):
        put(b"a", b"old")
        pid = os.fork()
        if pid == 0:
            with monkeypatch.context() as patch:
                Fault(patch, at, die)
                put(b"a", b"new!", "d", version)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        seen.append(left_behind(box, version)["a"])
        (box / "a").unlink()
        (box / VERSION.decode()).unlink(missing_ok=True)
        if code == 0:
            break
        assert code == 9
    assert len(seen) > 12
    assert seen == sorted(seen, reverse=True), "old up to one call, new from there on"


@pytest.mark.parametrize("version", [b"", VERSION])
def test_any_one_call_that_fails_under_a_replacement_leaves_the_old_file_or_the_new_one(
    box: Path, monkeypatch: pytest.MonkeyPatch, version: bytes
) -> None:
    monkeypatch.setattr(store, "_SETTLED_S", -1.0)
    for at in itertools.count(1):
        put(b"a", b"old")
        outcome: object = ""
        with monkeypatch.context() as patch:
            fault = Fault(patch, at, break_down)
            try:
                outcome = put(b"a", b"new!", "d", version)
            except OSError as error:
                outcome = error.strerror
            count = fault.count
        assert outcome in (None, "planted")
        left = left_behind(box, version)
        assert left["a"] == (b"new!" if outcome is None else b"old")
        (box / "a").unlink()
        (box / VERSION.decode()).unlink(missing_ok=True)
        if count < at:
            return


# --- reading back


def test_a_finished_upload_is_read_through_a_descriptor_that_cannot_write(box: Path) -> None:
    put(b"a", b"content")
    found = store.fetch(b"a")
    assert found is not None
    fd, size, client = found
    assert (os.read(fd, 100), size, client) == (b"content", 7, "c")
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.write(fd, b"x")
    os.close(fd)


def test_nothing_but_a_regular_file_is_read(box: Path) -> None:
    (box / "folder").mkdir()
    (box / "link").symlink_to("a")
    os.mkfifo("fifo")
    put(b"a", b"content")
    before = len(os.listdir("/proc/self/fd"))
    for name in (b"folder", b"link", b"fifo", b"none"):
        assert store.fetch(name) is None
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_name_that_cannot_be_opened_is_an_error(box: Path) -> None:
    with pytest.raises(OSError, match="too long"):
        store.fetch(b"a" * 256)


# --- the sweep


def test_the_sweep_tells_who_uploaded_what_and_drops_a_version_that_never_came_to_be(
    box: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(b"a", b"old")
    put(b"a", b"new!", "d", VERSION)
    assert store.sweep(float("-inf"), known={b"a": (9, "known")}, since=time.time() + 9).files == {
        b"a": (4, "known"), VERSION: (3, "c"),
    }  # fmt: skip
    assert store.sweep(float("-inf"), known={b"a": (9, "known")}, since=time.time() - 9).files[b"a"] == (4, "d")
    twin = versions.name(b"a", 0, VERSION)
    os.link("a", twin)
    os.link("a", "other")
    expected = {b"a": (4, "d"), VERSION: (3, "c"), b"other": (4, "d")}
    assert store.sweep(float("-inf")).files == {**expected, twin: (4, "d")}, "somebody may be in the middle of it"
    monkeypatch.setattr(store, "_SETTLED_S", -1.0)
    assert store.sweep(float("-inf")).files == expected
    assert not os.path.lexists(twin)
