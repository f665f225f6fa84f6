"""shelf: the content of a small file is handed out only while its path leads to that very file, unchanged."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.settings.tftp import TftpUploads
from appliance.tftp import shelf as module
from appliance.tftp.files import OpenFile, Refusal, open_path
from appliance.tftp.lookup import Lookup
from appliance.tftp.shelf import SETTLE_NS, SMALL, Shelf
from tests.tftp.client import RefusedError, fetch
from tests.tftp.server import SETTINGS, Server, until

YEAR_2100 = 4_102_444_800 * 10**9


@pytest.fixture(autouse=True)
def in_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "on_a_disk", lambda _device: True)  # wherever the tests are run


def opened(path: bytes) -> OpenFile:
    found = open_path(path, world_readable_only=True, chrooted=True)
    assert isinstance(found, OpenFile)
    return found


def put(content: bytes, path: str = "f") -> OpenFile:
    Path(path).write_bytes(content)
    return opened(path.encode())


def test_a_small_file_is_kept_without_a_descriptor() -> None:
    shelf = Shelf(1 << 20)
    before = len(os.listdir("/proc/self/fd"))
    held = shelf.keep(b"f", put(b"content"), YEAR_2100)
    assert (held.content, held.size) == (b"content", 7)
    assert len(os.listdir("/proc/self/fd")) == before
    held.close()
    assert shelf.find(b"f") is held
    assert shelf.find(b"other") is None


def test_a_file_of_a_network_file_system_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert module.on_a_disk(os.makedev(8, 1))
    file = OpenFile(-1, 7, (os.makedev(0, 50), 1, 7, 0, 0), 0)
    assert Shelf(1 << 20).keep(b"f", file, YEAR_2100) is file


def rewrite() -> None:
    facts = os.stat("f")
    Path("f").write_bytes(b"CONTENT")
    os.utime("f", ns=(facts.st_atime_ns, facts.st_mtime_ns))  # the size and mtime it had: ctime tells


def replace() -> None:
    Path("new").write_bytes(b"CONTENT")
    os.replace("new", "f")


def link() -> None:
    Path("other").write_bytes(b"CONTENT")
    os.remove("f")
    os.symlink("other", "f")


def forbid() -> None:
    os.chmod("f", 0o600)


def remove() -> None:
    os.remove("f")


@pytest.mark.parametrize("change", [rewrite, replace, link, forbid, remove])
def test_any_change_of_the_file_or_its_name_takes_it_off_the_shelf(change: Callable[[], None]) -> None:
    shelf = Shelf(1 << 20)
    shelf.keep(b"f", put(b"content"), YEAR_2100)
    change()
    assert shelf.find(b"f") is None
    assert shelf.used == 0


def test_a_file_that_changed_a_moment_ago_is_not_kept() -> None:
    shelf, file = Shelf(1 << 20), put(b"content")
    assert shelf.keep(b"f", file, file.changed_ns + SETTLE_NS - 1) is file
    assert shelf.keep(b"f", file, file.changed_ns + SETTLE_NS).content == b"content"


@pytest.mark.parametrize(("size", "kept"), [(0, True), (SMALL - 1, True), (SMALL, True), (SMALL + 1, False)])
def test_only_a_small_file_is_kept(size: int, kept: bool) -> None:
    file = put(os.urandom(size))
    got = Shelf(1 << 20).keep(b"f", file, YEAR_2100)
    assert (got.content is not None) == kept
    got.close()


def test_a_file_that_became_shorter_or_longer_since_it_was_opened_is_left_to_who_reads_it() -> None:
    for size in (3, 30):
        shelf, file = Shelf(1 << 20), put(b"content")
        os.truncate("f", size)
        assert shelf.keep(b"f", file, YEAR_2100) is file
        assert shelf.used == 0
        file.close()


def test_the_shelf_keeps_within_its_capacity_and_drops_what_was_used_longest_ago() -> None:
    shelf = Shelf(5000)
    for name in ("a", "b", "c"):
        shelf.keep(name.encode(), put(b"x" * 1000, name), YEAR_2100)
        assert shelf.find(b"a")  # so that b is what was used longest ago
        assert shelf.used <= 5000
    assert shelf.find(b"b") is None
    assert shelf.find(b"c")
    nothing = Shelf(0)
    file = put(b"x")
    assert nothing.keep(b"f", file, YEAR_2100) is file
    file.close()


def in_a_jail() -> None:
    """As if the working directory were the root of a chroot, and every file old."""
    from appliance.tftp import reception, shelf

    reception.is_chrooted = lambda: True
    shelf.on_a_disk = lambda _device: True
    shelf.SETTLE_NS = 0


@pytest.mark.parametrize("options", [{}, {"blksize": 8, "windowsize": 7}, {"blksize": 1428, "tsize": 0}])
def test_what_comes_from_the_shelf_is_the_file(start: Callable[..., Server], options: dict[str, object]) -> None:
    server = start(sabotage=in_a_jail)
    for size in (0, 1, 511, 512, 513, 5000, SMALL):
        content = os.urandom(size)
        (server.root / f"f{size}").write_bytes(content)
        for _ in range(3):
            assert fetch(server.address, f"f{size}", options) == content
    lossy = fetch(server.address, "f5000", {"windowsize": 4, "utimeout": 30_000}, lose=lambda block, tries: tries == 1)
    assert lossy == (server.root / "f5000").read_bytes()


def test_text_from_the_shelf_has_its_lines_turned(start: Callable[..., Server]) -> None:
    server = start(sabotage=in_a_jail)
    text = b"one\ntwo\r\n" * 300
    (server.root / "f").write_bytes(text)
    for mode in ("octet", "netascii", "netascii"):
        expected = text if mode == "octet" else text.replace(b"\r", b"\r\0").replace(b"\n", b"\r\n")
        assert fetch(server.address, "f", mode=mode) == expected


def test_an_edit_a_prohibition_and_a_removal_show_at_the_next_request(start: Callable[..., Server]) -> None:
    server = start(sabotage=in_a_jail)
    path = server.root / "f"
    for content in (b"first", b"other"):
        path.write_bytes(content)
        for _ in range(2):
            assert fetch(server.address, "f") == content
    path.chmod(0o640)
    with pytest.raises(RefusedError, match="2 Access violation"):
        fetch(server.address, "f")
    path.chmod(0o644)
    assert fetch(server.address, "f") == b"other"
    path.unlink()
    with pytest.raises(RefusedError, match="1 File not found"):
        fetch(server.address, "f")
    until(lambda: server.counters["active"] == 0, "the end of the transfers")
    assert server.counters["crashes"] == 0


def test_a_path_that_leads_into_the_box_of_the_uploads_by_now_is_not_served_from_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "SETTLE_NS", -YEAR_2100)
    os.mkdir("public")
    put(b"content", "public/f")
    settings = dataclasses.replace(SETTINGS, uploads=TftpUploads(mode="create"))
    lookup = Lookup(settings, lambda *_spellings: None, memory=1 << 20)
    lookup.chrooted = True  # as in a jail whose worker could open the box, because it has the custodian's uid

    def file() -> OpenFile | Refusal:
        return lookup.find(b"public/f", "127.0.0.1", lookup.terms(("127.0.0.1", 69), "127.0.0.1", 0.0), 0.0).file

    assert isinstance(file(), OpenFile)
    os.rename("public", "uploads")
    os.symlink("uploads", "public")
    refused = file()
    assert isinstance(refused, Refusal) and refused.code == 2
