"""files: what a name means, and that no name, link or race leaves the root."""

from __future__ import annotations

import os
import random
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.tftp.files import NAME_MAX, OpenFile, Refusal, clean, is_chrooted, open_file
from appliance.tftp.packet import ErrorCode


@pytest.fixture
def jail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root with a sibling that nobody may reach; it is the working directory, as in a worker without a chroot."""
    root = tmp_path / "root"
    (root / "dir").mkdir(parents=True)
    (root / "dir" / "file").write_text("inside")
    (tmp_path / "outside").write_text("outside")
    (tmp_path / "root-sibling").write_text("outside")
    monkeypatch.chdir(root)
    return root


def read(name: bytes | str) -> bytes | Refusal:
    raw = name if isinstance(name, bytes) else name.encode()
    opened = open_file(raw, world_readable_only=True, chrooted=False)
    if isinstance(opened, Refusal):
        return opened
    try:
        return os.read(opened.descriptor, 100)
    finally:
        opened.close()


@pytest.mark.parametrize(("length", "fits"), [(1, True), (NAME_MAX - 1, True), (NAME_MAX, True), (NAME_MAX + 1, False)])
def test_a_name_has_at_most_255_bytes(length: int, fits: bool) -> None:
    assert isinstance(clean(b"n" * length), Refusal) != fits


@given(st.lists(st.sampled_from([b"..", b".", b"/", b"\\", b"a", b"b.c", b"\0", b"\xff", b"..."]), max_size=12))
def test_a_clean_name_is_relative_and_never_goes_up(parts: list[bytes]) -> None:
    name = clean(b"".join(parts))
    if isinstance(name, bytes):
        assert name
        assert not name.startswith(b"/")
        assert not {b"", b".", b".."} & set(name.split(b"/"))
        assert b"\0" not in name


ESCAPES = [
    up + name
    for up in (
        "../",
        "..\\",
        "/../",
        "./../",
        "dir/../../",
        "dir/..\\../",
        "..//",
        "dir/../dir/../../",
        "\\..\\",
        ".././",
    )
    for name in ("outside", "root-sibling", "root/../outside", "root/dir/file", "")
]


@pytest.mark.parametrize("name", ESCAPES)
def test_no_way_of_writing_it_leads_upwards(jail: Path, name: str) -> None:
    assert read(name) == Refusal(ErrorCode.ACCESS, "Access violation", "name goes upwards")


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("file", b"inside"), ("../dir/file", b"inside"), ("/dir/file", b"inside"), ("../../../dir/file", b"inside"),
        ("../../outside", None), ("/etc/passwd", None), ("./../dir/./file", b"inside"), ("../dir//file", b"inside"),
        ("file/", b"inside"), ("file/x", None), ("../dir", None), ("/", None), ("..", None),
    ],
)  # fmt: skip
def test_links_mean_what_they_mean_in_a_chroot(jail: Path, target: str, found: bytes | None) -> None:
    (jail / "dir" / "link").symlink_to(target)
    got = read("dir/link")
    assert got == found if found else isinstance(got, Refusal)


def test_links_to_folders_and_to_links_are_followed(jail: Path) -> None:
    (jail / "a").symlink_to("dir")
    (jail / "dir" / "b").symlink_to("../a/file")
    (jail / "c").symlink_to("a/b")
    assert read("c") == read("a/b") == b"inside"


@pytest.mark.parametrize(("links", "found"), [(39, True), (40, True), (41, False)])
def test_forty_links_are_followed_and_no_more(jail: Path, links: int, found: bool) -> None:
    (jail / "link0").symlink_to("dir/file")
    for number in range(1, links):
        (jail / f"link{number}").symlink_to(f"link{number - 1}")
    got = read(f"link{links - 1}")
    assert (got == b"inside") == found


def test_refusing_leaves_no_descriptor_open(jail: Path) -> None:
    os.mkfifo(jail / "fifo", 0o644)
    (jail / "loop").symlink_to("loop")
    (jail / "up").symlink_to("../../../..")
    before = len(os.listdir("/proc/self/fd"))
    for name in ("fifo", "dir", "loop", "up", "up/x", "missing", "dir/file/x", "../x", "dir/file"):
        read(name)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("chrooted", [False, True])
def test_a_fifo_is_refused_at_once_although_nobody_writes(jail: Path, chrooted: bool) -> None:
    os.mkfifo(jail / "fifo", 0o644)
    got = open_file(b"fifo", world_readable_only=True, chrooted=chrooted)
    assert got == Refusal(ErrorCode.ACCESS, "Access violation", "not a regular file")


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o660, 0o604, 0o644, 0o444])
def test_only_what_everyone_may_read_is_served_by_rule(jail: Path, mode: int) -> None:
    (jail / "f").write_text("text")
    (jail / "f").chmod(mode)
    assert (read("f") == b"text") == bool(mode & 0o004)
    private = open_file(b"f", world_readable_only=False, chrooted=True)
    assert isinstance(private, OpenFile)
    private.close()


def test_the_identity_changes_with_the_file(jail: Path) -> None:
    identities = set()
    for text in ("one", "two", "three"):
        (jail / "new").write_text(text)
        os.replace(jail / "new", jail / "f")
        opened = open_file(b"f", world_readable_only=True, chrooted=False)
        assert isinstance(opened, OpenFile)
        identities.add(opened.identity)
        assert opened.size == len(text)
        opened.close()
    assert len(identities) == 3


def test_outside_a_chroot_it_is_known_that_there_is_none(jail: Path) -> None:
    assert not is_chrooted()


def test_a_link_swapped_while_it_is_opened_never_leads_outside(jail: Path, tmp_path: Path) -> None:
    """The classic race: a folder of the path becomes a link to the outside between two looks."""
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil" / "file").write_text("outside")
    (jail / "link").symlink_to("../evil")
    (jail / "real").mkdir()
    (jail / "real" / "file").write_text("inside")
    running = True

    def swap() -> None:
        while running:
            os.rename(jail / "real", jail / "aside")
            os.rename(jail / "link", jail / "real")
            os.rename(jail / "real", jail / "link")
            os.rename(jail / "aside", jail / "real")

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        seen = [read("real/file") for _ in range(10_000)]
    finally:
        running = False
        thread.join()
    assert b"outside" not in seen
    assert b"inside" in seen


def test_random_names_over_a_tree_of_links_read_only_what_is_inside(jail: Path) -> None:
    dice = random.Random(3)
    parts = ["..", ".", "/", "dir", "file", "outside", "root", "a", "b", "c", "tmp", "etc", "passwd"]
    for number in range(300):
        for link in ("a", "b", "c"):
            (jail / link).unlink(missing_ok=True)
            (jail / link).symlink_to("/".join(dice.choices(parts, k=dice.randrange(1, 5))))
        got = read("/".join(dice.choices(["a", "b", "c", "dir", "file"], k=dice.randrange(1, 4))))
        assert got == b"inside" or isinstance(got, Refusal), number
