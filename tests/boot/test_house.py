"""boot.house, children, publisher, talk: the real child, confined, with folders that it alone may write."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from appliance.boot import children, house, records, talk
from appliance.boot.house import Accounts, House
from appliance.boot.records import BootError, Fetched, File
from tests.boot import homes
from tests.support import ROOT, needs_root

ME = (os.geteuid(), os.getegid())


@pytest.fixture
def rooms(tmp_path: Path) -> House:
    tmp_path.chmod(0o755)
    for name in ("tftp", "ftp"):
        (tmp_path / name).mkdir()
    accounts = Accounts((64621, 64621), (64622, 64622), (64623, 64623)) if ROOT else Accounts(ME, ME, ME)
    roots = {name: str(tmp_path / name) for name in ("tftp", "ftp")}
    return House(str(tmp_path / "state"), roots, accounts, str(tmp_path / "empty"), required=True)


def take(publisher: children.Child, content: bytes, expected: str | None = None) -> File:
    fd = homes.file(content)
    try:
        digest, size = publisher.ask({"verb": "take", "most": 1000, "expected": [expected]}, (fd,))["files"][0]
    finally:
        os.close(fd)
    return File("kernel", size, digest, roots=("tftp", "ftp"))


def give(publisher: children.Child, order: dict[str, object], *documents: bytes) -> dict[str, object]:
    fds = tuple(talk.document(one) for one in documents)
    try:
        return publisher.ask(order, fds)
    finally:
        for fd in fds:
            os.close(fd)


KEEP = {"keep": 3, "now": 1, "pin": 0, "held": []}
OVERLAY = (json.dumps([["tftp", "x/y", 3], ["tftp", "z", 2]]).encode(), b"abcde")


def test_the_publisher_is_confined_and_publishes(rooms: House) -> None:
    with rooms.publisher() as publisher:
        assert publisher.ready().level == ("full" if ROOT else "user")
        kernel = take(publisher, b"kernel")
        release = records.make(1, "n", [kernel], {"plan": 1})
        told = give(publisher, {"verb": "publish", **KEEP}, records.encode(release), *OVERLAY)
    assert told == {"id": release.id, "overlay": 1, "unchanged": False, "how": {"linked": 2}}
    assert rooms.current() == (release.id, 1) and rooms.releases() == [release.id]
    assert rooms.release(release.id) == release
    overlay = Path(rooms.roots["tftp"], ".releases", "overlay-1")
    assert (overlay / "x" / "y").read_bytes() == b"abc" and (overlay / "z").read_bytes() == b"de"
    if ROOT:
        assert {path.stat().st_uid for path in overlay.rglob("*")} == {64621}


def test_every_verb_is_answered_and_a_refusal_ends_nothing(rooms: House) -> None:
    with rooms.publisher() as publisher:
        kernel = take(publisher, b"kernel")
        for told, order, documents in (
            ("its SHA-256 is", {"verb": "take", "most": 1000, "expected": ["0" * 64]}, (b"x",)),
            ("more than 3 bytes", {"verb": "take", "most": 3, "expected": [None]}, (b"four",)),
            ("cannot be read", {"verb": "publish", **KEEP}, (b"nonsense", *OVERLAY)),
            ("nothing is published", {"verb": "render", "now": 9}, OVERLAY),
            ("not the id of a release", {"verb": "rollback", "now": 9, "id": "x"}, OVERLAY),
            ("the publisher failed \\(KeyError\\)", {"verb": "unheard of"}, ()),
            ("the publisher failed", {"verb": "rollback"}, ()),
        ):
            with pytest.raises(BootError, match=told):
                give(publisher, order, *documents)
        one, two = (records.make(n, "n", [kernel], None) for n in (1, 2))
        give(publisher, {"verb": "publish", **KEEP}, records.encode(one), *OVERLAY)
        give(publisher, {"verb": "adopt"}, records.encode(two))
        assert give(publisher, {"verb": "rollback", "now": 9, "id": two.id}, *OVERLAY)["overlay"] == 2
        assert give(publisher, {"verb": "render", "now": 9}, *OVERLAY)["overlay"] == 3
        fetched = Fetched("debian", "s", "l", "0" * 64, 1, 1, "", 0, (kernel,))
        give(publisher, {"verb": "record"}, records.encode_fetched(fetched))
        assert rooms.sources() == {"debian": fetched}
        found = publisher.ask({"verb": "collect", "keep": 1, "now": 10_000, "pin": 0, "held": [], "sources": []})
        assert found == {"releases": [one.id], "contents": 0, "size": 0}
    assert rooms.sources() == {} and rooms.releases() == [two.id]


@pytest.mark.root
@needs_root[1]
def test_three_accounts_and_none_of_them_owns_what_another_one_keeps(rooms: House) -> None:
    settings = {"parallel": 1, "tries": 1, "stall": 1.0, "min_rate": 1, "authorities": None, "proxies": {}}
    with rooms.publisher() as publisher, rooms.unpacker() as (unpacker, _), rooms.fetcher(settings) as (fetcher, _):
        uids = []
        for child in (publisher, fetcher, unpacker):
            status = dict(
                line.split(":", 1) for line in Path(f"/proc/{child._child.pid}/status").read_text().splitlines()
            )
            uids.append(set(status["Uid"].split()) | set(status["Gid"].split()))
            assert (status["Groups"].split(), status["Seccomp"].split(), status["NoNewPrivs"].split()) == (
                [],
                ["2"],
                ["1"],
            )
            assert {int(status[name], 16) for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
            assert child.ready().level == "full"
        assert uids == [{"64621"}, {"64622"}, {"64623"}]
        places = {name: Path(rooms.state_dir, name).stat() for name in ("boot", "boot-spool", "boot-unpack")}
        places |= {name: Path(root, ".releases").stat() for name, root in rooms.roots.items()}
    assert {name: (facts.st_uid, facts.st_mode & 0o777) for name, facts in places.items()} == {
        "boot": (64621, 0o755),
        "boot-spool": (64622, 0o700),
        "boot-unpack": (64623, 0o700),
        "tftp": (64621, 0o755),
        "ftp": (64621, 0o755),
    }


def test_a_second_one_is_told_that_it_has_to_wait(rooms: House) -> None:
    told = pytest.raises(BootError, match="another `appliance boot` is at work")
    with rooms.publisher(), told, rooms.publisher():
        pass


def test_what_it_may_not_reach_it_cannot_write(rooms: House, tmp_path: Path) -> None:
    """A folder that was handed over to be read stays as it is, whatever the publisher is told."""
    boot = house.own(f"{tmp_path}/b", rooms.accounts.boot, 0o755)
    place = children.Place(*rooms.accounts.boot, rooms.empty, True, {"boot": (boot, False)})
    refused = pytest.raises(BootError, match="Permission denied")
    with rooms.jail(), children.Child(children.PUBLISHER, place, {}) as child, refused:
        child.hear(10)
    os.close(boot)
    assert os.listdir(tmp_path / "b") == []


def test_before_the_first_publish_there_is_nothing(rooms: House) -> None:
    assert rooms.current() is None and rooms.releases() == [] and rooms.sources() == {}
    with pytest.raises(BootError, match="there is no release"):
        rooms.release("20260101-000000-0123abcd")


def test_a_root_that_is_not_there_is_told(rooms: House) -> None:
    os.rmdir(rooms.roots["ftp"])
    with pytest.raises(BootError, match="the root of ftp is not there \\(mkdir -p"), rooms.publisher():
        pass


def test_a_folder_that_cannot_be_ours_is_told_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("file", "link"):
        with pytest.raises(BootError, match=f"cannot use .*{name}: .*install -d -o"):
            house.own(f"{tmp_path}/{name}", ME, 0o755)
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(BootError, match="can be written by others"):
        house.own(f"{tmp_path}/open/x", ME, 0o755)
    if ROOT:
        (tmp_path / "theirs").mkdir()
        os.chown(tmp_path / "theirs", 4242, 4242)
        with pytest.raises(BootError, match="belongs to uid 4242"):
            house.own(f"{tmp_path}/theirs", ME, 0o755)


def test_a_child_that_cannot_start_is_told(rooms: House) -> None:
    kind = children.Kind("publisher", "appliance.boot.nothing:prepare")
    place = children.Place(*rooms.accounts.boot, rooms.empty, True)
    told = pytest.raises(BootError, match="the publisher does not start; its last words are above")
    with rooms.jail(), told, children.Child(kind, place, {}) as child:
        child.ready()


def test_a_record_that_cannot_be_read_counts_as_not_fetched(rooms: House) -> None:
    with rooms.publisher():
        pass
    Path(rooms.state_dir, "boot", "sources", "x.json").write_text("{")
    assert rooms.sources() == {}


def test_nonsense_and_silence_are_told() -> None:
    import socket

    one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with one, two:
        ours = talk.Talk(one)
        for text in (b"[1]", b"{", b"[" * 50_000):
            two.send(text)
            with pytest.raises(BootError, match="nonsense"):
                ours.receive(5)
        begun = time.monotonic()
        with pytest.raises(BootError, match="does not answer"):
            ours.receive(0.05)
        assert time.monotonic() - begun < 60
        with pytest.raises(BootError, match="too large"):
            ours.send({"x": "y" * talk.MOST})
        two.close()
        assert ours.receive(5) is None


def test_a_document_larger_than_the_most_is_refused() -> None:
    fd = talk.document(b"12345")
    assert talk.content(fd, 5) == b"12345"
    with pytest.raises(BootError, match="more than 4 bytes"):
        talk.content(fd, 4)
    os.close(fd)
