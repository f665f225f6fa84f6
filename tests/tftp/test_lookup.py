"""lookup: what is published goes before what lies in the root by hand; its own folder exists for nobody."""

from __future__ import annotations

import contextlib
import select
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from appliance import wire
from appliance.settings.tftp import TftpNetwork, TftpRemap, TftpSettings
from appliance.tftp import worker
from appliance.tftp.files import Refusal
from appliance.tftp.lookup import Lookup
from tests.published import trees
from tests.tftp.client import Fetch, RefusedError, fetch, rrq, udp
from tests.tftp.server import SETTINGS, Server, until

Start = Callable[..., Server]


def publish(server: Server, number: int, overlay: int) -> None:
    """Put it in force, and wait until the worker knows; files of the overlay are those of today for everybody."""
    trees.release(server.root, number, {})
    trees.overlay(server.root, overlay, {"probe": b"%d" % overlay})
    server.tell(wire.Release(number, overlay, trees.name(number)))
    until(lambda: probed(server) == b"%d" % overlay, "the new release")


def probed(server: Server) -> bytes:
    try:
        return of(server, "127.9.9.9", "probe")[0]
    except RefusedError:
        return b""


def missing(server: Server, name: str) -> None:
    with pytest.raises(RefusedError, match="1 File not found"):
        fetch(server.address, name)


def test_each_layer_hides_those_below_it_and_what_has_none_comes_from_the_root(server: Server) -> None:
    trees.make(server.root, dict.fromkeys(("all", "two", "one", "sub/one"), b"by hand"))
    trees.release(server.root, 1, dict.fromkeys(("all", "two", "sub/two"), b"release"))
    trees.overlay(server.root, 9, dict.fromkeys(("all", "pxelinux.cfg/01-aa"), b"overlay"))
    assert fetch(server.address, "all") == b"by hand"
    publish(server, 1, 9)
    assert [fetch(server.address, name) for name in ("all", "two", "one")] == [b"overlay", b"release", b"by hand"]
    assert [fetch(server.address, name) for name in ("sub/one", r"sub\two")] == [b"by hand", b"release"]
    assert fetch(server.address, "/pxelinux.cfg/01-aa") == b"overlay"
    missing(server, "pxelinux.cfg/01-bb")


def test_a_change_is_right_on_the_next_request_through_every_cache(server: Server) -> None:
    big = {1: b"1" * 100_000, 2: b"2" * 100_000}
    for number in big:
        trees.release(server.root, number, {"small": b"%d" % number, "big": big[number], f"only{number}": b"x"})
    publish(server, 1, 1)
    for _ in range(3):
        assert (fetch(server.address, "small"), fetch(server.address, "big")) == (b"1", big[1])
    publish(server, 2, 2)
    assert (fetch(server.address, "small"), fetch(server.address, "big")) == (b"2", big[2])
    missing(server, "only1")
    publish(server, 1, 3)  # rolled back
    assert (fetch(server.address, "small"), fetch(server.address, "big")) == (b"1", big[1])
    missing(server, "only2")


def test_a_transfer_that_runs_keeps_its_file(server: Server) -> None:
    content = bytes(range(256)) * 100
    trees.release(server.root, 1, {"f": content})
    publish(server, 1, 1)

    def change(block: int, times: int) -> bool:
        if (block, times) == (3, 1):
            publish(server, 2, 2)
            shutil.rmtree(server.root / ".releases" / trees.name(1))
        return False

    assert fetch(server.address, "f", lose=change) == content
    missing(server, "f")


@pytest.mark.parametrize(
    "name",
    [
        f".releases/{trees.name(1)}/kernel",
        f"/.releases/{trees.name(1)}/kernel",
        f"./.RELEASES/{trees.name(1)}/kernel",
        f".Releases\\{trees.name(1)}\\kernel",
        f"sub/.releases/{trees.name(1)}/kernel",
        f"here/.releases/{trees.name(1)}/kernel",
        f"remapped/{trees.name(1)}/kernel",
        ".releases",
        "direct",
        "folder/kernel",
        "sub/two",
        "once/kernel",
        "ONCE/kernel",
        "once/.index",
    ],
)
def test_the_folder_of_the_releases_exists_for_no_client(start: Start, name: str) -> None:
    rules = (TftpRemap("^remapped/", to=".releases/"),)
    server = start(replace(SETTINGS, case_insensitive=True, remap=rules))
    trees.make(server.root, {"sub/file": b"f"})
    trees.release(server.root, 1, {"kernel": b"k"})
    trees.overlay(server.root, 1, {"once/kernel": b"k", "once/.index": b""})
    (server.root / "here").symlink_to(".")
    (server.root / "direct").symlink_to(f".releases/{trees.name(1)}/kernel")
    (server.root / "folder").symlink_to(f"/.releases/{trees.name(1)}")
    (server.root / "sub" / "two").symlink_to("../direct")
    publish(server, 1, 1)
    assert fetch(server.address, "KERNEL") == b"k"
    missing(server, name)
    assert server.counters["crashes"] == 0


def test_a_name_that_goes_up_is_refused_as_ever(server: Server) -> None:
    publish(server, 1, 1)
    with pytest.raises(RefusedError, match="2 Access violation"):
        fetch(server.address, f"sub/../.releases/{trees.name(1)}/kernel")


def test_other_spellings_are_found_in_every_layer_the_exact_one_first(start: Start) -> None:
    server = start(replace(SETTINGS, case_insensitive=True))
    trees.make(server.root, {"BOOT/Exact": b"by hand", "BOOT/Only": b"by hand"})
    trees.release(server.root, 1, {"Boot/exact": b"release", "Boot/BCD": b"release"})
    trees.overlay(server.root, 1, {"boot/bcd": b"overlay"})
    publish(server, 1, 1)
    assert fetch(server.address, "BOOT/Exact") == b"by hand"
    assert fetch(server.address, "boot/EXACT") == b"release"
    assert fetch(server.address, "bOOt/BcD") == b"overlay"
    assert fetch(server.address, "boot/ONLY") == b"by hand"


def test_the_folder_of_a_network_is_looked_for_in_every_layer(start: Start) -> None:
    server = start(replace(SETTINGS, networks=(TftpNetwork("127.0.1.0/24", root="lab"),)))
    trees.make(server.root, {"lab/a": b"lab by hand", "b": b"by hand"})
    trees.release(server.root, 1, {"lab/a": b"lab release", "a": b"release", "c": b"release"})
    publish(server, 1, 1)
    with udp("127.0.1.1") as sock:
        assert [Fetch(server.address, name, sock=sock).run() for name in "abc"] == [
            b"lab release",
            b"by hand",
            b"release",
        ]
    assert fetch(server.address, "a") == b"release"


def of(server: Server, host: str, *names: str) -> list[bytes]:
    """What a client is given, one after the other."""
    found = []
    for name in names:
        with udp(host) as sock:
            found.append(Fetch(server.address, name, sock=sock).run())
    return found


def two_releases(server: Server) -> None:
    """Release 1 with overlay 1 is in force, release 2 with overlay 2 is there too."""
    for number in (1, 2):
        mark = b"%d" % number
        files = dict.fromkeys(("kernel", "initrd", "pxelinux.cfg/default"), mark)
        trees.release(server.root, number, {**files, "big": mark * 100_000})
        trees.overlay(server.root, number, {"grub.cfg-01-aa": b"overlay" + mark, "ks": mark})
    publish(server, 1, 1)


def test_a_client_goes_on_with_the_release_it_began_with(start: Start) -> None:
    server = start(pin=600.0)
    two_releases(server)
    assert of(server, "127.0.0.5", "kernel") == [b"1"]
    publish(server, 2, 2)
    assert of(server, "127.0.0.5", "initrd", "kernel", "ks") == [b"1", b"1", b"2"]  # single machines have no yesterday
    assert of(server, "127.0.0.6", "kernel", "initrd") == [b"2", b"2"]


@pytest.mark.parametrize("config", ["pxelinux.cfg/default", "grub.cfg-01-aa"])
def test_the_configuration_of_a_loader_begins_anew(start: Start, config: str) -> None:
    server = start(pin=600.0)
    two_releases(server)
    assert of(server, "127.0.0.5", "kernel") == [b"1"]
    publish(server, 2, 2)
    assert of(server, "127.0.0.5", "initrd", config, "kernel", "initrd")[1:] == [
        b"2" if "pxe" in config else b"overlay2", b"2", b"2"
    ]  # fmt: skip
    publish(server, 1, 1)
    assert of(server, "127.0.0.5", "kernel") == [b"2"]


def test_a_pin_ends_when_nothing_was_asked_for_in_its_time_and_a_transfer_keeps_it(start: Start) -> None:
    server = start(pin=1.0)
    two_releases(server)
    began = time.monotonic()

    def slowly(block: int, times: int) -> bool:
        if (block, times) == (2, 1):
            publish(server, 2, 2)
        while block == 100 and time.monotonic() < began + 1.5:
            select.select([], [], [], 0.05)
        return False

    with udp("127.0.0.5") as sock:
        assert Fetch(server.address, "big", sock=sock, lose=slowly).run() == b"1" * 100_000
    assert of(server, "127.0.0.5", "kernel") == [b"1"]  # long after the request, soon after the end of it
    until(lambda: of(server, "127.0.0.7", "kernel") == [b"2"], "the release in force")
    ended = time.monotonic()
    until(lambda: time.monotonic() > ended + 1.2, "the end of the pin")
    assert of(server, "127.0.0.5", "kernel") == [b"2"]


def test_a_pin_to_a_release_that_was_removed_is_none(start: Start) -> None:
    server = start(pin=600.0)
    two_releases(server)
    assert of(server, "127.0.0.5", "kernel") == [b"1"]
    publish(server, 2, 2)
    shutil.rmtree(server.root / ".releases" / trees.name(1))
    assert of(server, "127.0.0.5", "initrd") == [b"2"]


def far_away() -> None:
    """No client is directly connected."""
    worker.near_networks = lambda *_: []  # type: ignore[assignment]


def test_who_is_far_away_and_never_answers_pins_nobody(start: Start) -> None:
    server = start(pin=600.0, sabotage=far_away)
    two_releases(server)
    with udp("127.0.0.5") as sock:
        sock.sendto(rrq("kernel"), server.address)
        assert sock.recv(100)[4:] == b"1"
    assert of(server, "127.0.0.6", "kernel") == [b"1"]
    publish(server, 2, 2)
    assert of(server, "127.0.0.5", "initrd") == [b"2"]
    assert of(server, "127.0.0.6", "initrd", "grub.cfg-01-aa", "initrd") == [b"1", b"overlay2", b"2"]


def test_what_is_missing_in_a_release_is_looked_for_once_and_in_the_next_one_again(tmp_path: Path) -> None:
    trees.make(tmp_path, {"by-hand": b"h"})
    for number in (1, 2):
        trees.release(tmp_path, number, {"new": b"2"} if number == 2 else {})
        trees.overlay(tmp_path, number, {})
    with contextlib.chdir(tmp_path):
        lookup = Lookup(TftpSettings(), lambda *_: None)
        terms = lookup.terms(("127.0.0.1", 69), "127.0.0.1", 0.0)
        lookup.published.take(1, trees.name(1), 1)
        for name in (b"by-hand", b"new", *(b"%d" % number for number in range(5000))):
            for _ in range(2):
                found = lookup.find(name, "127.0.0.1", terms, 0.0)
                assert len(found.tried) == 3
                assert isinstance(found.file, Refusal) == (name != b"by-hand")
                if not isinstance(found.file, Refusal):
                    found.file.close()
        assert len(lookup._absent) <= 8192
        trees.make(tmp_path, {"new": b"by hand"})
        assert not isinstance(lookup.find(b"new", "127.0.0.1", terms, 0.0).file, Refusal)
        lookup.published.take(2, trees.name(2), 2)
        found = lookup.find(b"new", "127.0.0.1", terms, 0.0)
        assert found.served.layer == b"release"
        assert not isinstance(found.file, Refusal)
        found.file.close()


def test_names_missing_in_trees_of_yesterday_were_remembered_until_there_were_8192(tmp_path: Path) -> None:
    trees.make(tmp_path, {"by-hand": b"h"})
    for number in range(1, 6):
        trees.release(tmp_path, number, {})
        trees.overlay(tmp_path, number, {})
    with contextlib.chdir(tmp_path):
        lookup = Lookup(TftpSettings(), lambda *_: None)
        terms = lookup.terms(("127.0.0.1", 69), "127.0.0.1", 0.0)
        for number in range(1, 6):
            lookup.published.take(number, trees.name(number), number)
            found = [lookup.find(b"%d" % name, "127.0.0.1", terms, 0.0).file for name in range(100) for _ in range(2)]
            assert all(isinstance(one, Refusal) for one in found)
            assert len(lookup._absent) == 200, "each name, in the overlay and in the release in force"
        assert len(set(map(id, lookup._absent.values()))) == 1, "one refusal for all of them"
