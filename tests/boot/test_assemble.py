"""boot.assemble: from a plan and what was fetched to the files of a release and an overlay."""

from __future__ import annotations

import hashlib

import pytest

from appliance.boot import assemble, records
from appliance.boot.model import Alias, File, Manifest, Menu, Once, Overlay, Owned, Plan, Source, Take
from appliance.boot.records import BootError, Fetched, Given
from appliance.settings.plain import encode

SOURCES = (
    Source("kit", "https", "https://h/kit.tar", "tar", "a" * 64),
    Source("one", "file", "/one", unverified=True),
)
KEY = "0123456789abcdef"


def sha(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()


def had(name: str, *members: str, verified: str = "sha256") -> Fetched:
    files = tuple(records.File(one, 3, sha(one.encode()), f"from {name}", verified) for one in members)
    return Fetched(name, "s", f"from {name}", "a" * 64, 9, 1, verified, 0, files)


FETCHED = {"kit": had("kit", "boot/kernel", "boot/deep/initrd"), "one": had("one", "one", verified="")}
TAKES = (
    Take("kit", "boot/", "debian/", ("tftp", "ftp")),
    Take("kit", "boot/kernel", "kernel", ("tftp",)),
    Take("one", "", "one.bin", ("ftp",)),
)


def plan(files: tuple[File, ...] = ()) -> Plan:
    manifest = Manifest("", SOURCES, TAKES, (), (), (), (), (), (), (), Menu(), "")
    return Plan(manifest, SOURCES, TAKES, files, Overlay((), ()))


def test_members_are_placed_with_their_origin_and_proof() -> None:
    tree = assemble.release(plan(), FETCHED)
    found = {file.path: file for file in tree.files}
    assert set(found) == {"debian/kernel", "debian/deep/initrd", "kernel", "one.bin"}
    assert found["debian/kernel"].roots == ("tftp", "ftp") and found["kernel"].roots == ("tftp",)
    assert found["debian/deep/initrd"].origin == "from kit: boot/deep/initrd"
    assert found["debian/kernel"].verified == "sha256" and found["debian/kernel"].sha256 == sha(b"boot/kernel")
    assert found["one.bin"].verified == "" and found["one.bin"].origin == "from one"
    records.make(1, "", tree.files, assemble.stored_plan(plan()))


def test_rendered_files_win_and_bring_their_content() -> None:
    files = (File("tftp", "debian/kernel", "text"), File("ftp", "menu", "m"), File("tftp", "menu", "m"))
    tree = assemble.release(plan(files=files), FETCHED)
    by_root = {(root, file.path): file for file in tree.files for root in file.roots}
    assert by_root["tftp", "debian/kernel"].sha256 == sha(b"text")
    assert by_root["ftp", "debian/kernel"].sha256 == sha(b"boot/kernel")
    assert by_root["tftp", "menu"].roots == ("tftp", "ftp") and by_root["tftp", "menu"].verified == "manifest"
    assert tree.contents == {sha(b"text"): b"text", sha(b"m"): b"m"}


def test_a_source_that_was_never_fetched_has_no_listing() -> None:
    assert assemble.listings(SOURCES, {"one": FETCHED["one"]}) == {"one": {"": 3}}


def test_what_is_not_fetched_is_named() -> None:
    with pytest.raises(BootError, match="not fetched yet: kit, one \\(appliance boot fetch\\)"):
        assemble.release(plan(), {})


def owned(once: Once | None = None) -> Owned:
    return Owned(
        "web1",
        "p",
        ("pxelinux.cfg/01-a",),
        ("kernel",),
        (File("tftp", "pxelinux.cfg/01-a", "text"), File("ftp", "answers/web1", "a")),
        (Alias("tftp", "a/", "debian/"), Alias("tftp", "k", "kernel"), Alias("ftp", "none", "nothing")),
        once,
    )


def test_an_overlay_has_rendered_files_and_names_for_files_of_the_release() -> None:
    tree = assemble.release(plan(), FETCHED)
    found = set(assemble.overlay(Overlay((owned(),), ()), tree.files))
    assert found == {
        Given("tftp", "pxelinux.cfg/01-a", b"text"),
        Given("ftp", "answers/web1", b"a"),
        Given("tftp", "a/kernel", sha(b"boot/kernel")),
        Given("tftp", "a/deep/initrd", sha(b"boot/deep/initrd")),
        Given("tftp", "k", sha(b"boot/kernel")),
    }


def test_files_of_armed_machines_lie_apart_with_an_index() -> None:
    tree = assemble.release(plan(), FETCHED)
    found = assemble.overlay(Overlay((), (owned(Once("p", 9, KEY)),)), tree.files)
    by_place = {(one.root, one.path): one.content for one in found}
    assert by_place["tftp", "once/pxelinux.cfg/01-a"] == b"text"
    assert by_place["ftp", "once/.index"] == f"{KEY} answers/web1\n".encode()
    assert by_place["tftp", "once/.index"] == b"".join(
        f"{KEY} {name}\n".encode() for name in ("a/deep/initrd", "a/kernel", "k", "pxelinux.cfg/01-a")
    )


def test_a_release_keeps_the_manifest() -> None:
    assert assemble.stored_plan(plan()) == {"manifest": encode(plan().manifest)}
