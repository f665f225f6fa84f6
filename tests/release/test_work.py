"""release.work: nobody's old descriptor reaches a released file, and what is not clean stays where it is."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import threading
from pathlib import Path

import pytest

from appliance.release import verdict, work
from appliance.release.box import Box
from appliance.release.folders import ReleaseError
from appliance.release.tree import Place
from appliance.release.verdict import UNSCANNED, Kind, Verdict
from tests.release.conftest import put


def clean(_fd: int, _size: int) -> Verdict:
    return Verdict(Kind.CLEAN)


def test_a_descriptor_held_since_the_upload_cannot_change_what_was_released(home: Path, root: int, box: Box) -> None:
    held = os.open(put(home, "a", b"harmless"), os.O_WRONLY)  # as an FTP worker or a custodian that fell has it
    inode = os.fstat(held).st_ino
    seen: list[bytes] = []

    def scan(fd: int, size: int) -> Verdict:
        os.pwrite(held, b"EVIL", 0)  # between the copy and its name
        seen.append(os.pread(fd, size, 0))
        return Verdict(Kind.CLEAN)

    with box.open(b"a") as opened, Place(root, "released", (b"a",)) as place:
        outcome = work.release(box, opened, place, scan, replace=False)
    os.pwrite(held, b"EVIL", 0)
    os.ftruncate(held, 100)
    os.fchmod(held, 0o666)
    os.close(held)
    path = home / "released" / "a"
    assert path.read_bytes() == b"harmless" and seen == [b"harmless"]
    assert outcome.sha256 == hashlib.sha256(b"harmless").hexdigest()
    assert path.stat().st_ino != inode and path.stat().st_mode & 0o777 == 0o644
    assert outcome.released and outcome.removed
    assert os.listdir(home / "incoming") == []


@pytest.mark.parametrize("found", [Verdict(Kind.INFECTED, b"Eicar"), verdict.error("clamd is down")])
def test_what_is_not_clean_is_held_and_leaves_no_copy(home: Path, root: int, box: Box, found: Verdict) -> None:
    put(home, "a", b"content")
    with box.open(b"a") as opened, Place(root, "released", (b"a",)) as place:
        outcome = work.release(box, opened, place, lambda _fd, _size: found, replace=False)
    assert not outcome.released and not outcome.removed and outcome.verdict == found
    assert os.listdir(home / "released") == [] and os.listdir(home / "incoming") == ["a"]


def test_without_a_scanner_it_is_released_unscanned(home: Path, root: int, box: Box) -> None:
    put(home, "a", b"content")
    with box.open(b"a") as opened, Place(root, "released", (b"b",)) as place:
        assert work.release(box, opened, place, lambda _fd, _size: UNSCANNED, replace=False).released
    assert (home / "released" / "b").read_bytes() == b"content"


def test_a_name_that_is_taken_is_refused_before_the_copy(home: Path, root: int, box: Box) -> None:
    put(home, "a", b"content")
    (home / "released").mkdir(mode=0o755)
    (home / "released" / "a").write_bytes(b"old")

    def never(_fd: int, _size: int) -> Verdict:
        raise AssertionError

    with (
        box.open(b"a") as opened,
        Place(root, "released", (b"a",)) as place,
        pytest.raises(ReleaseError, match="exists"),
    ):
        work.release(box, opened, place, never, replace=False)
    assert os.listdir(home / "incoming") == ["a"]


@pytest.mark.parametrize("after", ["nothing", "another"])
def test_an_upload_that_was_rejected_while_it_was_scanned_is_not_released(
    home: Path, root: int, box: Box, after: str
) -> None:
    """Seen: `reject` said that it had removed the upload, and a release that was scanning it published it."""
    put(home, "a", b"first")

    def scan(_fd: int, _size: int) -> Verdict:
        with box.open(b"a") as seen:
            assert box.remove(seen.upload)
        if after == "another":
            put(home, "a", b"second")
        return Verdict(Kind.CLEAN)

    keep = os.open(home / "incoming" / "a", os.O_RDONLY)  # so that its inode is not used again
    with (
        box.open(b"a") as opened,
        Place(root, "released", (b"a",)) as place,
        pytest.raises(ReleaseError, match="taken out of the drop box meanwhile"),
    ):
        work.release(box, opened, place, scan, replace=False)
    os.close(keep)
    assert os.listdir(home / "released") == []
    assert os.listdir(home / "incoming") == (["a"] if after == "another" else [])


def test_a_reject_in_the_moment_of_a_release_says_that_it_came_too_late(
    home: Path, root: int, box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen: while the copy was synced and got its name, `reject` removed the upload and said so; it was public."""
    put(home, "a", b"content")
    said: list[bool] = []

    def reject() -> None:
        with Box(root, "incoming", {os.geteuid()}) as other, other.open(b"a") as seen:
            begun.set()
            said.append(other.remove(seen.upload))

    begun, rejecting = threading.Event(), threading.Thread(target=reject)
    with box.open(b"a") as opened, Place(root, "released", (b"a",)) as place:
        give = place.give

        def slow(fd: int, *, replace: bool) -> None:  # as where the disk is busy
            rejecting.start()
            begun.wait(60)
            rejecting.join(0.3)  # without the lock it is over by now
            give(fd, replace=replace)

        monkeypatch.setattr(place, "give", slow)
        assert work.release(box, opened, place, clean, replace=False).removed
    rejecting.join(60)
    assert said == [False]
    assert os.listdir(home / "incoming") == [] and os.listdir(home / "released") == ["a"]


def test_where_a_folder_cannot_be_locked_releases_go_on(
    home: Path, root: int, box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))  # of NFS, for a folder

    put(home, "a", b"content")
    monkeypatch.setattr(fcntl, "flock", refuse)
    with box.open(b"a") as opened, Place(root, "released", (b"a",)) as place:
        assert work.release(box, opened, place, clean, replace=False).removed


def test_a_release_counts_although_the_upload_cannot_be_removed(
    home: Path, root: int, box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(home, "a", b"content")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with box.open(b"a") as opened, Place(root, "released", (b"a",)) as place:
        monkeypatch.setattr(os, "unlink", refuse)
        outcome = work.release(box, opened, place, clean, replace=False)
    assert outcome.released and not outcome.removed


def test_an_exclusive_name_is_won_by_the_first(home: Path, root: int, box: Box) -> None:
    put(home, "a", b"content")

    def scan(_fd: int, _size: int) -> Verdict:
        (home / "released" / "a").write_bytes(b"another was quicker")
        return Verdict(Kind.CLEAN)

    with (
        box.open(b"a") as opened,
        Place(root, "released", (b"a",)) as place,
        pytest.raises(ReleaseError, match="exists"),
    ):
        work.release(box, opened, place, scan, replace=False)
    assert (home / "released" / "a").read_bytes() == b"another was quicker"
    assert os.listdir(home / "incoming") == ["a"]


def test_a_replaced_file_is_the_old_one_or_the_new_one(home: Path, root: int, box: Box) -> None:
    put(home, "a", b"new")
    (home / "released").mkdir(mode=0o755)
    (home / "released" / "a").write_bytes(b"old")
    with (home / "released" / "a").open("rb") as old, box.open(b"a") as opened:
        with Place(root, "released", (b"a",)) as place:
            assert work.release(box, opened, place, clean, replace=True).released
        assert old.read() == b"old"  # who fetches it at this moment gets it to the end
    assert (home / "released" / "a").read_bytes() == b"new"
    assert os.listdir(home / "released") == ["a"]


class FailingCalls:
    """Stands for `os` in the room: the call number `at` fails, whichever it is."""

    CALLS = ("open", "dup", "mkdir", "fstat", "stat", "fstatvfs", "pread", "write", "fsync", "fchmod", "link", "rename",
             "unlink")  # fmt: skip

    def __init__(self, at: int) -> None:
        self._left = at

    @property
    def done(self) -> bool:
        """Whether there was no such call any more."""
        return self._left >= 0

    def __getattr__(self, name: str) -> object:
        real = getattr(os, name)
        if name not in self.CALLS:
            return real

        def call(*arguments: object, **options: object) -> object:
            self._left -= 1
            if self._left == -1:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return real(*arguments, **options)

        return call


@pytest.mark.parametrize("replace", [False, True])
def test_whichever_call_fails_the_tree_has_whole_files_and_nothing_is_lost(
    home: Path, replace: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from appliance.release import box as box_module
    from appliance.release import folders, tree

    target = home / "released" / "sub" / "a"
    before = len(os.listdir("/proc/self/fd"))
    for at in range(200):
        shutil.rmtree(home / "released", ignore_errors=True)
        if replace:
            target.parent.mkdir(parents=True, mode=0o755)
            target.write_bytes(b"old")
        put(home, "a", b"new")
        failing = FailingCalls(at)
        with monkeypatch.context() as patch:
            for module in (box_module, folders, tree):
                patch.setattr(module, "os", failing)
            try:
                root = folders.root(str(home))
                try:
                    with (
                        Box(root, "incoming", {os.geteuid()}) as box,
                        box.open(b"a") as opened,
                        Place(root, "released", (b"sub", b"a")) as place,
                    ):
                        work.release(box, opened, place, clean, replace=replace)
                finally:
                    os.close(root)
            except (ReleaseError, OSError):
                pass
        there = target.read_bytes() if target.exists() else b""
        assert there in (b"old" if replace else b"", b"new"), at
        assert there == b"new" or os.listdir(home / "incoming") == ["a"], at
        assert not target.parent.exists() or set(os.listdir(target.parent)) <= {"a"}, at
        assert len(os.listdir("/proc/self/fd")) == before, at
        if failing.done:
            assert at > 15 and there == b"new" and os.listdir(home / "incoming") == []
            return
    pytest.fail("the calls have no end")
