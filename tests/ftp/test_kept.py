"""An upload whose data connection broke is continued by REST: in its own session, for a while, and seen by nobody."""

from __future__ import annotations

import os
import re
import signal
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ftp.serving import Raw, Server, server, settings, until

CONTENT = bytes(range(256)) * 2000


def hidden(running: Server) -> list[str]:
    return [name for name in os.listdir(running.box) if name.startswith(".up-")]


def break_off(raw: Raw, command: str = "STOR incoming/a", content: bytes = CONTENT[:100_000]) -> int:
    """Send some of it, reset the data connection; how many bytes the server says it has kept."""
    data = raw.passive()
    assert raw.ask(command).startswith("150")
    data.sendall(content)
    data.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    until(lambda: pending(data) == 0)  # all of it has arrived: a reset would throw the rest away
    data.close()
    reply = raw.reply()
    found = re.fullmatch(r"426 .* (\d+) bytes are kept .*\r\n", reply)
    assert found, reply
    return int(found[1])


def pending(sock: socket.socket) -> int:
    """Bytes that the peer has not acknowledged, nor its program read: SIOCOUTQ, and the queue of the other end."""
    import array
    import fcntl

    left = array.array("i", [0])
    fcntl.ioctl(sock.fileno(), 0x5411, left)
    ours, theirs = sock.getsockname()[1], sock.getpeername()[1]
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if (int(fields[1].split(":")[1], 16), int(fields[2].split(":")[1], 16)) == (theirs, ours):
            return left[0] + int(fields[4].split(":")[1], 16)
    return left[0]


def go_on(raw: Raw, at: int, content: bytes, name: str = "incoming/a") -> str:
    """REST and STOR of the rest; the last reply."""
    data = raw.passive()
    assert raw.ask(f"REST {at}").startswith("350")
    reply = raw.ask(f"STOR {name}")
    if not reply.startswith("150"):
        return reply
    data.sendall(content)
    data.close()
    return raw.reply()


@pytest.fixture
def raw(boxed: Server) -> Iterator[Raw]:
    with boxed.raw() as session:
        session.ask("TYPE I")
        yield session


def test_an_upload_that_broke_is_continued_where_it_ended(boxed: Server, raw: Raw) -> None:
    at = break_off(raw)
    assert os.listdir(boxed.box) == hidden(boxed) != []
    assert raw.ask("SIZE incoming/a") == f"213 {at}\r\n"
    assert go_on(raw, at, CONTENT[at:]).startswith("226")
    assert (boxed.box / "a").read_bytes() == CONTENT
    assert hidden(boxed) == []
    assert raw.ask("SIZE incoming/a").startswith("550")


def test_it_may_break_again_and_begin_earlier_than_it_ended(boxed: Server, raw: Raw) -> None:
    break_off(raw)
    raw.ask("REST 50000")
    assert break_off(raw, content=CONTENT[50_000:60_000]) == 60_000
    assert go_on(raw, 7, CONTENT[7:]).startswith("226")
    assert (boxed.box / "a").read_bytes() == CONTENT


def test_a_file_that_became_shorter_meanwhile_is_no_whole_file(boxed: Server, raw: Raw) -> None:
    break_off(raw)
    assert go_on(raw, 10, b"x" * 10).startswith("451")
    assert os.listdir(boxed.box) == []


def test_only_the_same_name_in_the_same_session_within_what_is_there(boxed: Server, raw: Raw) -> None:
    at = break_off(raw)
    with boxed.raw() as other:
        other.ask("TYPE I")
        assert other.ask("SIZE incoming/a").startswith("550")
        assert go_on(other, at, b"x").startswith("501")
        other.passive()
        assert other.ask("STOR incoming/a").startswith("553")  # the name is taken meanwhile
    assert go_on(raw, at, b"x", "incoming/b").startswith("501")
    assert go_on(raw, at + 1, b"x").startswith("554")
    raw.ask("TYPE A")
    assert raw.ask("SIZE incoming/a").startswith("550")
    assert go_on(raw, at, b"x").startswith("554")
    raw.ask("TYPE I")
    assert go_on(raw, at, CONTENT[at:]).startswith("226")
    assert (boxed.box / "a").read_bytes() == CONTENT


@pytest.mark.parametrize("verb", ["RETR", "MLST", "MDTM", "HASH", "LIST", "DELE", "APPE"])
def test_what_is_kept_can_be_neither_read_nor_seen_nor_changed_in_another_way(raw: Raw, verb: str) -> None:
    break_off(raw)
    raw.passive()
    assert raw.ask(f"{verb} incoming/a").startswith("550")


def test_without_rest_it_begins_anew_and_another_upload_takes_its_place(boxed: Server, raw: Raw) -> None:
    break_off(raw)
    with raw.passive() as data:
        assert raw.ask("STOR incoming/a").startswith("150")
        data.sendall(b"new")
    assert raw.reply().startswith("226")
    break_off(raw, "STOR incoming/b")
    with raw.passive() as data:
        assert raw.ask("STOR incoming/c").startswith("150")
        data.sendall(b"new")
    assert raw.reply().startswith("226")
    assert {path.name: path.read_bytes() for path in boxed.box.iterdir()} == {"a": b"new", "c": b"new"}
    assert go_on(raw, 10, b"x", "incoming/b").startswith("501")


@pytest.mark.parametrize("farewell", ["QUIT", "", "REIN", "USER ftp"])
def test_the_end_of_the_session_is_its_end(boxed: Server, raw: Raw, farewell: str) -> None:
    break_off(raw)
    if farewell:
        raw.ask(farewell)
    else:
        raw.close()
    until(lambda: os.listdir(boxed.box) == [])
    with boxed.raw() as other:
        with other.passive() as data:
            assert other.ask("STOR incoming/a").startswith("150")
            data.sendall(b"x")
        assert other.reply().startswith("226")


def test_an_aborted_upload_and_one_in_type_a_are_removed_at_once(boxed: Server, raw: Raw) -> None:
    data = raw.passive()
    assert raw.ask("STOR incoming/a").startswith("150")
    data.sendall(b"x" * 1000)
    assert raw.ask("ABOR") == "426 Transfer aborted.\r\n"
    assert raw.reply().startswith("226")
    until(lambda: os.listdir(boxed.box) == [])
    raw.ask("TYPE A")
    data = raw.passive()
    assert raw.ask("STOR incoming/a").startswith("150")
    data.sendall(b"x" * 1000)
    data.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    data.close()
    assert raw.reply() == "426 Data connection closed; transfer aborted.\r\n"
    until(lambda: os.listdir(boxed.box) == [])


def test_it_waits_no_longer_than_the_settings_say(tree: Path) -> None:
    with server(tree, settings(incoming={"enabled": True, "resume": 1.0})) as running, running.raw() as raw:
        raw.ask("TYPE I")
        break_off(raw)
        until(lambda: os.listdir(running.box) == [])
        assert go_on(raw, 10, b"x").startswith("501")


def test_where_nothing_is_to_be_kept_it_is_removed_at_once(tree: Path) -> None:
    with server(tree, settings(incoming={"enabled": True, "resume": 0.0})) as running, running.raw() as raw:
        raw.ask("TYPE I")
        with pytest.raises(AssertionError, match="426 Data connection closed; transfer aborted"):
            break_off(raw)
        until(lambda: os.listdir(running.box) == [])


def test_what_is_kept_is_charged_until_it_is_gone(tree: Path) -> None:
    quota = {"enabled": True, "max_size": 150_000, "quota": 200_000, "per_client_quota": 200_000}
    with server(tree, settings(incoming=quota)) as running, running.raw() as raw:
        raw.ask("TYPE I")
        at = break_off(raw)
        with running.raw() as other:
            other.passive()
            assert other.ask("ALLO 100000").startswith("200")
            assert other.ask("STOR incoming/b").startswith("552")
        assert go_on(raw, at, b"y" * 60_000).startswith("552")  # and no upload gets larger by being continued
        until(lambda: os.listdir(running.box) == [])


def test_a_custodian_that_dies_takes_it_along(boxed: Server, raw: Raw) -> None:
    break_off(raw)
    assert boxed.custodian is not None
    os.kill(boxed.custodian.pid, signal.SIGKILL)
    os.waitpid(boxed.custodian.pid, 0)
    until(lambda: "the custodian is gone" in boxed.worker.log_text())
    assert go_on(raw, 10, b"x").startswith("501")
    assert raw.ask("NOOP").startswith("200")


def test_many_that_are_kept_leave_no_descriptor(boxed: Server) -> None:
    def held() -> int:
        return len(os.listdir(f"/proc/{boxed.worker.pid}/fd"))

    with boxed.raw() as first:
        first.ask("TYPE I")
        break_off(first)
        until(lambda: boxed.worker.counters()["under_way"] == 0)
        before = held()
        sessions = [boxed.raw() for _ in range(20)]
        for number, session in enumerate(sessions):
            session.ask("TYPE I")
            break_off(session, f"STOR incoming/{number}")
        assert len(hidden(boxed)) == 21
        for session in sessions:
            session.close()
        until(lambda: len(hidden(boxed)) == 1)
        until(lambda: held() == before)
