"""release.box: what is an upload, read by one descriptor, removed only as the file that was seen."""

from __future__ import annotations

import fcntl
import hashlib
import os
import signal
from pathlib import Path

import pytest

from appliance.release import box as module
from appliance.release.box import Box
from appliance.release.folders import ReleaseError
from tests.release.conftest import put


def test_finished_uploads_are_listed_and_nothing_else(home: Path, box: Box) -> None:
    put(home, "a", b"12345")
    put(home, b"caf\xe9\n", b"", "2001:db8::/64")
    put(home, ".up-0123", b"under way")
    (home / "incoming" / "link").symlink_to("a")
    (home / "incoming" / "folder").mkdir()
    os.mkfifo(home / "incoming" / "fifo")
    found = sorted((upload.name, upload.client, upload.size) for upload in box.uploads())
    assert found == [(b"a", "192.0.2.7", 5), (b"caf\xe9\n", "2001:db8::/64", 0)]


def test_a_list_has_an_end(home: Path, box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 2)
    for name in "abc":
        put(home, name, b"")
    assert len(list(box.uploads())) == 2


@pytest.mark.parametrize("name", [b"../x", b".up-1", b"", b"/etc/passwd"])
def test_a_name_that_is_none_of_an_upload_opens_nothing(box: Box, name: bytes) -> None:
    with pytest.raises(ReleaseError, match="is not the name of an upload"):
        box.open(name)


def test_what_is_not_there_or_not_a_file_is_told(home: Path, box: Box) -> None:
    (home / "incoming" / "link").symlink_to("/etc/passwd")
    os.mkfifo(home / "incoming" / "fifo")
    with pytest.raises(ReleaseError, match=r"there is no upload none \(appliance incoming list\)"):
        box.open(b"none")
    with pytest.raises(ReleaseError, match="link is a link, and no upload"):
        box.open(b"link")
    with pytest.raises(ReleaseError, match="fifo is no regular file"):
        box.open(b"fifo")


def test_a_lease_on_an_upload_does_not_hold_us_up(home: Path, box: Box) -> None:
    """Whoever took the custodian over could hold one on each file: open(2) waits for it without O_NONBLOCK."""
    path = put(home, "a", b"x")
    fd = os.open(path, os.O_RDWR)
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)  # what the holder of the lease is told by
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        with pytest.raises(ReleaseError, match="cannot open a: Resource temporarily unavailable"):
            box.open(b"a")
        assert list(box.uploads()) == []
    finally:
        os.close(fd)
        signal.signal(signal.SIGIO, before)


def test_the_digest_is_that_of_the_file_that_was_opened(home: Path, box: Box) -> None:
    content = os.urandom(3_000_000)
    put(home, "a", content)
    with box.open(b"a") as opened:
        (home / "incoming" / "a").unlink()
        put(home, "a", b"another")
        assert opened.digest() == hashlib.sha256(content).hexdigest()
        assert opened.upload.client == "192.0.2.7"


def test_only_the_file_that_was_seen_is_removed(home: Path, box: Box) -> None:
    put(home, "a", b"seen")
    with box.open(b"a") as opened:
        (home / "incoming" / "a").rename(home / "incoming" / "b")
        put(home, "a", b"another")
        assert not box.remove(opened.upload)
        (home / "incoming" / "a").unlink()
        assert not box.remove(opened.upload)
        (home / "incoming" / "a").symlink_to("b")
        assert not box.remove(opened.upload)
        (home / "incoming" / "a").unlink()
        (home / "incoming" / "b").rename(home / "incoming" / "a")
        assert box.remove(opened.upload)
    assert os.listdir(home / "incoming") == []


def test_a_box_that_is_a_link_is_none(home: Path, root: int) -> None:
    (home / "link").symlink_to("incoming")
    with pytest.raises(ReleaseError, match="cannot use the folder link"):
        Box(root, "link", {os.geteuid()})
