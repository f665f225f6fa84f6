"""ftp.downloads: long files to fast clients by way of threads, with everything that can come between; short files."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from appliance import wire
from tests.ftp.serving import Raw, Server, read_all, server, settings, until

LENT = "lent to a thread"
SIZE = 48 << 20


def eager(**changes: Any) -> Callable[[], None]:
    """What runs in the worker: every client is fast, every file is long, and each hand-over is told."""

    def change() -> None:
        from appliance.ftp import senders

        known = {"FAST": 1, "WINDOW": 1 << 20, "LONG": 1 << 20, **changes}
        for name, value in known.items():
            setattr(senders, name, value)
        send = senders.Senders.send

        def noted(self: senders.Senders, *args: Any) -> bool:
            lent = send(self, *args)
            if lent:
                os.write(2, f"{LENT}\n".encode())
            return lent

        senders.Senders.send = noted  # type: ignore[method-assign]

    return change


@pytest.fixture
def long_tree(tree: Path) -> Path:
    """With a file of 48 MiB, each MiB of which is another."""
    with open(tree / "long", "wb") as file:
        for number in range(SIZE >> 20):
            file.write(os.urandom(32) * (1 << 15) if number % 2 else bytes([number]) * (1 << 20))
    return tree


def begun(raw: Raw, command: str = "RETR long") -> socket.socket:
    """The data connection of a transfer that has begun; nothing is read from it yet."""
    assert raw.ask("TYPE I").startswith("200")
    data = raw.passive()
    assert raw.ask(command).startswith("150")
    return data


def read_some(data: socket.socket, count: int) -> bytes:
    pieces = b""
    while len(pieces) < count:
        piece = data.recv(min(1 << 20, count - len(pieces)))
        assert piece
        pieces += piece
    return pieces


def lent(running: Server) -> bool:
    return LENT in running.worker.log_text()


def test_a_long_file_arrives_as_it_is_also_from_a_position(long_tree: Path) -> None:
    content = (long_tree / "long").read_bytes()
    with server(long_tree, before=eager()) as running, running.raw() as raw:
        assert read_all(begun(raw)) == content
        assert raw.reply().startswith("226")
        assert raw.ask("REST 12345678").startswith("350")
        data = raw.passive()
        assert raw.ask("RETR long").startswith("150")
        assert read_all(data) == content[12345678:]
        assert raw.reply().startswith("226")
        assert running.worker.log_text().count(LENT) >= 2
        assert until(lambda: running.worker.counters()["transfers"]) == 2
        assert f"bytes={SIZE} " in running.worker.log_text()
        assert running.worker.counters()["crashes"] == 0


def test_more_clients_than_threads_all_get_the_whole(long_tree: Path) -> None:
    content = (long_tree / "long").read_bytes()
    same: list[bool] = []

    def fetch(raw: Raw) -> None:
        same.append(read_all(begun(raw)) == content and raw.reply().startswith("226"))

    with server(long_tree, before=eager(SPAN_S=0.01)) as running:
        clients = [running.raw() for _ in range(7)]
        threads = [threading.Thread(target=fetch, args=(raw,)) for raw in clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        for raw in clients:
            raw.close()
        assert same == [True] * 7
        assert lent(running) and running.worker.counters()["failed"] == 0


def test_others_are_served_and_abor_is_heard_while_a_thread_waits_for_the_client(long_tree: Path) -> None:
    with server(long_tree, before=eager(PATIENCE_S=3600)) as running, running.raw() as raw, running.raw() as other:
        data = begun(raw)
        got = len(read_some(data, 8 << 20))
        until(lambda: lent(running))
        assert other.get("RETR a.txt")
        assert raw.ask("NOOP").startswith("200")
        assert "RETR: " in raw.ask("STAT")
        assert raw.ask("ABOR").startswith("426")
        assert raw.reply().startswith("226")
        assert got + len(read_all(data)) < SIZE
        assert read_all(begun(raw)) == (long_tree / "long").read_bytes()
        assert raw.reply().startswith("226")
        assert running.worker.counters()["failed"] == 1


def test_a_client_that_stalls_is_ended_though_a_thread_waits_for_it(long_tree: Path) -> None:
    config = settings(limits={"stall_timeout": 1})
    with server(long_tree, config, before=eager(PATIENCE_S=3600)) as running, running.raw() as raw:
        data = begun(raw)
        read_some(data, 8 << 20)
        until(lambda: lent(running))
        assert raw.reply().startswith("426 Transfer stalled")
        assert raw.ask("NOOP").startswith("200")


@pytest.mark.parametrize("patience", [1, 3600])
def test_a_client_that_becomes_slow_goes_back_to_the_loop(long_tree: Path, patience: int) -> None:
    """By the patience of the socket, or because a call lasts too long."""
    with server(long_tree, before=eager(PATIENCE_S=patience, SPAN_S=0.1, FAST=1 << 20)) as running:
        with running.raw() as raw:
            data = begun(raw)
            content = read_some(data, 8 << 20)
            until(lambda: lent(running))
            pause = threading.Event()
            for _ in range(12):  # 16 MiB in 3 s
                pause.wait(0.25)
                content += read_some(data, 4 << 18)
            assert content + read_all(data) == (long_tree / "long").read_bytes()
            assert raw.reply().startswith("226")
        assert running.worker.counters()["crashes"] == 0


def test_a_client_that_resets_gets_426_and_one_that_goes_leaves_nothing(long_tree: Path) -> None:
    with server(long_tree, before=eager(PATIENCE_S=3600)) as running, running.raw() as raw:
        data = begun(raw)
        read_some(data, 8 << 20)
        until(lambda: lent(running))
        data.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        data.close()
        assert raw.reply().startswith("426")
        with running.raw() as gone:
            read_some(begun(gone), 8 << 20)
        until(lambda: running.worker.counters()["failed"] == 2)
        before = len(os.listdir(f"/proc/{running.worker.pid}/fd"))
        assert raw.get("RETR a.txt")
        until(lambda: len(os.listdir(f"/proc/{running.worker.pid}/fd")) <= before)
        assert running.worker.counters()["crashes"] == 0


def test_a_file_that_is_cut_under_a_thread_is_no_success(long_tree: Path) -> None:
    os.truncate(long_tree / "long", 1 << 30)
    with server(long_tree, before=eager()) as running, running.raw() as raw:
        data = begun(raw)
        got = len(read_some(data, 8 << 20))
        until(lambda: lent(running))
        os.truncate(long_tree / "long", 10 << 20)
        assert got + len(read_all(data)) < 1 << 30
        assert raw.reply().startswith("451")


def test_a_rate_is_kept_by_the_loop_alone(long_tree: Path) -> None:
    config = settings(limits={"rate_per_client": 1 << 30})
    with server(long_tree, config, before=eager()) as running, running.raw() as raw:
        assert read_all(begun(raw)) == (long_tree / "long").read_bytes()
        assert raw.reply().startswith("226")
        assert not lent(running)


def test_a_worker_ends_although_a_thread_waits_for_a_client(long_tree: Path) -> None:
    with server(long_tree, before=eager(PATIENCE_S=3600)) as running, running.raw() as raw:
        data = begun(raw)
        read_some(data, 8 << 20)
        until(lambda: lent(running))
        running.worker.tell(wire.Drain(0))
        assert running.worker.wait(60) == 256
        assert raw.reply().startswith("421")
        assert len(read_all(data)) < SIZE


@pytest.mark.parametrize("size", [0, 1, 4096, (64 << 10) - 1, 64 << 10, (64 << 10) + 1])
def test_a_small_file_is_whole_on_both_sides_of_the_border(tree: Path, size: int) -> None:
    content = os.urandom(size)
    (tree / "small").write_bytes(content)
    with server(tree) as running, running.raw() as raw:
        raw.ask("TYPE I")
        assert raw.get("RETR small") == content
        if size > 10:
            assert raw.ask("REST 10").startswith("350")
            assert raw.get("RETR small") == content[10:]
        assert running.worker.counters()["crashes"] == 0
        until(lambda: f"bytes={size} " in running.worker.log_text())


def test_a_small_file_goes_with_one_read_and_one_send_and_without_sendfile(tree: Path) -> None:
    (tree / "small").write_bytes(b"small" * 100)

    def count() -> None:
        from appliance.ftp import downloads

        def piece(_self: downloads.Download, _count: int) -> int:
            raise AssertionError("by way of the loop")

        downloads.Download._piece = piece  # type: ignore[method-assign]

    with server(tree, before=count) as running, running.raw() as raw:
        raw.ask("TYPE I")
        assert raw.get("RETR small") == b"small" * 100
        assert running.worker.counters()["crashes"] == 0


def test_a_small_file_that_is_not_in_memory_goes_by_way_of_the_loop(tree: Path) -> None:
    """A device that is asked first and says: not without waiting."""
    (tree / "small").write_bytes(b"small" * 100)

    def cold() -> None:
        asked = os.preadv

        def preadv(fd: int, buffers: Any, offset: int, flags: int = 0) -> int:
            if flags & os.RWF_NOWAIT:
                raise BlockingIOError
            return asked(fd, buffers, offset, flags)

        os.preadv = preadv

    config = settings()
    with server(tree, config, before=lambda: (cold(), no_memory())[0]) as running, running.raw() as raw:
        raw.ask("TYPE I")
        assert raw.get("RETR small") == b"small" * 100
        assert running.worker.counters()["crashes"] == 0


def no_memory() -> None:
    """No device is memory, whatever the folder for tests lies on."""
    from appliance.ftp import downloads

    held = downloads.Download.connected

    def connected(self: downloads.Download, sock: socket.SocketType, tls: Any = None) -> None:
        self.house.memory = frozenset()
        held(self, sock, tls)

    downloads.Download.connected = connected  # type: ignore[method-assign]


def test_a_small_file_to_a_client_that_closed_already_is_a_failure(tree: Path) -> None:
    (tree / "small").write_bytes(b"small" * 100)
    with server(tree) as running, running.raw() as raw:
        raw.ask("TYPE I")
        data = raw.passive()
        data.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        data.close()
        assert raw.ask("RETR small").startswith("150")
        assert raw.reply().startswith("426")
        assert raw.get("RETR small") == b"small" * 100


def test_a_range_of_passive_ports_gives_each_of_them_and_none_beside() -> None:
    from appliance.ftp.connections import Ports

    ports = Ports(50000, 50009)
    assert {ports.choose() for _ in range(2000)} == set(range(50000, 50010))
    assert {Ports(50000, 50000).choose() for _ in range(300)} == {50000}


def test_the_dice_of_the_ports_are_used_up_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each choice takes four fresh bytes of the kernel's; 256 choices take one call."""
    from appliance.ftp.connections import Ports

    asked: list[int] = []

    def dice(count: int) -> bytes:
        asked.append(count)
        return b"".join(number.to_bytes(4, "big") for number in range(count // 4))

    monkeypatch.setattr(os, "urandom", dice)
    ports = Ports(1000, 1999)
    assert [ports.choose() for _ in range(257)] == [*range(1000, 1256), 1000]
    assert asked == [1024, 1024]
