"""Under systemd an entry has its fields, whatever a stranger wrote; without its journal a line is a line."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.observe import journal
from appliance.observe.log import Log, TurnLog


class Journal:
    """Stands in for journald: its two sockets, and a stream to it as standard error is one."""

    def __init__(self, folder: Path) -> None:
        place = folder / "journal"
        place.mkdir()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(place / "stdout"))
        self.listener.listen()
        self.native = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.native.bind(str(place / "socket"))
        self.native.settimeout(30)
        self.stream = socket.socket(socket.AF_UNIX)
        self.stream.connect(str(place / "stdout"))
        self.other, _peer = self.listener.accept()
        self.other.settimeout(30)

    def entry(self) -> dict[str, str]:
        lines = self.native.recv(1 << 18).decode().split("\n")
        assert lines.pop() == ""
        pairs = [line.partition("=") for line in lines]
        assert len({name for name, _equal, _value in pairs}) == len(pairs)
        return {name: value for name, _equal, value in pairs}

    def close(self) -> None:
        for sock in (self.listener, self.native, self.stream, self.other):
            sock.close()


@pytest.fixture
def journald(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Journal]:
    connected: dict[tuple[int, int], int] = {}
    monkeypatch.setattr(journal, "_connected", connected)
    made = Journal(tmp_path)
    yield made
    made.close()
    for descriptor in connected.values():
        os.close(descriptor)


def test_an_entry_has_the_line_that_people_read_and_every_field_by_itself(journald: Journal) -> None:
    log = Log("tftp", "journal", journald.stream.fileno())
    log.info("transfer", client="192.0.2.7:1234", file=b"vmlinuz", bytes=700, outcome="done")
    assert journald.entry() == {
        "MESSAGE": f"tftp[{os.getpid()}]: transfer client=192.0.2.7:1234 file=vmlinuz bytes=700 outcome=done",
        "PRIORITY": "6", "SYSLOG_IDENTIFIER": "appliance", "APPLIANCE_ROOM": "tftp", "EVENT": "transfer",
        "CLIENT": "192.0.2.7:1234", "FILE": "vmlinuz", "BYTES": "700", "OUTCOME": "done",
    }  # fmt: skip
    log.warning("x")
    log.error("y")
    assert [journald.entry()["PRIORITY"] for _ in range(2)] == ["4", "3"]


def test_a_hostile_name_makes_no_field_and_no_line(journald: Journal) -> None:
    log = Log("tftp", "journal", journald.stream.fileno())
    log.info("refused", client="192.0.2.7", file=b"a\nPRIORITY=0\n_UID=0\x1b[31m\xe2\x80\xae" + b"x" * 5000)
    entry = journald.entry()
    assert entry["PRIORITY"] == "6" and "_UID" not in entry
    assert entry["FILE"].startswith("a\\x0aPRIORITY=0\\x0a_UID=0\\x1b[31m\\xe2\\x80\\xae") and len(entry["FILE"]) < 3100
    assert len(entry["MESSAGE"]) <= 4000 and entry["MESSAGE"].isprintable()


def test_a_field_whose_name_means_something_to_journald_gets_another_one(journald: Journal) -> None:
    Log("dhcp", "journal", journald.stream.fileno()).info("dhcp", message="DHCPACK", unit="x", errno=5, said="y")
    entry = journald.entry()
    assert (entry["APPLIANCE_MESSAGE"], entry["APPLIANCE_UNIT"], entry["APPLIANCE_ERRNO"]) == ("DHCPACK", "x", "5")
    assert (entry["SAID"], entry["MESSAGE"][:5]) == ("y", "dhcp[")


def test_a_crash_is_one_entry_with_its_traceback_in_a_field(journald: Journal) -> None:
    log = Log("tftp", "journal", journald.stream.fileno())
    try:
        raise ValueError("a\nb")
    except ValueError:
        log.crash("crash")
    assert "ValueError" in journald.entry()["TRACEBACK"]


def test_a_turn_of_many_lines_is_as_many_entries(journald: Journal) -> None:
    log = TurnLog("tftp", "journal", journald.stream.fileno())
    for number in range(5):
        log.info("transfer", number=number)
    log.flush()
    assert [journald.entry()["NUMBER"] for _ in range(5)] == ["0", "1", "2", "3", "4"]


def test_two_logs_of_a_process_share_one_socket(journald: Journal) -> None:
    first = journal.connect(journald.stream.fileno())
    assert first is not None and first == journal.connect(journald.stream.fileno())


def test_when_the_journal_is_gone_lines_go_to_standard_error_and_come_back_to_it_as_entries(journald: Journal) -> None:
    lost: list[int] = []
    log = Log("tftp", "journal", journald.stream.fileno(), lost=lambda: lost.append(1))
    journald.native.close()
    log.warning("refused", client="192.0.2.7")
    assert journald.other.recv(1000) == f"<4>tftp[{os.getpid()}]: refused client=192.0.2.7\n".encode()
    journald.other.close()
    with contextlib.suppress(OSError):
        journald.stream.shutdown(socket.SHUT_RDWR)
    log.warning("refused", client="192.0.2.7")
    assert lost == [1]


def test_a_journal_that_does_not_read_costs_entries_and_nothing_else(journald: Journal) -> None:
    lost: list[int] = []
    log = Log("tftp", "journal", journald.stream.fileno(), lost=lambda: lost.append(1))
    for _ in range(20_000):
        log.info("transfer", file="x" * 200)
        if lost:
            break
    assert lost
    taken = 0
    while select.select([journald.native], [], [], 0)[0]:
        journald.entry()
        taken += 1
    assert taken > 0
    log.info("again")
    assert journald.entry()["EVENT"] == "again"


def test_what_is_no_journal_is_none(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        assert journal.connect(file.fileno()) is None
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert journal.connect(ours.fileno()) is None
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as stream:
        listener.bind(str(tmp_path / "stdout"))
        listener.listen()
        stream.connect(str(tmp_path / "stdout"))
        assert journal.connect(stream.fileno()) is None
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as stream:
        assert journal.connect(stream.fileno()) is None
    assert journal.connect(987) is None
    assert stat.S_ISDIR(tmp_path.stat().st_mode)


def test_a_stream_of_a_journal_without_its_other_socket_gets_lines(tmp_path: Path) -> None:
    (tmp_path / "journal").mkdir()
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as stream:
        listener.bind(str(tmp_path / "journal/stdout"))
        listener.listen()
        stream.connect(str(tmp_path / "journal/stdout"))
        other, _peer = listener.accept()
        with other:
            Log("tftp", "journal", stream.fileno()).info("x")
            assert other.recv(100) == f"<6>tftp[{os.getpid()}]: x\n".encode()


def test_lines_of_a_birth_go_by_the_stream_because_the_process_may_be_gone_when_they_are_read(
    journald: Journal,
) -> None:
    Log("tftp.0", "journal", journald.stream.fileno(), native=False).error("cannot start")
    assert journald.other.recv(100) == f"<3>tftp.0[{os.getpid()}]: cannot start\n".encode()


@pytest.mark.parametrize(
    ("least", "written"), [("info", "iwe"), ("warning", "we"), ("error", "e"), ("nonsense", "iwe")]
)
@pytest.mark.parametrize("kind", [Log, TurnLog])
def test_a_room_writes_from_its_level_on(kind: type[Log], least: str, written: str) -> None:
    reads, writes = os.pipe()
    log = kind("tftp", f"text:{least}", writes)
    log.info("i")
    log.warning("w")
    log.error("e")
    if isinstance(log, TurnLog):
        log.flush()
    os.close(writes)
    with os.fdopen(reads) as said:
        assert "".join(line.split()[-1] for line in said) == written
