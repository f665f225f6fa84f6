"""custody.worker: a real custodian over hand-made links; honest, greedy, lying and dying workers."""

from __future__ import annotations

import errno
import os
import select
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance import wire as control
from appliance.custody import health, wire
from appliance.settings.ftp import IncomingSettings
from tests.ftp.serving import SECONDS, Process, custodian, link, until


class Peer:
    """The worker's end of a link."""

    def __init__(self, keeper: Process, slot: int = 0) -> None:
        self.sock = link(keeper, slot)
        self.sock.settimeout(SECONDS)

    def say(self, *messages: wire.FromWorker) -> None:
        for message in messages:
            self.sock.send(wire.pack(message))

    def hear(self) -> tuple[wire.FromCustodian, list[int]]:
        data, fds, _flags, _peer = socket.recv_fds(self.sock, wire.MAX_MESSAGE, 4)
        assert data, "the link was closed"
        return wire.parse_from_custodian(data), fds

    def begin(self, number: int, name: bytes, declared: int = 0, client: str = "c") -> int:
        """A granted upload; its descriptor."""
        self.say(wire.Reserve(number, declared, client, name))
        message, fds = self.hear()
        assert isinstance(message, wire.Granted), message
        return fds[0]

    def store(self, number: int, name: bytes, content: bytes) -> wire.FromCustodian:
        fd = self.begin(number, name)
        os.write(fd, content)
        os.close(fd)
        self.say(wire.Commit(number, len(content)))
        return self.hear()[0]

    def closed(self) -> bool:
        return self.sock.recv(100) == b""


@pytest.fixture
def box(tmp_path: Path) -> Path:
    return tmp_path / "box"


@pytest.fixture
def keeper(box: Path, tmp_path: Path) -> Iterator[Process]:
    with custodian(box, IncomingSettings(enabled=True), tmp_path / "log") as process:
        yield process
        assert process.counters()["crashes"] == 0, process.log_text()


def names(box: Path) -> list[str]:
    return sorted(os.listdir(box))


def test_an_upload_from_reserve_to_done(keeper: Process, box: Path) -> None:
    peer = Peer(keeper)
    assert peer.store(1, b"a", b"content") == wire.Done(1)
    assert (box / "a").read_bytes() == b"content"
    assert names(box) == ["a"]
    peer.sock.close()


def test_the_descriptor_can_only_be_written(keeper: Process) -> None:
    peer = Peer(keeper)
    fd = peer.begin(1, b"a")
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.read(fd, 1)
    os.close(fd)
    peer.sock.close()


def test_answers_come_for_each_id_of_many_links(keeper: Process, box: Path) -> None:
    peers = [Peer(keeper, slot) for slot in range(4)]
    for slot, peer in enumerate(peers):
        peer.say(wire.Reserve(7, 0, "c", b"file-%d" % slot))
    for peer in peers:
        message, fds = peer.hear()
        assert message.id == 7
        os.close(fds[0])
        peer.say(wire.Commit(7, 0))
    assert [peer.hear()[0] for peer in peers] == [wire.Done(7)] * 4
    assert len(names(box)) == 4
    for peer in peers:
        peer.sock.close()


def test_an_abort_and_the_end_of_a_link_remove_its_uploads_only(keeper: Process, box: Path) -> None:
    one, two = Peer(keeper, 1), Peer(keeper, 2)
    fds = [one.begin(1, b"a"), one.begin(2, b"b"), two.begin(1, b"c")]
    one.say(wire.Abort(1))
    until(lambda: len(names(box)) == 2)
    one.sock.close()
    until(lambda: len(names(box)) == 1)
    two.say(wire.Commit(1, 0))
    assert two.hear()[0] == wire.Done(1)
    assert names(box) == ["c"]
    for fd in fds:
        os.close(fd)
    two.sock.close()


@pytest.mark.parametrize(
    "garbage",
    [b"", b"Z", b"R", b"E\x00", b"C" * 12, os.urandom(64), wire.pack(wire.Done(1)), b"R" + bytes(300)],
    ids=lambda raw: raw[:6].hex() or "empty",
)
def test_garbage_closes_its_link_and_harms_no_other(keeper: Process, box: Path, garbage: bytes) -> None:
    bad, good = Peer(keeper, 1), Peer(keeper, 2)
    os.close(bad.begin(1, b"a"))
    bad.sock.send(garbage)
    assert bad.closed()
    until(lambda: names(box) == [])
    assert good.store(1, b"b", b"x") == wire.Done(1)
    for peer in (bad, good):
        peer.sock.close()


def test_an_id_used_twice_closes_the_link(keeper: Process) -> None:
    peer = Peer(keeper)
    os.close(peer.begin(1, b"a"))
    peer.say(wire.Reserve(1, 0, "c", b"b"))
    assert peer.closed()
    peer.sock.close()


def test_a_commit_of_another_size_is_refused_and_removed(keeper: Process, box: Path) -> None:
    peer = Peer(keeper)
    fd = peer.begin(1, b"a")
    os.write(fd, b"12345")
    peer.say(wire.Commit(1, 4))
    assert peer.hear()[0] == wire.Refused(1, wire.Reason.INCOMPLETE)
    assert names(box) == []
    os.close(fd)
    peer.sock.close()


def test_a_worker_that_writes_beyond_its_allowance_keeps_nothing(box: Path, tmp_path: Path) -> None:
    with custodian(box, IncomingSettings(enabled=True, max_size=10), tmp_path / "log") as keeper:
        peer = Peer(keeper)
        fd = peer.begin(1, b"a")
        os.write(fd, b"x" * 11)
        peer.say(wire.Commit(1, 11))
        assert peer.hear()[0] == wire.Refused(1, wire.Reason.INCOMPLETE)
        assert names(box) == []
        os.close(fd)
        peer.sock.close()


def test_an_abort_that_overtakes_the_commit_wins(keeper: Process, box: Path) -> None:
    peer = Peer(keeper)
    fds = [peer.begin(number, b"%d" % number) for number in range(1, 4)]
    peer.say(*(wire.Commit(number, 0) for number in range(1, 4)), wire.Abort(3))
    assert {peer.hear()[0].id for _ in range(2)} == {1, 2}
    until(lambda: names(box) == ["1", "2"])
    for fd in fds:
        os.close(fd)
    peer.sock.close()


def test_messages_about_nothing_are_ignored(keeper: Process) -> None:
    peer = Peer(keeper)
    peer.say(wire.Abort(9), wire.Commit(9, 1), wire.Extend(9, 1))
    assert peer.store(1, b"a", b"x") == wire.Done(1)
    peer.sock.close()


def test_a_worker_that_reads_nothing_stops_only_itself(keeper: Process) -> None:
    deaf, good = Peer(keeper, 1), Peer(keeper, 2)
    deaf.sock.setblocking(False)
    deadline = time.monotonic() + SECONDS
    number, full = 0, 0
    while full < 20 and time.monotonic() < deadline:
        number += 1
        try:
            deaf.say(wire.Reserve(number, 0, "c", b".bad"))
            full = 0
        except BlockingIOError:
            full += 1
            select.select([], [deaf.sock], [], 0.05)
        except (BrokenPipeError, ConnectionResetError):
            break
    assert good.store(1, b"a", b"x") == wire.Done(1)
    for peer in (deaf, good):
        peer.sock.close()


def test_uploads_under_way_have_a_cap(box: Path, tmp_path: Path) -> None:
    from appliance.custody import keeping

    with custodian(box, IncomingSettings(enabled=True, max_size=1), tmp_path / "log") as keeper:
        peer = Peer(keeper)
        for number in range(keeping.MOST_UPLOADS):
            os.close(peer.begin(number, b"%d" % number))
        peer.say(wire.Reserve(keeping.MOST_UPLOADS, 0, "c", b"x"))
        assert peer.hear()[0] == wire.Refused(keeping.MOST_UPLOADS, wire.Reason.BUSY)
        peer.sock.close()


def test_the_ledger_is_rebuilt_and_leftovers_are_swept_at_a_start(box: Path, tmp_path: Path) -> None:
    box.mkdir(mode=0o700)
    (box / "found").write_bytes(b"x" * 9000)
    (box / ".up-0123").write_bytes(b"left")
    incoming = IncomingSettings(enabled=True, quota=13000, per_client_quota=1 << 30)
    with custodian(box, incoming, tmp_path / "log") as keeper:
        peer = Peer(keeper)
        peer.say(wire.Reserve(1, 4001, "c", b"a"))
        assert peer.hear()[0] == wire.Refused(1, wire.Reason.QUOTA)
        assert names(box) == ["found"]
        peer.sock.close()
    assert "ready files=1 bytes=9000 unfinished_removed=1" in (tmp_path / "log").read_text()


def test_uploads_older_than_the_retention_are_swept(box: Path, tmp_path: Path) -> None:
    from appliance.custody import keeping

    def hurry() -> None:
        keeping._SWEEP_S = 0.05

    with custodian(box, IncomingSettings(enabled=True, retention=3600.0), tmp_path / "log", hurry) as keeper:
        peer = Peer(keeper)
        peer.store(1, b"old", b"x")
        peer.store(2, b"young", b"x")
        os.utime(box / "old", (time.time() - 4000, time.time() - 4000))
        until(lambda: names(box) == ["young"])
        until(lambda: "swept files=1" in keeper.log_text())
        peer.sock.close()


def test_a_drain_waits_for_uploads_and_then_ends(keeper: Process, box: Path) -> None:
    peer = Peer(keeper)
    fd = peer.begin(1, b"a")
    keeper.tell(control.Drain(20_000))
    until(lambda: refused(peer, 2))
    peer.say(wire.Commit(1, 0))
    assert peer.hear()[0] == wire.Done(1)
    os.close(fd)
    assert keeper.wait(5) == 256
    assert names(box) == ["a"]
    peer.sock.close()


def refused(peer: Peer, number: int) -> bool:
    peer.say(wire.Reserve(number, 0, "c", b"late"))
    message, fds = peer.hear()
    if isinstance(message, wire.Granted):
        peer.say(wire.Abort(number))
        os.close(fds[0])
    return message == wire.Refused(number, wire.Reason.BUSY)


def test_a_drain_has_an_end_and_leaves_no_partial(keeper: Process, box: Path) -> None:
    peer = Peer(keeper)
    os.close(peer.begin(1, b"a"))
    keeper.tell(control.Drain(200))
    assert keeper.wait(5) == 256
    assert names(box) == []
    peer.sock.close()


def test_it_leaves_when_the_supervisor_is_gone(keeper: Process, box: Path) -> None:
    peer = Peer(keeper)
    os.close(peer.begin(1, b"a"))
    keeper.channel.close()
    assert keeper.wait(5) == 256
    assert names(box) == []
    peer.sock.close()


@pytest.fixture
def small_disk(box: Path) -> Iterator[Path]:
    """The drop box on a disk of 16 MiB."""
    box.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m,mode=0700", "none", str(box)], check=True)
    try:
        yield box
    finally:
        subprocess.run(["umount", "-l", str(box)], check=True)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mount")
def test_a_full_disk_is_refused_before_it_is_full(small_disk: Path, tmp_path: Path) -> None:
    with custodian(small_disk, IncomingSettings(enabled=True), tmp_path / "log") as keeper:
        peer = Peer(keeper)
        peer.say(wire.Reserve(1, 16 << 20, "c", b"a"))
        assert peer.hear()[0] == wire.Refused(1, wire.Reason.DISK)
        peer.say(wire.Reserve(2, 10 << 20, "c", b"b"))
        assert isinstance(peer.hear()[0], wire.Granted)
        peer.sock.close()


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mount")
def test_a_disk_that_fills_under_an_upload_is_452_and_leaves_nothing(small_disk: Path, tmp_path: Path) -> None:
    from tests.ftp.serving import pour, server, settings

    config = settings(incoming={"enabled": True})
    with server(tmp_path / "root", config, box=small_disk) as running, running.raw() as raw:
        raw.ask("TYPE I")
        data = raw.passive()
        assert raw.ask("STOR incoming/x").startswith("150")
        (small_disk / "other").write_bytes(bytes(15 << 20))  # somebody else's
        with pytest.raises(OSError):  # noqa: PT011  reset or broken pipe
            pour(data, 40)
        assert raw.reply() == "452 The disk is full.\r\n"
        until(lambda: names(small_disk) == ["other"])
        assert raw.ask("NOOP").startswith("200")


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mount")
def test_a_read_only_disk_is_shown_until_it_can_be_written(
    small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen: `status` and `check` told of nothing, and what was due to be swept ended every custodian."""
    monkeypatch.setattr(health, "AGAIN_S", 0.1)
    (small_disk / "old").touch()
    os.utime(small_disk / "old", (1740000000, 1740000000))
    remount(small_disk, "ro")
    with custodian(small_disk, IncomingSettings(enabled=True), tmp_path / "log") as keeper:
        until(lambda: keeper.counters()["fault"] == errno.EROFS)
        peer = Peer(keeper)
        peer.say(wire.Reserve(1, 0, "c", b"a"))
        assert peer.hear()[0] == wire.Refused(1, wire.Reason.STORE)
        remount(small_disk, "rw")
        until(lambda: keeper.counters()["fault"] == 0)
        assert peer.store(2, b"a", b"content") == wire.Done(2)
        remount(small_disk, "ro")
        peer.say(wire.Reserve(3, 0, "c", b"b"))
        assert peer.hear()[0] == wire.Refused(3, wire.Reason.STORE)
        until(lambda: keeper.counters()["fault"] == errno.EROFS)
        remount(small_disk, "rw")
        until(lambda: keeper.counters()["fault"] == 0)
        peer.sock.close()
        assert keeper.counters()["crashes"] == 0, keeper.log_text()


def remount(disk: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], check=True)
