"""ftp.folders: listings in slices, of all that clients see and of nothing else."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from appliance.ftp import filesystem, folders, listing
from appliance.ftp.policy import Rules
from appliance.ftp.renderings import Reader

NOW = 0.0  # a clock behind every time stamp: nothing is shared
NS = 1_600_000_000_123_456_789


def fill(folder: str, count: int) -> None:
    os.mkdir(folder)
    for number in range(count):
        os.close(os.open(f"{folder}/{number:05}", os.O_CREAT))


def settle(folder: str) -> float:
    """Make the last change of a folder an old one; returns the time of now for a listing."""
    os.utime(folder, ns=(NS, NS))
    return os.stat(folder).st_ctime + 60.0


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def all_of(listings: folders.Listings, pieces: Reader) -> bytes:
    """What a session gets that asks again in each turn of the loop."""
    found = []
    for piece in pieces:
        found.append(piece)
        listings.renderings.turn()
    return b"".join(found)


def test_a_link_inside_the_tree_works_and_a_broken_one_does_not_exist(inside: Path) -> None:
    os.symlink("pub", "latest")
    os.symlink("/no/such/place", "broken")
    os.symlink("loop", "loop")
    listings = folders.Listings(Rules((), None))
    assert filesystem.look("/latest/b.txt").st_size == 2
    filesystem.enter("/latest")
    long, names, facts = (
        all_of(listings, listings.long("/", NOW)),
        all_of(listings, listings.names("/", NOW)),
        all_of(listings, listings.facts("/", listing.FactLines(), NOW)),
    )
    assert b" latest -> pub\r\n" in long
    assert b"latest\r\n" in names
    # not type=dir: who mirrors by MLSD would follow it, and a link to a folder above has no end
    assert b"type=OS.unix=slink:pub;" in facts.split(b" latest")[0].split(b"\r\n")[-1]
    assert listings.fact("/latest", listing.FactLines()).startswith(b"type=dir;")
    for text in (long, names, facts):
        assert b"broken" not in text and b"loop" not in text


def test_a_refusal_of_a_listing_is_known_before_its_first_slice(inside: Path) -> None:
    listings = folders.Listings(Rules((), None))
    for build in (listings.long, listings.names):
        with pytest.raises(OSError):  # noqa: PT011
            build("/nothing", NOW)
    with pytest.raises(NotADirectoryError):
        listings.facts("/a.txt", listing.FactLines(), NOW)


def test_a_listing_that_is_dropped_closes_its_folder(inside: Path) -> None:
    fill("many", 5_000)
    before = open_descriptors()
    listings = folders.Listings(Rules((), None))
    listings.renderings.turn()
    pieces = listings.long("/many", NOW)
    assert open_descriptors() > before
    pieces.close()
    pieces.close()
    assert open_descriptors() == before
    assert (listings.renderings.held, listings.renderings.busy) == (0, False)


@pytest.mark.parametrize("at_once", [5_000, 100])
def test_a_big_folder_is_listed_in_order_sorted_or_merged(
    inside: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(folders, "_SORTED", at_once)
    fill("many", 5_000)
    listings = folders.Listings(Rules((), None))
    found = all_of(listings, listings.names("/many", NOW))
    assert found.split() == [b"%05d" % number for number in range(5_000)]


def test_a_file_that_goes_away_meanwhile_is_left_out(inside: Path) -> None:
    fill("many", 5_000)
    listings = folders.Listings(Rules((), None))
    pieces = listings.long("/many", NOW)
    os.unlink("many/04999")
    found = all_of(listings, pieces)
    assert b" 04998\r\n" in found and b"04999" not in found


def test_a_listing_is_shared_until_the_folder_changes(inside: Path) -> None:
    listings = folders.Listings(Rules((), None))
    now = settle("pub")
    first = all_of(listings, listings.long("/pub", now))
    os.truncate("pub/b.txt", 1)  # the folder does not change by this, which is why the age is bounded
    assert all_of(listings, listings.long("/pub", now)) == first
    os.rename("pub/b.txt", "pub/d.txt")
    assert b" 1 " in (after := all_of(listings, listings.long("/pub", now)))
    assert b"d.txt" in after and b"b.txt" not in after


@pytest.mark.parametrize("change", ["create", "remove", "rename", "replace"])
def test_no_change_of_a_folder_is_ever_missed_however_soon_it_comes(inside: Path, change: str) -> None:
    listings = folders.Listings(Rules((), None))
    for round_ in range(100):
        name, other = f"pub/x{round_}", f"pub/y{round_}"
        with open(name, "wb") as file:
            file.write(b"old")
        all_of(listings, listings.long("/pub", time.time()))  # begun in the same tick of the clock
        if change == "create":
            os.close(os.open(other, os.O_CREAT))
        elif change == "remove":
            os.unlink(name)
        elif change == "rename":
            os.rename(name, other)
        else:
            with open(other, "wb") as file:
                file.write(b"newer")
            os.rename(other, name)
        found = all_of(listings, listings.long("/pub", time.time()))
        assert (other[4:].encode() in found) == (change in ("create", "rename"))
        assert (name[4:].encode() in found) == (change not in ("remove", "rename"))
        assert change != "replace" or b" 5 " in found.split(name[4:].encode())[0].split(b"\r\n")[-1]


def test_listings_of_different_kinds_and_names_are_not_mixed_up(inside: Path) -> None:
    listings = folders.Listings(Rules((), "pub/deep"))
    now = settle("pub")
    os.symlink("pub", "same")
    few = listing.FactLines(("size",))
    assert all_of(listings, listings.names("/pub", now)) == b"b.txt\r\nc.iso\r\ndeep\r\n"
    assert all_of(listings, listings.names("/pub", now, "", "pub")).startswith(b"pub/b.txt\r\n")
    assert all_of(listings, listings.names("/pub", now, "*.iso")) == b"c.iso\r\n"
    assert all_of(listings, listings.facts("/pub", few, now)).startswith(b"size=2; b.txt\r\n")
    assert b"perm=ec;" in all_of(listings, listings.facts("/pub", listing.FactLines(), now))
    assert b"perm=ec;" not in all_of(listings, listings.facts("/same", listing.FactLines(), now))


def test_a_name_in_any_bytes_is_listed_with_those_bytes(inside: Path) -> None:
    listings = folders.Listings(Rules((), None))
    with open(b"new\nline", "wb"):
        pass
    assert b"caf\xe9\r\n" in (found := all_of(listings, listings.names("/", NOW)))
    assert b"new" not in found


def seconds_to_list(path: str) -> float:
    """CPU time of the fastest of some listings of 2,000 entries."""
    took = []
    for _ in range(5):
        listings = folders.Listings(Rules((), None))
        started = time.process_time()
        assert all_of(listings, listings.long(path, NOW)).count(b"\r\n") == 2000
        took.append(time.process_time() - started)
    return min(took)


def test_a_pattern_of_a_stranger_is_bounded_in_length_and_kept_nowhere(inside: Path) -> None:
    listings = folders.Listings(Rules((), None))
    (inside / "abc").touch()
    assert all_of(listings, listings.names("/", NOW, "a*" + "?" * 2)).count(b"abc") == 1
    assert all_of(listings, listings.names("/", NOW, "?" * 16 + "x" * 239)) == b""
    for pattern in ("*" + "x" * 255, "*" * 17, "?" * 17, "[a-z]" * 17):
        with pytest.raises(FileNotFoundError):
            listings.names("/", NOW, pattern)


@pytest.mark.parametrize("lead", ["link", "link/up", "far/x", "up-link", "box/up"])
def test_no_link_leads_into_the_drop_box_where_all_processes_have_one_uid(
    inside: Path, lead: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filesystem._KeptOut, "path", None)
    (inside / "box").mkdir(mode=0o700)
    (inside / "box" / "up").write_bytes(b"secret")
    (inside / "link").symlink_to("box")
    (inside / "far").mkdir()
    (inside / "far" / "x").symlink_to("../link")
    (inside / "up-link").symlink_to("box/up")
    filesystem.keep_out("/box")
    listings = folders.Listings(Rules((), "/box"))
    for attempt in (filesystem.open_file, filesystem.enter, lambda path: listings.long(path, NOW, "*")):
        with pytest.raises(OSError, match=r"drop box|Not a directory|regular"):
            attempt(f"/{lead}")  # type: ignore[operator]
    assert filesystem.exists("/box")  # that it is there is no secret
    (inside / "free").write_bytes(b"x")
    filesystem.open_file("/free").close()


def test_a_drop_box_that_was_switched_off_gives_nothing_away_where_all_processes_have_one_uid(
    inside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen: with `incoming.enabled: false`, or another `path`, all that waited in quarantine was listed and served."""
    monkeypatch.setattr(filesystem._KeptOut, "path", None)
    monkeypatch.setattr(filesystem._KeptOut, "root", None)
    (inside / "old" / "deep").mkdir(parents=True)
    (inside / "old").chmod(0o700)
    (inside / "old" / "up").write_bytes(b"secret")
    (inside / "old" / "deep" / "up").write_bytes(b"secret")
    (inside / "to-file").symlink_to("old/up")
    (inside / "to-folder").symlink_to("old/deep")
    listings = folders.Listings(Rules((), None))
    filesystem.keep_out_of_closed()
    for path in ("/old/up", "/old/deep/up", "/to-file", "/to-folder/up"):
        with pytest.raises(FileNotFoundError, match="closed to others"):
            filesystem.open_file(path)
    for path in ("/old", "/old/deep", "/to-folder"):
        for attempt in (filesystem.enter, lambda path: all_of(listings, listings.long(path, NOW, ""))):
            with pytest.raises(FileNotFoundError, match="closed to others"):
                attempt(path)  # type: ignore[operator]
    assert filesystem.exists("/old")  # as where the kernel keeps us out
    (inside / "old").chmod(0o710)
    filesystem.open_file("/old/up").close()


def kinds(inside: Path) -> set[bytes]:
    """A folder with 250 files between which lie all other kinds; returns the names that clients see."""
    folder = inside / "kinds"
    folder.mkdir()
    for number in range(250):
        (folder / f"f{number:03}").write_bytes(b"x" * number)
    (folder / "f010-folder").mkdir()
    os.symlink("f011", folder / "f010-link")
    os.symlink("nothing", folder / "f010-broken")
    os.symlink("../.releases/x", folder / "f010-published")
    os.mkfifo(folder / "f120-fifo")
    (folder / ".git").mkdir()
    (folder / "f130\nbroken").touch()
    with open(os.fsencode(folder) + b"/f140\xe9", "wb"):
        pass
    return {*(b"f%03d" % number for number in range(250)), b"f010-folder", b"f010-link", b"f140\xe9"}


@pytest.mark.parametrize("hide", [(".git",), ("*.git",)])  # names are looked at together, or one by one
def test_a_listing_made_of_many_entries_at_once_shows_each_of_them_as_one_alone(
    inside: Path, hide: tuple[str, ...]
) -> None:
    seen = kinds(inside)
    listings = folders.Listings(Rules(hide, None))
    facts = all_of(listings, listings.facts("/kinds", listing.FactLines(), NOW)).splitlines()
    long = all_of(listings, listings.long("/kinds", NOW)).splitlines()
    names = all_of(listings, listings.names("/kinds", NOW)).splitlines()
    assert {line.split(b"; ", 1)[1] for line in facts} == {line.rsplit(b" ")[-1] for line in names} == seen
    assert [line.split()[8] for line in long] == sorted(seen)
    assert [int(line.split()[4]) for line in long if len(line.split()[8]) == 4] == list(range(250))
    assert any(line.endswith(b"f010-link -> f011") for line in long)
    for line in facts:
        alone = listings.fact(
            f"/kinds/{line.split(b'; ', 1)[1].decode('utf-8', 'surrogateescape')}", listing.FactLines()
        )
        of_target = line.replace(b"OS.unix=slink:f011", b"file")
        assert of_target.split(b"; ")[0] == alone.split(b"; ")[0]
    assert sum(b"slink" in line for line in facts) == 1


def test_an_entry_that_goes_while_its_folder_is_listed_takes_no_other_with_it(
    inside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = kinds(inside)
    looked = os.stat

    def stat(name: str, **how: Any) -> os.stat_result:
        if name in ("f020", "f230") and (inside / "kinds" / name).exists():
            os.unlink(inside / "kinds" / name)
        return looked(name, **how)

    monkeypatch.setattr(os, "stat", stat)
    listings = folders.Listings(Rules((".git",), None))
    long = all_of(listings, listings.long("/kinds", NOW)).splitlines()
    assert {line.split()[8] for line in long} == seen - {b"f020", b"f230"}
    (inside / "kinds" / "f020").touch()
    facts = all_of(listings, listings.facts("/kinds", listing.FactLines(), NOW)).splitlines()
    assert {line.split(b"; ", 1)[1] for line in facts} == seen - {b"f020", b"f230"}


@pytest.mark.parametrize("told", ["twice", "without its kind"])
def test_names_are_the_same_whatever_the_file_system_tells_of_them(
    inside: Path, monkeypatch: pytest.MonkeyPatch, told: str
) -> None:
    """A folder that changes may tell an entry twice; some file systems tell no kinds, and asking for one may fail."""
    seen = kinds(inside)
    scandir = os.scandir

    class Scan:
        def __init__(self, folder: int) -> None:
            with scandir(folder) as scan:
                self.entries = [Entry(entry) for entry in scan] * (2 if told == "twice" else 1)

        def __enter__(self) -> Any:
            return iter(self.entries)

        def __exit__(self, *_: object) -> None:
            pass

    class Entry:
        def __init__(self, real: os.DirEntry[str]) -> None:
            self.real, self.name = real, real.name

        def __getattr__(self, name: str) -> Any:
            return getattr(self.real, name)

        def is_file(self, *, follow_symlinks: bool = True) -> bool:
            if told != "twice" and not follow_symlinks:
                raise PermissionError
            return self.real.is_file(follow_symlinks=follow_symlinks)

    monkeypatch.setattr(os, "scandir", Scan)
    listings = folders.Listings(Rules((".git",), None))
    names = all_of(listings, listings.names("/kinds", NOW)).splitlines()
    assert set(names) == seen
    assert names.count(b"f010-link") == 1


def test_a_folder_far_down_is_listed_as_fast_as_any(inside: Path) -> None:
    deep = "d/" * 400  # walking it for every entry takes ten times as long
    os.makedirs(deep)
    for folder in (deep, "near/"):
        os.makedirs(folder, exist_ok=True)
        for number in range(2000):
            os.close(os.open(f"{folder}{number:04}", os.O_CREAT))
    assert seconds_to_list("/" + deep[:-1]) < 4 * seconds_to_list("/near")
