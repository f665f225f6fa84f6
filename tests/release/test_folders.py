"""release.folders: no link is followed, no folder of others is used, nothing holds us up."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from appliance.release import folders
from appliance.release.folders import ReleaseError

OWNERS = frozenset({os.geteuid()})


def walk(root: int, path: str, *, make: bool = False, private: bool = False) -> None:
    os.close(folders.below(root, os.fsencode(path).split(b"/"), OWNERS, make=make, private=private))


def test_a_missing_root_is_told(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match=r"cannot open .*/none: No such file"):
        folders.root(str(tmp_path / "none"))


@pytest.mark.parametrize("path", ["link", "a/link", "link/x"])
def test_a_link_on_the_way_is_refused(home: Path, root: int, path: str) -> None:
    (home / "a").mkdir(mode=0o755)
    for place in ("link", "a/link"):
        (home / place).symlink_to("/tmp")
    with pytest.raises(ReleaseError, match="cannot use the folder"):
        walk(root, path, make=True)


def test_folders_are_made_readable_whatever_the_umask(home: Path, root: int) -> None:
    before = os.umask(0o077)
    try:
        walk(root, "a/b", make=True)
    finally:
        os.umask(before)
    assert [(home / path).stat().st_mode & 0o777 for path in ("a", "a/b")] == [0o755, 0o755]


def test_without_make_a_missing_folder_is_told(root: int) -> None:
    with pytest.raises(ReleaseError, match="cannot use the folder none: No such file"):
        walk(root, "none")


@pytest.mark.parametrize("mode", [0o775, 0o757])
def test_a_folder_that_others_write_is_refused(home: Path, root: int, mode: int) -> None:
    (home / "a").mkdir()
    (home / "a" / "b").mkdir(mode=0o755)
    (home / "a").chmod(mode)
    with pytest.raises(ReleaseError, match=r"a can be written by others \(chmod go-w it\)"):
        walk(root, "a/b")
    walk(root, "a/b", private=True)  # there only the last one counts
    with pytest.raises(ReleaseError, match="can be written by others"):
        walk(root, "a", private=True)


def test_a_folder_of_a_third_account_is_refused(home: Path, root: int) -> None:
    with pytest.raises(ReleaseError, match=r"incoming belongs to uid \d+"):
        folders.below(root, [b"incoming"], {os.geteuid() + 1}, make=False, private=True)


def test_walking_leaves_no_descriptor_behind(home: Path, root: int) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for path in ("incoming", "none", "incoming/none"):
        try:
            walk(root, path)
        except ReleaseError:
            pass
    assert len(os.listdir("/proc/self/fd")) == before


def test_only_a_regular_file_is_opened_and_nothing_waits(home: Path, root: int) -> None:
    os.mkfifo(home / "fifo")
    (home / "file").write_bytes(b"x")
    os.close(folders.regular(b"file", root)[0])
    for name in (b"fifo", b"incoming"):
        with pytest.raises(ReleaseError, match="is no regular file"):
            folders.regular(name, root)
    (home / "link").symlink_to("file")
    with pytest.raises(OSError, match="symbolic"):
        folders.regular(b"link", root)


def test_a_file_that_shrinks_is_told_and_one_that_grows_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"12345")
    fd = os.open(path, os.O_RDONLY)
    try:
        assert b"".join(folders.blocks(fd, 3)) == b"123"
        with pytest.raises(ReleaseError, match="changed while it was read"):
            list(folders.blocks(fd, 6))
    finally:
        os.close(fd)


def test_who_may_not_is_told_who_may() -> None:
    found = str(folders.because("cannot open it", PermissionError(13, "Permission denied")))
    assert found == "cannot open it: Permission denied (as root, or as the user who runs the appliance)"
