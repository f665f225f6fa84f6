"""boot.publish: one commit point, whatever happens on the way; only our own folders are touched."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from appliance.boot import disk, records, trees
from appliance.boot.publish import Home, Keep
from appliance.boot.records import BootError, Fetched, Given
from tests.boot import homes, killing
from tests.boot.homes import OVERLAY, home, keep, lay_out, leftovers, made, put, whole
from tests.support import needs_root


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: what is tried here is the order of calls, hundreds of times."""
    if not os.path.isdir("/dev/shm"):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as found:
        yield Path(found)


@pytest.fixture
def place(quick: Path) -> Path:
    return lay_out(quick / "h")


def contents(place: Path) -> set[str]:
    return {path.name for path in (place / "boot" / "store").glob("??/*")}


def test_a_release_is_served_whole_in_both_roots(place: Path) -> None:
    with home(place) as it:
        published = it.publish(made(it, 1, kernel=b"k1", debian__initrd=b"i1"), OVERLAY, keep(5))
    release = whole(place)
    assert release is not None and release.id == published.id and published.overlay == 1
    assert published.how == {"linked": 4} and not published.unchanged
    assert (place / "boot" / "format").read_text() == "1\n"
    assert (place / "boot" / "current").read_text() == f"{release.id} 1\n"
    tree = place / "tftp" / ".releases" / release.id
    assert tree.stat().st_mode & 0o777 == 0o755 and (tree / "kernel").stat().st_mode & 0o777 == 0o444


def test_a_file_is_only_in_the_roots_that_it_is_for(place: Path) -> None:
    with home(place) as it:
        one, two = put(it, "a", b"for tftp", ("tftp",)), put(it, "a", b"for ftp", ("ftp",))
        release = it.publish(records.make(1, "", [one, two], None), OVERLAY, keep(5))
    assert (place / "tftp" / ".releases" / release.id / "a").read_bytes() == b"for tftp"
    assert (place / "ftp" / ".releases" / release.id / "a").read_bytes() == b"for ftp"


def test_the_same_tree_again_is_no_new_release_but_a_new_overlay(place: Path) -> None:
    with home(place) as it:
        first = it.publish(made(it, 1, kernel=b"k"), OVERLAY, keep(5))
        again = it.publish(made(it, 2, kernel=b"k"), (*OVERLAY, Given("ftp", "auto", b"x")), keep(5))
    assert again.unchanged and again.id == first.id and again.overlay == 2
    assert (place / "ftp" / ".releases" / "overlay-2" / "auto").read_bytes() == b"x"


def test_an_overlay_can_have_a_file_of_the_store(place: Path) -> None:
    with home(place) as it:
        kernel = put(it, "kernel", b"k")
        it.publish(records.make(1, "", [kernel], None), (*OVERLAY, Given("tftp", "rpi/kernel", kernel.sha256)), keep(5))
        with pytest.raises(BootError, match="not in the store"):
            it.render((Given("tftp", "x", "0" * 64),), 9)
        with pytest.raises(BootError, match="leads out"):
            it.render((Given("tftp", "../x", b""),), 9)
    assert (place / "tftp" / ".releases" / "overlay-1" / "rpi" / "kernel").read_bytes() == b"k"
    assert whole(place) is not None and leftovers(place) == []


def test_rollback_serves_the_older_tree_again(place: Path) -> None:
    with home(place) as it:
        first = it.publish(made(it, 1, kernel=b"k1"), OVERLAY, keep(5))
        second = it.publish(made(it, 2, kernel=b"k2"), OVERLAY, keep(5))
        assert it.rollback(first.id, OVERLAY, 9).overlay == 3
        assert it.ids() == [first.id, second.id]
    served = whole(place)
    assert served is not None and served.id == first.id


def test_rollback_costs_nothing_for_files_whose_trees_are_there(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with home(place) as it:
        first = it.publish(made(it, 1, kernel=b"k1"), OVERLAY, keep(5))
        it.publish(made(it, 2, kernel=b"k2"), OVERLAY, keep(5))
        monkeypatch.setattr(Home, "release", lambda *_: pytest.fail("10,000 files are read for nothing"))
        assert it.rollback(first.id, OVERLAY, 9).how == {}
    served = whole(place)
    assert served is not None and served.id == first.id


def test_rollback_makes_a_tree_again_that_was_lost_with_its_disk(place: Path) -> None:
    with home(place) as it:
        first = it.release(it.publish(made(it, 1, kernel=b"k1"), OVERLAY, keep(5)).id)
        it.publish(made(it, 2, kernel=b"k2"), OVERLAY, keep(5))
    shutil.rmtree(place / "ftp" / ".releases" / first.id)
    with home(place) as it:
        it.rollback(first.id, OVERLAY, 9)
    assert whole(place) == first


def test_a_release_that_is_not_there_is_told(place: Path) -> None:
    with home(place) as it:
        with pytest.raises(BootError, match="there is no release 20260101-000000-00000000"):
            it.rollback("20260101-000000-00000000", OVERLAY, 9)
        with pytest.raises(BootError, match="not the id of a release"):
            it.rollback("../x", OVERLAY, 9)
        with pytest.raises(BootError, match="nothing is published"):
            it.render(OVERLAY, 9)


def test_content_that_is_missing_stops_a_publish_before_anything_is_made(place: Path) -> None:
    with home(place) as it:
        first = it.release(it.publish(made(it, 1, kernel=b"k1"), OVERLAY, keep(5)).id)
        ghost = records.File("kernel", 2, "0" * 64, roots=("tftp",))
        with pytest.raises(BootError, match="kernel, whose content is not in the store"):
            it.publish(records.make(2, "", [ghost], None), OVERLAY, keep(5))
    assert whole(place) == first


def test_old_releases_go_and_those_in_use_stay(place: Path) -> None:
    with home(place) as it:
        ids = [it.publish(made(it, n, kernel=b"k%d" % n), OVERLAY, keep(3)).id for n in range(1, 6)]
        assert it.ids() == ids[2:]
        it.rollback(ids[2], OVERLAY, 9)
        found = it.collect(keep(1))
        assert it.ids() == [ids[2], ids[4]] and found.releases == (ids[3],)
        assert found.contents == 3 and found.size == 6  # k1, k2, k4
    assert whole(place) is not None
    assert sorted(os.listdir(place / "tftp" / ".releases")) == sorted(
        [ids[2], f"{ids[2]}.sums", ids[4], f"{ids[4]}.sums", "overlay-4", "overlay-5", "overlay-6"]
    )


def test_a_release_that_clients_may_still_be_served_from_stays(place: Path) -> None:
    def at(now: int) -> Keep:
        return Keep(1, now, 600.0)

    with home(place) as it:
        first = it.publish(made(it, 1, kernel=b"k1"), OVERLAY, at(1000)).id
        second = it.publish(made(it, 2, kernel=b"k2"), OVERLAY, at(2000)).id
        assert it.ids() == [first, second]  # the first was in force until now
        third = it.publish(made(it, 3, kernel=b"k3"), OVERLAY, at(2599)).id
        assert it.ids() == [first, second, third]
        assert it.collect(at(2600)).releases == (first,)
        assert it.collect(at(3199)).releases == (second,)


def test_a_release_that_clients_are_pinned_to_stays_for_a_day_at_most(place: Path) -> None:
    def at(now: int, *held: str) -> Keep:
        return Keep(1, now, 600.0, held)

    with home(place) as it:
        ids = [it.publish(made(it, n, kernel=b"k%d" % n), OVERLAY, at(1000)).id for n in (1, 2, 3)]
        assert it.collect(at(1600, ids[1], "unknown")).releases == (ids[0],)
        assert it.collect(Keep(1, 87_399, 600.0, None)).releases == ()  # who is pinned could not be told
        assert it.collect(at(87_399, ids[1])).releases == ()
        assert it.collect(at(87_400, ids[1])).releases == (ids[1],)
        assert it.ids() == ids[2:]


def test_a_note_of_retired_releases_that_is_damaged_hinders_nothing(place: Path) -> None:
    with home(place) as it:
        it.publish(made(it, 1, kernel=b"k1"), OVERLAY, keep(5))
        (place / "boot" / "retired").write_text("[1")
        it.publish(made(it, 2, kernel=b"k2"), OVERLAY, keep(5))
    assert whole(place) is not None


def test_content_of_a_source_is_kept_until_the_manifest_has_it_no_more(place: Path) -> None:
    with home(place) as it:
        member = put(it, "boot/kernel", b"fetched", ())
        it.record(Fetched("debian", "spec", "deb:x", "0" * 64, 7, 1, "apt", 0, (member,)))
        assert it.collect(keep(5), {"debian"}).contents == 0
        assert [one.name for one in it.sources()] == ["debian"]
        assert it.collect(keep(5), set()).contents == 1
        assert it.sources() == []


def test_what_was_rendered_for_an_armed_machine_leaves_the_disk_with_the_next_overlay_but_one(place: Path) -> None:
    armed = (*OVERLAY, *(Given(root, "once/answers/a.cfg", b"secret") for root in homes.ROOTS))
    with home(place) as it:
        it.publish(made(it, 1, kernel=b"k"), armed, keep(5))
        it.render(armed, 2)
        last = it.render(OVERLAY, 3).overlay
        it.render(OVERLAY, 4)
    for root in homes.ROOTS:
        kept = {path.name: path for path in (place / root / ".releases").glob("overlay-*")}
        assert {f"overlay-{number}" for number in (last - 1, last)} <= set(kept)
        assert [path for path in kept.values() if (path / "once").exists()] == []
    assert (place / "tftp" / ".releases" / f"overlay-{last - 1}" / OVERLAY[0].path).exists()


def test_two_at_once_are_refused(place: Path) -> None:
    with home(place), pytest.raises(BootError, match="another `appliance boot` is at work"), home(place):
        pass


def test_a_newer_format_is_refused(place: Path) -> None:
    (place / "boot" / "format").write_text("2\n")
    with pytest.raises(BootError, match="has format '2', this build knows 1 \\(use the newer build\\)"), home(place):
        pass


def test_nothing_beside_the_releases_is_touched(place: Path) -> None:
    for root in homes.ROOTS:
        (place / root / "incoming").mkdir()
        (place / root / "incoming" / "upload").write_bytes(b"u")
        (place / root / "released").mkdir()
        (place / root / "released" / "file").write_bytes(b"r")
        (place / root / "link").symlink_to(place / "boot")
    before = _outside(place)
    with home(place) as it:
        first = it.publish(made(it, 1, by__hand=b"a"), OVERLAY, keep(1))
        it.publish(made(it, 2, incoming__upload=b"b"), OVERLAY, keep(1))
        it.publish(made(it, 3, released__file=b"c"), OVERLAY, keep(1))
        with pytest.raises(BootError):
            it.rollback(first.id, OVERLAY, 9)
        it.collect(keep(1))
    assert _outside(place) == before


def _outside(place: Path) -> dict[str, tuple[int, int, int]]:
    return {
        str(path): (path.lstat().st_ino, path.lstat().st_mtime_ns, path.lstat().st_mode)
        for root in homes.ROOTS
        for path in (place / root).rglob("*")
        if ".releases" not in path.parts
    }


def test_what_somebody_put_among_the_releases_is_removed_without_following_it(place: Path) -> None:
    (place / "precious").mkdir()
    (place / "precious" / "x").write_text("x")
    folder = place / "tftp" / ".releases" / "stray"
    folder.mkdir()
    (folder / "link").symlink_to(place / "precious")
    (place / "tftp" / ".releases" / "link").symlink_to(place / "precious")
    with home(place) as it:
        it.publish(made(it, 1, kernel=b"k"), OVERLAY, keep(5))
    assert (place / "precious" / "x").read_text() == "x"
    assert not folder.exists() and not (place / "tftp" / ".releases" / "link").is_symlink()


def test_a_kill_at_any_system_call_leaves_the_old_or_the_new_whole(place: Path, quick: Path) -> None:
    """Every call in `BOOT_EVERY_CALL=1`, a sample of them otherwise; each time the next publish works."""
    _published_twice(place)

    def again(k: int) -> Path:
        shutil.rmtree(quick / f"k{k - 1}", ignore_errors=True)
        return shutil.copytree(place, quick / f"k{k}", symlinks=True)

    _kill_everywhere(again, 5)


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Path]:
    """State and roots on file systems of their own."""
    place = tmp_path / "three"
    with ExitStack() as mounted:
        for name in ("boot", *homes.ROOTS):
            (place / name).mkdir(parents=True)
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", place / name], check=True)
            mounted.callback(subprocess.run, ["umount", place / name], check=True)
        yield place


def _clear(place: Path) -> Path:
    """As `lay_out` makes them, and nothing in them."""
    for name in ("boot", *homes.ROOTS):
        for path in (place / name).iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for root in homes.ROOTS:
        (place / root / ".releases").mkdir()
        (place / root / "by-hand").write_text("copied by hand")
    return place


@pytest.mark.root
@needs_root[1]
def test_a_kill_at_any_system_call_does_no_harm_on_three_file_systems(three: Path) -> None:
    def again(_k: int) -> Path:
        _published_twice(_clear(three))
        return three

    _kill_everywhere(again, 7)


def _published_twice(place: Path) -> None:
    with home(place) as it:
        it.publish(made(it, 1, kernel=b"k0", debian__initrd=b"i0"), OVERLAY, keep(2))
        it.publish(made(it, 2, kernel=b"k1", debian__initrd=b"i1"), OVERLAY, keep(2))


def _kill_everywhere(again: Callable[[int], Path], step: int) -> None:
    """Kill the third publish at its system calls; `again(k)` is the place with two releases, as it was."""

    def publish(where: Path) -> None:
        with home(where) as it:
            it.publish(made(it, 3, kernel=b"k2", debian__initrd=b"i2", debian__more=b"m"), OVERLAY, keep(2))

    complete = again(0)
    calls = killing.run(lambda: publish(complete), None)
    served = whole(complete)
    assert served is not None and served.created == 3 and calls > 300
    seen = set()
    for k in range(1, calls + 1, 1 if os.environ.get("BOOT_EVERY_CALL") == "1" else step):
        where = again(k)
        assert killing.run(lambda where=where: publish(where), k) == 0  # type: ignore[misc]
        found = whole(where)
        assert found is not None and found.created in (2, 3), f"killed at call {k}"
        seen.add(found.created)
        publish(where)
        after = whole(where)
        assert after is not None and after.created == 3 and leftovers(where) == []
    assert seen == {2, 3}


@pytest.mark.parametrize("call", ["open", "write", "fsync", "rename", "link", "mkdir", "unlink"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_call_that_fails_leaves_what_was_served(
    place: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    """A full disk, a broken one: at each call of a kind in turn, until a publish gets through."""
    with home(place) as it:
        old = it.release(it.publish(made(it, 1, kernel=b"k1"), OVERLAY, keep(5)).id)
    plain: Callable[..., object] = getattr(os, call)
    for nth in range(1, 200):
        count = 0

        def failing(*arguments: object, nth: int = nth, **more: object) -> object:
            nonlocal count
            count += 1
            if count == nth:
                raise OSError(number, os.strerror(number))
            return plain(*arguments, **more)

        monkeypatch.setattr(os, call, failing)
        try:
            with home(place) as it:
                it.publish(made(it, 2, kernel=b"k2", debian__initrd=b"i"), OVERLAY, keep(5))
        except OSError:
            monkeypatch.setattr(os, call, plain)
            found = whole(place)
            assert found is not None and (found == old or found.created == 2)
        else:
            monkeypatch.setattr(os, call, plain)
            if count < nth:
                break
    else:
        pytest.fail("it never got through")
    with home(place) as it:
        it.sweep()
    found = whole(place)
    assert found is not None and found.created == 2 and leftovers(place) == []


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EMLINK, errno.EPERM])
def test_where_no_link_can_be_made_files_are_copied(place: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    with home(place) as it:
        published = it.publish(made(it, 1, kernel=b"k" * 3_000_000, a=b"a"), OVERLAY, keep(5))
    assert published.how["linked"] == 0 and sum(published.how.values()) == 4
    served = whole(place)
    assert served is not None and served.id == published.id


def test_another_error_of_a_link_is_not_hidden(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "link", refuse)
    with home(place) as it, pytest.raises(OSError, match="error"):
        it.publish(made(it, 1, kernel=b"k"), OVERLAY, keep(5))


@pytest.mark.root
@needs_root[1]
def test_the_store_and_the_roots_are_on_three_file_systems(three: Path) -> None:
    _clear(three)
    with home(three) as it:
        many = {f"d{n % 7}__f{n}": b"%d" % n for n in range(100)}
        published = it.publish(made(it, 1, **many), OVERLAY, keep(5))
        assert published.how == {"copied": 200}
        served = whole(three)
        assert served is not None and served.id == published.id
        it.rollback(published.id, OVERLAY, 9)


@pytest.mark.root
@needs_root[1]
@pytest.mark.parametrize("full", ["boot", "tftp", "ftp"])
def test_whichever_of_three_disks_is_full_what_was_served_is_served_on(three: Path, full: str) -> None:
    _published_twice(_clear(three))
    before = whole(three)
    big = os.urandom(3 << 20)
    (three / full / "filler").write_bytes(bytes((32 << 20) - (5 << 19)))  # less than `big` is left
    with pytest.raises(OSError, match="No space left"), home(three) as it:
        it.publish(made(it, 3, kernel=big), OVERLAY, keep(5))
    assert whole(three) == before
    with home(three) as it:
        it.sweep()
    assert leftovers(three) == []
    (three / full / "filler").unlink()
    with home(three) as it:
        it.publish(made(it, 3, kernel=big), OVERLAY, keep(5))
    after = whole(three)
    assert after is not None and after.created == 3


@pytest.mark.root
@needs_root[1]
def test_a_disk_that_is_full_stops_it_and_serves_on(tmp_path: Path) -> None:
    place = tmp_path / "h"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", place], check=True)
    try:
        lay_out(place / "x")
        with home(place / "x") as it:
            first = it.release(it.publish(made(it, 1, kernel=b"k" * 300_000), OVERLAY, keep(5)).id)
        with home(place / "x") as it, pytest.raises(OSError, match="No space left"):
            it.publish(made(it, 2, kernel=os.urandom(3_000_000)), OVERLAY, keep(5))
        assert whole(place / "x") == first and leftovers(place) == []
        with home(place / "x") as it:
            it.publish(made(it, 3, kernel=b"j" * 300_000), OVERLAY, keep(5))
    finally:
        subprocess.run(["umount", place], check=True)


def test_two_services_that_serve_one_folder_have_one_tree(tmp_path: Path) -> None:
    place = lay_out(tmp_path / "h")
    shared = os.open(place / "tftp" / ".releases", disk.FOLDER)
    boot = os.open(place / "boot", disk.FOLDER)
    with Home(boot, {"tftp": shared, "ftp": shared}) as it:
        release = it.publish(records.make(1, "", [put(it, "a", b"a"), put(it, "b", b"b", ("ftp",))], None), (), keep(5))
        assert sorted(os.listdir(place / "tftp" / ".releases" / release.id)) == ["a", "b"]
        clash = [put(it, "a", b"1", ("tftp",)), put(it, "a", b"2", ("ftp",))]
        with pytest.raises(BootError, match="serve one folder"):
            it.publish(records.make(2, "", clash, None), (), keep(5))
    os.close(shared)
    os.close(boot)


def test_an_overlay_number_is_never_used_twice(place: Path) -> None:
    with home(place) as it:
        it.publish(made(it, 1, kernel=b"k"), OVERLAY, keep(5))
        fd = os.open(place / "tftp" / ".releases", disk.FOLDER)
        trees.build_overlay(fd, 7, [("x", b"x")], it.store)  # of a publish that was killed before it committed
        os.close(fd)
        assert it.publish(made(it, 1, kernel=b"k"), OVERLAY, keep(5)).overlay == 2  # swept, so nobody ever saw it
