"""ftp.filesystem: what opens, what does not exist, and listings in slices."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from appliance.ftp import filesystem, listing
from appliance.ftp.policy import Rules


@pytest.fixture
def inside(tree: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tree)
    return tree


def all_of(pieces: object) -> bytes:
    return b"".join(pieces)  # type: ignore[arg-type]


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_only_regular_files_open_and_nothing_leaks(inside: Path) -> None:
    os.mkfifo("fifo")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind("socket")
    before = open_descriptors()
    for path in ("/pub", "/fifo", "/socket", "/nothing", "/", "/a.txt/x"):
        with pytest.raises(OSError):  # noqa: PT011  any errno is the same to a client
            filesystem.open_file(path)
    assert open_descriptors() == before
    file = filesystem.open_file("/a.txt")
    assert (file.size, os.read(file.fd, 3)) == (15, b"one")
    file.close()
    file.close()
    assert open_descriptors() == before


def test_a_link_inside_the_tree_works_and_a_broken_one_does_not_exist(inside: Path) -> None:
    os.symlink("pub", "latest")
    os.symlink("/no/such/place", "broken")
    os.symlink("loop", "loop")
    listings = filesystem.Listings(Rules((), None))
    assert filesystem.look("/latest/b.txt").st_size == 2
    filesystem.enter("/latest")
    long, names, facts = (
        all_of(listings.long("/", 0.0)),
        all_of(listings.names("/")),
        all_of(listings.facts("/", listing.FactLines())),
    )
    assert b" latest -> pub\r\n" in long
    assert b"latest\r\n" in names and b"type=dir;" in facts.split(b" latest")[0].split(b"\r\n")[-1]
    for text in (long, names, facts):
        assert b"broken" not in text and b"loop" not in text


def test_a_folder_that_may_not_be_searched_cannot_be_entered(inside: Path) -> None:
    with pytest.raises(NotADirectoryError):
        filesystem.enter("/a.txt")
    with pytest.raises(FileNotFoundError):
        filesystem.enter("/nothing")


def test_a_refusal_of_a_listing_is_known_before_its_first_slice(inside: Path) -> None:
    listings = filesystem.Listings(Rules((), None))
    for build in (listings.long, listings.names):
        with pytest.raises(OSError):  # noqa: PT011
            build("/nothing", *([0.0] if build == listings.long else []))  # type: ignore[operator]
    with pytest.raises(NotADirectoryError):
        listings.facts("/a.txt", listing.FactLines())


def test_a_listing_that_is_dropped_closes_its_folder(inside: Path) -> None:
    before = open_descriptors()
    pieces = filesystem.Listings(Rules((), None)).names("/")
    assert open_descriptors() == before + 1
    pieces.close()  # type: ignore[attr-defined]
    assert open_descriptors() == before


def test_a_big_folder_comes_in_many_slices_in_order(inside: Path) -> None:
    os.mkdir("many")
    for number in range(12_000):
        os.close(os.open(f"many/{number:05}", os.O_CREAT))
    pieces = list(filesystem.Listings(Rules((), None)).names("/many"))
    assert len(pieces) > 20
    assert all_of(pieces).split() == [b"%05d" % number for number in range(12_000)]


def test_a_file_that_goes_away_meanwhile_is_left_out(inside: Path) -> None:
    pieces = filesystem.Listings(Rules((), None)).long("/pub", 0.0)
    os.unlink("pub/b.txt")
    assert b"b.txt" not in all_of(pieces)
