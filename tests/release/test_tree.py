"""release.tree: a copy has no name until it is given one, exclusively or in the place of another."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from appliance.release.folders import ReleaseError
from appliance.release.tree import Place


def upload(home: Path, content: bytes) -> int:
    (home / "incoming" / "a").write_bytes(content)
    return os.open(home / "incoming" / "a", os.O_RDONLY)


def test_a_copy_is_a_new_file_without_a_name(home: Path, root: int) -> None:
    source = upload(home, b"content")
    with Place(root, "released", (b"sub", b"a")) as place:
        copy = place.copy(source, 7)
        assert os.listdir(home / "released" / "sub") == [] and not place.taken()
        assert os.fstat(copy).st_ino != os.fstat(source).st_ino
        assert os.fstat(copy).st_mode & 0o777 == 0o600
        place.give(copy, replace=False)
        assert place.taken() and place.shown == "released/sub/a"
    path = home / "released" / "sub" / "a"
    assert path.read_bytes() == b"content"
    assert (path.stat().st_mode & 0o7777, path.stat().st_uid, path.stat().st_nlink) == (0o644, os.geteuid(), 1)
    os.close(copy)
    os.close(source)


def test_a_name_that_exists_is_kept_unless_it_is_to_be_replaced(home: Path, root: int) -> None:
    (home / "released").mkdir(mode=0o755)
    (home / "released" / "a").symlink_to("/etc/passwd")
    source = upload(home, b"new")
    with Place(root, "released", (b"a",)) as place:
        copy = place.copy(source, 3)
        with pytest.raises(ReleaseError, match=r"released/a exists \(--to another name, or --replace\)"):
            place.give(copy, replace=False)
        place.give(copy, replace=True)
    assert os.listdir(home / "released") == ["a"]
    assert not (home / "released" / "a").is_symlink() and (home / "released" / "a").read_bytes() == b"new"
    os.close(copy)
    os.close(source)


def test_what_cannot_be_replaced_leaves_nothing(home: Path, root: int) -> None:
    (home / "released" / "a").mkdir(parents=True)
    (home / "released").chmod(0o755)
    source = upload(home, b"new")
    with Place(root, "released", (b"a",)) as place:
        copy = place.copy(source, 3)
        with pytest.raises(ReleaseError, match="cannot put released/a there: Is a directory"):
            place.give(copy, replace=True)
    assert os.listdir(home / "released") == ["a"]
    os.close(copy)
    os.close(source)


def test_a_hole_of_any_size_is_refused_before_the_first_byte(home: Path, root: int) -> None:
    source = upload(home, b"")
    os.truncate(home / "incoming" / "a", 1 << 43)
    with Place(root, "released", (b"a",)) as place, pytest.raises(ReleaseError, match="too little room"):
        place.copy(source, 1 << 43)
    os.close(source)


@pytest.mark.parametrize(
    ("code", "text"),
    [(errno.EOPNOTSUPP, "has no files without a name"), (errno.ENOSPC, "cannot copy to released/a: No space")],
)
def test_what_the_disk_refuses_is_told(
    home: Path, root: int, monkeypatch: pytest.MonkeyPatch, code: int, text: str
) -> None:
    source = upload(home, b"x")
    before = len(os.listdir("/proc/self/fd"))
    with Place(root, "released", (b"a",)) as place, monkeypatch.context() as patch:

        def refuse(*_: object, **__: object) -> None:
            raise OSError(code, os.strerror(code))

        patch.setattr(os, "open" if code == errno.EOPNOTSUPP else "fsync", refuse)
        with pytest.raises(ReleaseError, match=text):
            place.copy(source, 1)
    assert len(os.listdir("/proc/self/fd")) == before
    os.close(source)


def test_a_file_that_changes_while_it_is_copied_is_not_copied(home: Path, root: int) -> None:
    source = upload(home, b"short")
    with Place(root, "released", (b"a",)) as place, pytest.raises(ReleaseError, match="changed while it was read"):
        place.copy(source, 6)
    assert os.listdir(home / "released") == []
    os.close(source)


def test_a_name_that_may_not_last_is_told_and_the_upload_kept(
    home: Path, root: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = upload(home, b"x")
    real = os.fsync

    def sync(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(fd)

    with Place(root, "released", (b"a",)) as place:
        copy = place.copy(source, 1)
        monkeypatch.setattr(os, "fsync", sync)
        with pytest.raises(ReleaseError, match="might not be after a power cut, so the upload is kept: Input/output"):
            place.give(copy, replace=False)
    assert (home / "released" / "a").read_bytes() == b"x"
    os.close(copy)
    os.close(source)
