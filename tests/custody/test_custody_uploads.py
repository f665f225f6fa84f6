"""custody.worker as TFTP needs it: modes, versions, questions, reading back; over hand-made links."""

from __future__ import annotations

import dataclasses
import os
import random
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from appliance import wire as control
from appliance.custody import marks, versions, wire
from appliance.custody.wire import Reason
from appliance.settings.box import Box
from tests.custody.test_custody_worker import Peer, names
from tests.ftp.serving import Process, custodian, until

BOX = Box(
    max_size=1 << 20,
    quota=1 << 30,
    per_client_quota=1 << 30,
    max_files=1000,
    retention=0.0,
    deny_names=("*.exe",),
    mode="replace",
)


@pytest.fixture
def box(tmp_path: Path) -> Path:
    return tmp_path / "box"


@contextmanager
def keeping(
    box: Path, log: str = "log", before: Callable[[], None] = lambda: None, **changes: Any
) -> Iterator[tuple[Process, Peer]]:
    """A custodian of TFTP's uploads, and a worker's end of a link to it."""
    path = box.parent / log
    with custodian(box, dataclasses.replace(BOX, **changes), path, before) as keeper:
        peer = Peer(keeper)
        try:
            yield keeper, peer
            assert keeper.counters()["crashes"] == 0, path.read_text()
        finally:
            peer.sock.close()


def put(peer: Peer, name: bytes, content: bytes, client: str = "c", number: int = 1) -> wire.FromCustodian:
    """An upload from Reserve to its last answer."""
    peer.say(wire.Reserve(number, 0, client, name))
    message, fds = peer.hear()
    if not isinstance(message, wire.Granted):
        return message
    os.write(fds[0], content)
    os.close(fds[0])
    peer.say(wire.Commit(number, len(content)))
    return peer.hear()[0]


def read(peer: Peer, name: bytes, client: str = "c") -> bytes | Reason:
    """What a Fetch gives."""
    peer.say(wire.Fetch(9, client, name))
    message, fds = peer.hear()
    if isinstance(message, wire.Refused):
        assert (message.id, fds) == (9, [])
        return message.reason
    assert isinstance(message, wire.Opened)
    content = os.read(fds[0], 1 << 20)
    os.close(fds[0])
    assert message == wire.Opened(9, len(content))
    return content


def ask(peer: Peer, name: bytes, declared: int = 0, client: str = "c") -> int | Reason:
    """What an Ask gives: bytes, or the reason."""
    peer.say(wire.Ask(8, declared, client, name))
    message, fds = peer.hear()
    assert (message.id, fds) == (8, [])
    if isinstance(message, wire.Refused):
        return message.reason
    assert isinstance(message, wire.More)
    return message.allowed


# --- modes


@pytest.mark.parametrize(
    ("mode", "new", "again"),
    [
        ("create", wire.Done(1), wire.Refused(1, Reason.EXISTS)),
        ("replace", wire.Done(1), wire.Done(1)),
        ("existing", wire.Refused(1, Reason.ABSENT), wire.Done(1)),
    ],
)
def test_each_mode_takes_its_names(box: Path, mode: str, new: object, again: object) -> None:
    with keeping(box, mode=mode) as (_keeper, peer):
        assert put(peer, b"new", b"first") == new
        with keeping(box, "other", mode="create") as (_other, maker):
            put(maker, b"there", b"first")
        assert put(peer, b"there", b"second") == again
        expected = b"first" if mode == "create" else b"second"
        assert (box / "there").read_bytes() == expected
        assert not [name for name in names(box) if name.startswith(".")]


def test_what_is_there_stays_until_the_new_file_is_complete(box: Path) -> None:
    with keeping(box) as (_keeper, peer):
        put(peer, b"a", b"old")
        fd = peer.begin(2, b"a")
        os.write(fd, b"half")
        assert (box / "a").read_bytes() == b"old"
        peer.say(wire.Abort(2))
        os.close(fd)
        assert put(peer, b"b", b"x") == wire.Done(1)
        assert ((box / "a").read_bytes(), names(box)) == (b"old", ["a", "b"])


@pytest.mark.parametrize("mode", ["create", "replace", "existing"])
def test_of_two_uploads_of_one_name_the_second_is_told(box: Path, mode: str) -> None:
    box.mkdir(mode=0o700)
    if mode == "existing":
        (box / "a").touch()
    with keeping(box, mode=mode) as (keeper, peer):
        fd = peer.begin(1, b"a")
        other = Peer(keeper, 1)
        assert put(other, b"a", b"second", number=5) == wire.Refused(5, Reason.UNDER_WAY)
        assert ask(other, b"a") is Reason.UNDER_WAY
        os.write(fd, b"first")
        os.close(fd)
        peer.say(wire.Commit(1, 5))
        assert peer.hear()[0] == wire.Done(1)
        assert (box / "a").read_bytes() == b"first"
        other.sock.close()


@pytest.mark.parametrize("kind", ["folder", "link", "fifo"])
def test_what_the_custodian_did_not_make_is_never_replaced(box: Path, kind: str) -> None:
    box.mkdir(mode=0o700)
    {
        "folder": lambda: (box / "a").mkdir(),
        "link": lambda: (box / "a").symlink_to("b"),
        "fifo": lambda: os.mkfifo(box / "a"),
    }[kind]()
    before = os.lstat(box / "a")
    with keeping(box, readable="same-client") as (keeper, peer):
        assert put(peer, b"a", b"x") == wire.Refused(1, Reason.EXISTS)
        assert ask(peer, b"a") is Reason.EXISTS
        assert keeper.log_text().count('reason=exists cause="what has this name is no regular file of') == 2
        assert read(peer, b"a") is Reason.ABSENT
    assert os.lstat(box / "a").st_ino == before.st_ino


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: chown")
def test_a_file_of_another_account_is_never_replaced(box: Path) -> None:
    box.mkdir(mode=0o700)
    (box / "a").write_bytes(b"the operator's")
    os.chown(box / "a", 777, 777)
    with keeping(box) as (_keeper, peer):
        assert put(peer, b"a", b"x") == wire.Refused(1, Reason.EXISTS)
    assert (box / "a").read_bytes() == b"the operator's"


def test_a_file_that_was_edited_under_an_upload_is_not_replaced(box: Path) -> None:
    with keeping(box) as (_keeper, peer):
        put(peer, b"a", b"old")
        os.close(peer.begin(1, b"a"))
        (box / "a").write_bytes(b"edited by hand")
        peer.say(wire.Commit(1, 0))
        assert peer.hear()[0] == wire.Refused(1, Reason.UNDER_WAY)
        assert (box / "a").read_bytes() == b"edited by hand"


def test_a_file_that_was_removed_under_an_upload_is_absent_or_new(box: Path) -> None:
    for mode, expected in (("existing", wire.Refused(1, Reason.ABSENT)), ("replace", wire.Done(1))):
        with keeping(box, mode=mode) as (_keeper, peer):
            (box / "a").write_bytes(b"old")
            os.close(peer.begin(1, b"a"))
            (box / "a").unlink()
            peer.say(wire.Commit(1, 0))
            assert peer.hear()[0] == expected


# --- versions


def test_versions_are_kept_and_the_oldest_goes(box: Path) -> None:
    with keeping(box, keep_versions=2, readable="same-client") as (keeper, peer):
        for number in range(5):
            assert put(peer, b"sw1.cfg", b"version %d" % number) == wire.Done(1)
        first, second = (os.fsencode(name) for name in names(box)[1:])
        assert versions.base(first) == versions.base(second) == b"sw1.cfg"
        assert [(box / os.fsdecode(name)).read_bytes() for name in (first, second)] == [b"version 2", b"version 3"]
        assert (read(peer, b"sw1.cfg"), read(peer, first)) == (b"version 4", b"version 2")
        assert read(peer, first, "stranger") is Reason.UNREADABLE
        assert put(peer, first, b"x") == wire.Refused(1, Reason.NAME_DENIED)
        assert put(peer, b"a" * 233, b"x") == wire.Refused(1, Reason.NAME_LENGTH)
        assert put(peer, b"a" * 232, b"x") == put(peer, b"a" * 232, b"y") == wire.Done(1)
        assert f"was={second.decode()}" in keeper.log_text()


def test_versions_count_in_the_quota_and_in_the_share_of_who_uploaded_them(box: Path) -> None:
    with keeping(box, keep_versions=5, quota=5 * 10_000, per_client_quota=3 * 10_000) as (_keeper, peer):
        for _ in range(3):
            assert put(peer, b"a", b"x" * 10_000) == wire.Done(1)
        assert ask(peer, b"a", 4096) is Reason.CLIENT_QUOTA
        assert put(peer, b"a", b"x" * 10_000, "d") == wire.Done(1)
        assert ask(peer, b"a", 10_001, "d") is Reason.QUOTA
        assert ask(peer, b"a", 10_000, "d") == 10_000


def test_a_version_that_cannot_be_removed_is_told_and_costs_nothing_else(box: Path) -> None:
    def stuck() -> None:
        from appliance.custody import store

        def remove(_name: bytes) -> None:
            raise OSError(5, "planted")

        store.remove = remove

    with keeping(box, before=stuck, keep_versions=1) as (keeper, peer):
        for number in range(3):
            assert put(peer, b"a", b"%d" % number) == wire.Done(1)
        assert (box / "a").read_bytes() == b"2"
        until(lambda: "cannot remove a version name=a.~" in keeper.log_text())


# --- questions


def test_asking_is_judged_as_reserving_and_holds_nothing(box: Path) -> None:
    limits = {"max_size": 20_000, "quota": 30_000, "per_client_quota": 25_000, "max_files": 2}
    with keeping(box, mode="create", **limits) as (keeper, peer):
        assert [ask(peer, b"a", declared) for declared in (0, 20_000, 20_001)] == [20_000, 20_000, Reason.SIZE]
        assert [ask(peer, name) for name in (b".a", b"a.EXE", b"a/b", b"", b"a" * 4096)] == [
            Reason.NAME_START, Reason.NAME_DENIED, Reason.NAME_CHARACTER, Reason.NAME_LENGTH, Reason.NAME_LENGTH,
        ]  # fmt: skip
        assert names(box) == []
        assert put(peer, b"a", b"x" * 20_000) == wire.Done(1)
        assert ask(peer, b"a") is Reason.EXISTS
        assert ask(peer, b"b", 5001) is Reason.CLIENT_QUOTA
        assert ask(peer, b"b", 10_001, "d") is Reason.QUOTA
        assert put(peer, b"b", b"x", "d") == wire.Done(1)
        assert ask(peer, b"c", 0, "e") is Reason.FILES
        assert (keeper.counters()["active"], keeper.counters()["transfers"]) == (0, 2)
        assert "refused" not in keeper.log_text()


def test_asking_of_a_full_disk_is_refused(box: Path) -> None:
    def full() -> None:
        from appliance.custody import store

        store.free = lambda: 5000

    with keeping(box, before=full) as (_keeper, peer):
        assert ask(peer, b"a", 5001) is Reason.DISK
        assert ask(peer, b"a", 5000) == 5000


def test_a_folder_that_cannot_be_looked_at_refuses_and_lives(box: Path) -> None:
    def broken() -> None:
        from appliance.custody import store

        def fail(*_arguments: object) -> None:
            raise OSError(5, "planted")

        store.look = store.fetch = fail

    with keeping(box, before=broken, readable="same-client") as (keeper, peer):
        assert ask(peer, b"a") is Reason.STORE
        assert put(peer, b"a", b"x") == wire.Refused(1, Reason.STORE)
        assert read(peer, b"a") is Reason.STORE
        assert keeper.log_text().count('reason=store cause="Input/output error"') == 3


def test_a_custodian_that_drains_takes_nothing_new_and_still_lets_read(box: Path) -> None:
    with keeping(box, readable="same-client") as (keeper, peer):
        put(peer, b"a", b"x")
        os.close(peer.begin(1, b"b"))
        keeper.tell(control.Drain(20_000))
        until(lambda: ask(peer, b"c") is Reason.BUSY)
        assert read(peer, b"a") == b"x"


def test_a_long_name_is_cut_in_the_log(box: Path) -> None:
    with keeping(box) as (keeper, peer):
        assert put(peer, b"\xff" + b"n" * 4000, b"") == wire.Refused(1, Reason.NAME_LENGTH)
        line = until(lambda: [line for line in keeper.log_text().splitlines() if "refused" in line])[0]
        assert f"name=\\xff{'n' * 254}... reason=name_length" in line
        assert len(line) < 400


# --- reading back


def test_nobody_reads_where_nothing_is_readable(box: Path) -> None:
    with keeping(box) as (_keeper, peer):
        put(peer, b"a", b"x")
        assert read(peer, b"a") is read(peer, b"none") is Reason.UNREADABLE


def test_only_who_uploaded_a_file_reads_it(box: Path) -> None:
    with keeping(box, readable="same-client") as (_keeper, peer):
        put(peer, b"a", b"mine", "192.0.2.1")
        (box / "by-hand").write_bytes(b"nobody's")
        assert read(peer, b"a", "192.0.2.1") == b"mine"
        assert read(peer, b"a", "192.0.2.2") is Reason.UNREADABLE
        assert read(peer, b"by-hand", "192.0.2.1") is Reason.UNREADABLE
        assert read(peer, b"none", "192.0.2.1") is Reason.ABSENT
        put(peer, b"a", b"yours", "192.0.2.2")
        assert read(peer, b"a", "192.0.2.1") is Reason.UNREADABLE
        assert read(peer, b"a", "192.0.2.2") == b"yours"


def test_the_networks_of_readers_read_everything(box: Path) -> None:
    with keeping(box, readable="networks", readers=("192.0.2.0/24",)) as (_keeper, peer):
        put(peer, b"a", b"x", "198.51.100.1")
        assert read(peer, b"a", "192.0.2.2") == b"x"
        assert read(peer, b"a", "198.51.100.1") is Reason.UNREADABLE


def test_nothing_outside_and_nothing_hidden_is_read(box: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(b"x")
    with keeping(box, readable="networks", readers=("0.0.0.0/0",)) as (_keeper, peer):
        os.close(peer.begin(1, b"a"))
        hidden = os.fsencode(names(box)[0])
        for name in (hidden, b"../outside", b"/etc/passwd", b".", b"..", b"", b"a" * 4096, b"a", b"\xff"):
            assert read(peer, name, "192.0.2.1") is Reason.ABSENT


def test_a_worker_that_takes_no_descriptors_uses_up_none_of_the_others(box: Path) -> None:
    with keeping(box, readable="same-client") as (keeper, peer):
        put(peer, b"a", b"x")
        before = descriptors(keeper)
        deaf = Peer(keeper, 1)
        deaf.sock.setblocking(False)
        deadline, full = time.monotonic() + 15, 0
        while full < 20 and time.monotonic() < deadline:
            try:
                deaf.say(wire.Fetch(7, "c", b"a"))
                full = 0
            except BlockingIOError:
                full += 1
                select.select([], [deaf.sock], [], 0.05)
            except (BrokenPipeError, ConnectionResetError):
                break
        assert descriptors(keeper) <= before + 2
        assert read(peer, b"a") == b"x"
        deaf.sock.close()
        until(lambda: descriptors(keeper) == before)


def descriptors(keeper: Process) -> int:
    return len(os.listdir(f"/proc/{keeper.pid}/fd"))


# --- restarts, and two at once


def test_who_uploaded_what_survives_a_custodian_that_was_killed(box: Path) -> None:
    with keeping(box, per_client_quota=15_000, readable="same-client") as (_keeper, peer):
        put(peer, b"a", b"x" * 10_000, "192.0.2.1")
        put(peer, b"b", b"y", "192.0.2.2")
    with keeping(box, per_client_quota=15_000, readable="same-client") as (_keeper, peer):
        assert ask(peer, b"c", 5001, "192.0.2.1") is Reason.CLIENT_QUOTA
        assert ask(peer, b"c", 5000, "192.0.2.1") == 5000
        assert read(peer, b"b", "192.0.2.2") == b"y"
        assert read(peer, b"b", "192.0.2.1") is Reason.UNREADABLE


@pytest.mark.parametrize("damage", [b"", b"192.0.2.1", b"\xff" * 64, b"192.0.2.1".ljust(64)])
def test_a_file_whose_mark_is_damaged_is_nobodys(box: Path, damage: bytes) -> None:
    with keeping(box, readable="same-client") as (_keeper, peer):
        put(peer, b"a", b"x", "192.0.2.1")
        os.setxattr(box / "a", marks.NAME, damage)
        assert read(peer, b"a", "192.0.2.1") is Reason.UNREADABLE
    with keeping(box, per_client_quota=5000, readable="same-client") as (_keeper, peer):
        assert ask(peer, b"b", 5000, "192.0.2.1") == 5000
        assert put(peer, b"a", b"y", "192.0.2.1") == wire.Done(1)
        assert read(peer, b"a", "192.0.2.1") == b"y"


def test_a_file_system_that_keeps_no_marks_is_told_once_and_uploads_go_on(box: Path) -> None:
    def forgetful() -> None:
        marks.write = lambda _fd, _client: False

    with keeping(box, before=forgetful, readable="same-client", per_client_quota=9000) as (keeper, peer):
        assert put(peer, b"a", b"x") == put(peer, b"b", b"x") == wire.Done(1)
        assert ask(peer, b"c") is Reason.CLIENT_QUOTA
        assert read(peer, b"a") is Reason.UNREADABLE
        assert keeper.log_text().count("this file system does not keep who uploaded a file") == 1


def test_after_a_reload_two_custodians_agree_on_every_name(box: Path) -> None:
    with keeping(box, "old", keep_versions=3) as (_old, before):
        put(before, b"both", b"first")
        for number, name in enumerate((b"both", b"old", b"new"), 1):
            os.close(before.begin(number, name))
        with keeping(box, "new", keep_versions=3) as (_new, after):
            for number, name in enumerate((b"both", b"new"), 1):
                os.close(after.begin(number, name))
            after.say(wire.Commit(1, 0), wire.Commit(2, 0))
            assert [after.hear()[0] for _ in range(2)] == [wire.Done(1), wire.Done(2)]
            before.say(*(wire.Commit(number, 0) for number in range(1, 4)))
            assert [before.hear()[0] for _ in range(3)] == [
                wire.Refused(1, Reason.UNDER_WAY), wire.Done(2), wire.Refused(3, Reason.UNDER_WAY),
            ]  # fmt: skip
            assert [name for name in names(box) if not versions.base(name.encode())] == ["both", "new", "old"]
            assert put(after, b"old", b"later") == wire.Done(1)
            assert [(box / name).read_bytes() for name in names(box) if name.startswith("old.~")] == [b""]


def test_what_the_custodian_before_still_receives_is_charged(box: Path) -> None:
    with keeping(box, "old") as (_old, before):
        fd = before.begin(1, b"a")
        os.write(fd, b"x" * 10_000)
        with keeping(box, "new", quota=15_000) as (_new, after):
            assert ask(after, b"b", 5001) is Reason.QUOTA
            os.close(fd)
            before.say(wire.Commit(1, 10_000))
            assert before.hear()[0] == wire.Done(1)
            until(lambda: ask(after, b"a", 5000) == 5000)


def test_a_link_that_ends_with_an_answer_waiting_leaves_no_descriptor(box: Path) -> None:
    with keeping(box, readable="same-client") as (keeper, peer):
        put(peer, b"a", b"x")
        before = descriptors(keeper)
        other = Peer(keeper, 1)
        other.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        other.say(*(wire.Fetch(number, "c", b"a") for number in range(60)))
        other.sock.close()
        until(lambda: "link closed worker=1" in keeper.log_text())
        assert descriptors(keeper) == before
        assert read(peer, b"a") == b"x"


@pytest.mark.parametrize("seed", range(3))
def test_whatever_two_custodians_and_a_kill_do_every_file_is_whole_and_says_whose_it_is(box: Path, seed: int) -> None:
    chance = random.Random(seed)
    rules = {"keep_versions": 2, "max_files": 12, "readable": "same-client"}
    box.mkdir(mode=0o700)
    for turn in range(6):
        with (
            keeping(box, f"one-{turn}", **rules) as (one, first),
            keeping(box, f"two-{turn}", **rules) as (_two, second),
        ):
            works: dict[tuple[Peer, int], bytes] = {}
            for number in range(1, 60):
                peer = chance.choice((first, second))
                client = f"192.0.2.{chance.randrange(4)}"
                peer.say(wire.Reserve(number, 0, client, chance.choice((b"a", b"b", b"c"))))
                message, fds = peer.hear()
                if isinstance(message, wire.Granted):
                    works[peer, number] = client.encode() * chance.randrange(1, 2000)
                    os.write(fds[0], works[peer, number])
                    os.close(fds[0])
                if works and chance.random() < 0.7:
                    peer, number = chance.choice(sorted(works, key=lambda work: work[1]))
                    content = works.pop((peer, number))
                    peer.say(wire.Commit(number, len(content)))
                    assert isinstance(peer.hear()[0], wire.Done | wire.Refused)
            first.say(*(wire.Commit(number, len(works[peer, number])) for peer, number in works if peer is first))
            os.kill(one.pid, signal.SIGKILL)
            one.wait()
        for name in names(box):
            if not name.startswith(".up-"):
                content = (box / name).read_bytes()
                client = marks.read(os.fsencode(box / name)).encode()
                assert client and content == client * (len(content) // len(client))
    with keeping(box, "last", **rules) as (_keeper, peer):
        assert {ask(peer, name) for name in (b"a", b"b", b"c")} <= {1 << 20, Reason.FILES}
        left = names(box)
        assert set(left) >= {"a", "b", "c"} and not [name for name in left if name.startswith(".")]
        assert all(put(peer, name, b"x") == wire.Done(1) for name in (b"a", b"b", b"c") if ask(peer, name) == 1 << 20)
