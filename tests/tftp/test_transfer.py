"""Whole downloads over real sockets: the exact bytes, whatever the size, the options, the family and the path do."""

from __future__ import annotations

import os
import random
import socket
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from appliance.tftp.receiving import Write
from appliance.tftp.transfer import Transfer
from tests.tftp.client import Fetch, RefusedError, ack, fetch, options_of, rrq, udp
from tests.tftp.server import QUICK, SETTINGS, Server, until

EDGES = (0, 1, 511, 512, 513, 1024, 5120, 100_000)


def put(server: Server, name: str, size: int, seed: int = 7) -> bytes:
    content = random.Random(seed).randbytes(size)
    (server.root / name).write_bytes(content)
    return content


@pytest.mark.parametrize("family", ["address", "address6"])
def test_files_of_every_size_at_the_edge_of_a_block_arrive(server: Server, family: str) -> None:
    for size in EDGES:
        content = put(server, f"f{size}", size)
        for options in ({}, {"blksize": 8, "windowsize": 64}, {"blksize": 1428, "tsize": 0}, {"windowsize": 3}):
            if size < 10_000 or "blksize" not in options:
                assert fetch(getattr(server, family), f"f{size}", options) == content
    until(lambda: server.counters["active"] == 0, "the end of the transfers")
    assert server.counters["failed"] == server.counters["crashes"] == 0


@pytest.mark.parametrize("block", [8, 512, 1468, 8192, 32740, 65464])
def test_multiples_of_any_block_size_arrive(server: Server, block: int) -> None:
    for blocks, more in ((1, -1), (1, 0), (1, 1), (3, 0), (70, -1), (70, 0)):
        content = put(server, "f", block * blocks + more, blocks)
        download = Fetch(server.address, "f", {"blksize": block, "windowsize": 8, "tsize": 0})
        assert download.run() == content
        assert download.agreed["tsize"] == str(len(content))
        assert download.agreed["blksize"] == str(block)


def test_a_window_needs_one_ack(server: Server) -> None:
    content = put(server, "f", 512 * 64 * 3 + 100)
    download = Fetch(server.address, "f", {"windowsize": 64})
    assert download.run() == content
    assert (download.blocks, download.acks) == (193, 1 + 4)


@pytest.mark.parametrize("window", [1, 2, 4, 16, 63, 64])
def test_lost_blocks_are_sent_again_whatever_the_window(server: Server, window: int) -> None:
    content = put(server, "f", 512 * 300 + 17)
    dice = random.Random(window)
    download = Fetch(
        server.address,
        "f",
        {"windowsize": window, "utimeout": 30_000},
        lose=lambda block, times: times < 3 and dice.random() < 0.03,
    )
    assert download.run() == content
    until(lambda: server.counters["transfers"] == 1, "the record")
    assert server.counters["retransmits"] > 0


def test_the_same_window_is_restarted_at_the_lost_block(server: Server) -> None:
    content = put(server, "f", 512 * 32)
    download = Fetch(server.address, "f", {"windowsize": 16}, lose=lambda block, times: block == 5 and times == 1)
    download.wait_s = 5.0  # the gap is told at once
    assert download.run() == content
    # blocks 5..16 of the first window were for nothing: 4 + 12 lost or out of order, then 5..33
    assert download.blocks == 16 + 29


@pytest.mark.parametrize(("rollover", "window"), [(None, 16), (0, 1), (1, 16), (1, 1)])
def test_more_than_65535_blocks_roll_over_as_agreed(server: Server, rollover: int | None, window: int) -> None:
    content = put(server, "f", 8 * 65_800 + 3)
    options: dict[str, object] = {"blksize": 8, "windowsize": window}
    if rollover is not None:
        options["rollover"] = rollover
    for _ in range(2):  # the second one comes from the cache
        assert fetch(server.address, "f", options) == content


@pytest.mark.parametrize(
    ("window", "text"),
    [(1, b"a\nb\r\nc\rd"), (4, b"\r\n" * 3000), (1, b"x" * 511 + b"\n"), (16, b"\r" * 100_000), (2, b"")],
)
def test_netascii_turns_lines_also_at_the_edge_of_a_block(server: Server, window: int, text: bytes) -> None:
    (server.root / "f").write_bytes(text)
    wire = fetch(server.address, "f", {"windowsize": window, "tsize": 0}, mode="netASCII")
    assert wire == text.replace(b"\r", b"\r\0").replace(b"\n", b"\r\n")


def test_lost_blocks_of_a_netascii_transfer_are_sent_again(server: Server) -> None:
    text = b"line\nline\r\n" * 3000
    (server.root / "f").write_bytes(text)
    wire = fetch(
        server.address,
        "f",
        {"windowsize": 8, "utimeout": 30_000},
        mode="netascii",
        lose=lambda block, times: block % 7 == 0 and times == 1,
    )
    assert wire == text.replace(b"\r", b"\r\0").replace(b"\n", b"\r\n")


def test_tsize_is_left_out_of_a_netascii_answer(server: Server) -> None:
    put(server, "f", 100)
    download = Fetch(server.address, "f", {"tsize": 0, "blksize": 600}, mode="netascii")
    download.run()
    assert download.agreed == {"blksize": "600"}


def test_a_file_asked_for_again_comes_from_the_cache_and_an_edit_shows_at_once(start) -> None:
    server = start(sabotage=settled)
    first = put(server, "f", 300_000, 1)
    for window in (1, 64, 64, 1):
        assert fetch(server.address, "f", {"blksize": 1428, "windowsize": window}) == first
    second = put(server, "f", 300_000, 2)
    for _ in range(3):
        assert fetch(server.address, "f", {"blksize": 1428, "windowsize": 64}) == second
    (server.root / "f").unlink()
    with pytest.raises(RefusedError, match="1 File not found"):
        fetch(server.address, "f", {"blksize": 1428, "windowsize": 64})


def settled() -> None:
    """Let the cache take files however young they are."""
    from appliance.tftp import cache

    cache.SETTLE_NS = 0


@pytest.mark.parametrize("times", [1, 3])  # from the file, and from the cache
def test_the_file_a_transfer_started_with_is_the_one_it_finishes_with(start, times: int) -> None:
    server = start(sabotage=settled)
    content = put(server, "f", 400_000, 1)
    for _ in range(times - 1):
        fetch(server.address, "f")

    def swap(block: int, tries: int) -> bool:
        if block == 300 and tries == 1:
            (server.root / "new").write_bytes(b"other")
            os.replace(server.root / "new", server.root / "f")
        return False

    assert fetch(server.address, "f", lose=swap) == content
    assert fetch(server.address, "f") == b"other"


def test_a_file_that_grows_is_sent_as_long_as_it_was(server: Server) -> None:
    content = put(server, "f", 100_000)

    def grow(block: int, tries: int) -> bool:
        if block == 2:
            with open(server.root / "f", "ab") as file:
                file.write(b"more" * 1000)
        return False

    assert fetch(server.address, "f", lose=grow) == content


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("mode", ["octet", "netascii"])
def test_a_file_truncated_in_the_middle_ends_that_transfer_only(start, times: int, mode: str) -> None:
    server = start(sabotage=settled)
    put(server, "f", 2_000_000)
    other = put(server, "other", 200_000)
    for _ in range(times - 1):
        with pytest.raises(RefusedError):
            fetch(server.address, "f", mode=mode, lose=cut(server))
        put(server, "f", 2_000_000)
    with pytest.raises(RefusedError, match="0 File cannot be read any more"):
        fetch(server.address, "f", mode=mode, lose=cut(server))
    assert fetch(server.address, "other") == other
    until(lambda: len(server.lines("transfer")) == times + 1, "the records")
    assert "file truncated" in server.first("transfer")
    assert server.counters["crashes"] == 0


def cut(server: Server):
    def at(block: int, tries: int) -> bool:
        if block == 600:
            os.truncate(server.root / "f", 1000)
        return False

    return at


def test_the_record_of_a_transfer_names_the_client_first_and_all_that_was_agreed(server: Server) -> None:
    put(server, "f", 5000)
    with udp() as sock:
        fetch(server.address, "f", {"blksize": 1000, "windowsize": 2}, sock=sock)
        until(lambda: server.lines("transfer"), "the record")
        line = server.only("transfer")
        assert f": transfer client=127.0.0.1:{sock.getsockname()[1]} file=f bytes=5000 ms=" in line
    assert line.endswith("retransmits=0 blksize=1000 windowsize=2 outcome=done")
    assert server.counters["transfers"] == 1
    assert server.counters["bytes"] == 5000


def test_blksize_is_clamped_to_what_the_path_carries_in_one_piece(server: Server) -> None:
    put(server, "f", 10)
    with udp() as sock:
        sock.sendto(rrq("f", {"blksize": 65464}), server.address)
        # loopback carries 65536 bytes; 65464 + 4 + 8 + 20 fits
        assert options_of(sock.recv(1000)) == {"blksize": "65464"}


@pytest.mark.parametrize(("most", "asked", "got"), [(8, 9, "8"), (1000, 1001, "1000"), (1000, 999, "999")])
def test_blksize_max_of_the_settings_holds(start, most: int, asked: int, got: str) -> None:
    server = start(replace(SETTINGS, blksize_max=most))
    put(server, "f", 10)
    download = Fetch(server.address, "f", {"blksize": asked})
    download.run()
    assert download.agreed == {"blksize": got}


@pytest.mark.parametrize(("most", "asked", "got"), [(1, 64, "1"), (100, 99, "99"), (100, 101, "100")])
def test_windowsize_max_of_the_settings_holds(start, most: int, asked: int, got: str) -> None:
    server = start(replace(SETTINGS, windowsize_max=most))
    content = put(server, "f", 512 * 350)
    download = Fetch(server.address, "f", {"windowsize": asked})
    assert download.run() == content
    assert download.agreed == {"windowsize": got}


def test_an_empty_file_is_done_for_ipxe_too(server: Server) -> None:
    put(server, "f", 0)
    with udp() as sock:
        sock.sendto(rrq("f", {"blksize": 1432, "tsize": 0}), server.address)
        packet, tid = sock.recvfrom(1000)
        assert options_of(packet) == {"blksize": "1432", "tsize": "0"}
        sock.sendto(ack(0), tid)
        assert sock.recv(1000) == b"\0\3\0\1"
        sock.sendto(ack(0), tid)
        until(lambda: server.counters["transfers"] == 1, "the end")
    assert server.counters["failed"] == server.counters["retransmits"] == 0


@pytest.mark.parametrize("peer", [("127.0.0.1", 2000), ("::1", 2000, 0, 0)])
def test_a_late_datagram_of_the_ports_earlier_client_is_nobodys_word(peer: tuple) -> None:
    with socket.socket(socket.AF_INET6 if ":" in peer[0] else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((peer[0], 0))  # not connected, so that the kernel lets everybody in
        mine, other = (udp(peer[0]) for _ in range(2))
        with mine, other:
            known = SimpleNamespace(peer=mine.getsockname())
            transfer: Any = SimpleNamespace(confirmed=False, port=object(), sock=sock, call=known)
            write: Any = SimpleNamespace(receiver=SimpleNamespace(heard=False), port=object(), sock=sock, call=known)
            for speaker in (other, mine, other, mine):
                speaker.sendto(ack(1), sock.getsockname())
            assert [Transfer._take(transfer), Transfer._take(transfer)] == [b"", ack(1)]
            assert [Write._receive(write), Write._receive(write)] == [0, 4]


WAYS = ("ports", "rates", "one port", "one port, rates")
RATED = replace(SETTINGS.limits, rate_per_client=64 << 20, rate_total=64 << 20)
ONE_PORT: dict[str, Any] = {"single_port": True, "allow": ("127.0.0.0/8",)}


def settled_in_a_jail() -> None:
    """Small files stay in memory and others in the cache at once, as if they had been there for long."""
    from appliance.tftp import cache, lookup, shelf

    cache.SETTLE_NS = shelf.SETTLE_NS = -(10**18)
    shelf.on_a_disk = lambda _device: True  # type: ignore[assignment]
    lookup.is_chrooted = lambda: True  # type: ignore[assignment]


@pytest.mark.parametrize("ways", [{}, {"limits": RATED}, ONE_PORT, {**ONE_PORT, "limits": RATED}], ids=WAYS)
def test_whatever_a_client_acknowledges_each_block_holds_its_bytes_of_the_file_as_it_was(start, ways: Any) -> None:
    """Shelf, cache, read-ahead, the window made ready, pieces of a rate and one port, against ACKs in no good order."""
    server = start(replace(QUICK, give_up_after=30.0, **ways), sabotage=settled_in_a_jail)
    dice = random.Random(str(ways))
    for case in range(24):
        size = dice.choice([0, 8, 4000, 16384, 60_000, 300_000])
        name, content = f"f{case % 5}", bytes(dice.choices(b"ab\r\n\0", k=size))
        if case % 3 == 0 or not (server.root / name).exists():
            rewrite(server.root / name, content)
        options = {"blksize": dice.choice([512, 1428, 8192, 65464]), "windowsize": dice.choice([1, 2, 7, 16, 60, 64])}
        stutter(server, name, options, dice.choice(["octet", "netascii"]), dice)
    assert server.counters["crashes"] == 0


def rewrite(path: Path, content: bytes) -> None:
    other = path.with_name("other")
    other.write_bytes(content)
    other.rename(path)


def stutter(server: Server, name: str, options: dict[str, Any], mode: str, dice: random.Random) -> None:
    """Download in a bad order; the file is replaced on the way."""
    wanted = (server.root / name).read_bytes()
    if mode == "netascii":
        wanted = wanted.replace(b"\r", b"\r\0").replace(b"\n", b"\r\n")
    with udp() as sock:
        sock.sendto(rrq(name, options, mode=mode), server.address)
        oack, tid = sock.recvfrom(600)
        block, window = (int(options_of(oack)[option]) for option in ("blksize", "windowsize"))
        sock.sendto(ack(0), tid)
        sock.settimeout(0.3)
        got, last, patience = 0, len(wanted) // block + 1, 100
        while got < last:
            try:
                data = sock.recv(70_000)
            except TimeoutError:
                patience -= 1
                assert patience, f"stuck after block {got} of {last}"
                sock.sendto(ack(got), tid)
                continue
            number = int.from_bytes(data[2:4], "big")
            assert got - 2 * window <= number <= got + window
            assert data == b"\0\3" + data[2:4] + wanted[(number - 1) * block : number * block]
            got += number == got + 1
            if got == min(last - 1, 5) and number == got:
                rewrite(server.root / name, os.urandom(1000))
            chance = dice.random()
            if chance < 0.05:
                sock.sendto(ack(max(0, got - dice.randrange(3))), tid)
            elif chance < 0.10:
                sock.sendto(ack(got + 5 + window + dice.randrange(window)), tid)
            elif chance < 0.4 or got % window == 0 or got == last:
                sock.sendto(ack(got), tid)
