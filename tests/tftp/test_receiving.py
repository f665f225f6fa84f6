"""receiving: blocks on real sockets, losses, allowances, and the file that comes of them."""

from __future__ import annotations

import os
import queue
import random
import threading
from collections.abc import Callable
from dataclasses import replace

import pytest

from appliance.custody import wire
from appliance.custody.wire import Reason
from appliance.tftp import netascii
from tests.tftp.client import Put, RefusedError, ack, fetch, put, rrq, udp
from tests.tftp.custodian import Custodian
from tests.tftp.server import SETTINGS, until
from tests.tftp.uploading import UPLOADS, Box

OpenBox = Callable[..., Box]


@pytest.mark.parametrize("family", ["address", "address6"])
@pytest.mark.parametrize("options", [{}, {"blksize": 1428}, {"blksize": 1000, "windowsize": 16, "tsize": 0}], ids=str)
def test_an_upload_is_stored_byte_for_byte(box: Box, options: dict[str, object], family: str) -> None:
    for size in (0, 1, 511, 512, 513, 1000, 16_000, 200_000):
        content = os.urandom(size)
        put(getattr(box.server, family), f"uploads/f{size}", content, options)
        assert box.stored()[f"f{size}"] == content


def test_an_upload_with_losses_and_duplicates_is_whole_and_its_traffic_bounded(box: Box) -> None:
    for seed, window in ((1, 1), (2, 4), (3, 16)):
        chance = random.Random(seed)
        content = os.urandom(40_000 if window == 1 else 160_000)  # more than one buffer
        upload = Put(
            box.server.address,
            f"f{window}",
            content,
            {"windowsize": window},
            lose=lambda *_, chance=chance: chance.random() < 0.1,
        )
        upload.run()
        assert box.stored()[f"f{window}"] == content
        assert upload.sent < 4 * window * len(content) / 512
        assert upload.acks < 3 * upload.sent


def test_every_block_twice_brings_no_apprentice(box: Box) -> None:
    for window in (1, 4):
        content = os.urandom(20_000 if window == 1 else 120_000)
        upload = Put(box.server.address, f"f{window}", content, {"windowsize": window})
        send = upload.send
        upload.send = lambda block, send=send: (send(block), send(block))  # type: ignore[method-assign]
        upload.run()
        assert upload.sent <= 6 * (len(content) / 512 + 1)
        assert box.stored()[f"f{window}"] == content


def test_blocks_past_65535_roll_over_as_agreed(box: Box) -> None:
    content = os.urandom(8 * 65_540)
    for rollover in (0, 1):
        put(box.server.address, f"r{rollover}", content, {"blksize": 8, "windowsize": 64, "rollover": rollover})
        assert box.stored()[f"r{rollover}"] == content


@pytest.mark.parametrize("options", [{"blksize2": 1000}, {"utimeout": 50_000, "timeout": 3}, {"tsize": 100}], ids=str)
def test_options_are_agreed_as_for_reads(box: Box, options: dict[str, object]) -> None:
    agreed = put(box.server.address, "uploads/f", bytes(100), options)
    assert (
        agreed
        == {"blksize2": {"blksize2": "512"}, "utimeout": {"utimeout": "50000"}, "tsize": {"tsize": "100"}}[
            next(iter(options))
        ]
    )


@pytest.mark.parametrize("size", [10, 70_000])
def test_netascii_lines_become_lines_of_a_file(box: Box, size: int) -> None:
    content = (b"one\ntwo\r three\r\n" * size)[: size * 8] + b"\r"
    put(box.server.address, "f", bytes(netascii.encode(content))[:-1], {"blksize": 1001}, mode="NetASCII")
    assert box.stored()["f"] == content


CODES = {
    Reason.EXISTS: 6, Reason.SIZE: 3, Reason.QUOTA: 3, Reason.CLIENT_QUOTA: 3, Reason.FILES: 3, Reason.DISK: 3,
    Reason.ABSENT: 1, Reason.BUSY: 0, Reason.UNDER_WAY: 0, Reason.STORE: 0, Reason.INCOMPLETE: 0, Reason.UNREADABLE: 2,
}  # fmt: skip


@pytest.mark.parametrize("when", [wire.Ask, wire.Reserve, wire.Commit])
@pytest.mark.parametrize("reason", Reason)
def test_each_refusal_has_its_code_and_a_constant_text(box: Box, reason: Reason, when: type) -> None:
    def script(message: wire.FromWorker) -> bool:
        if isinstance(message, when):
            box.custodian.say(wire.Refused(message.id, reason))
        return isinstance(message, when)

    box.custodian.script = script
    with pytest.raises(RefusedError) as caught:
        put(box.server.address, "f", b"content")
    assert caught.value.code == CODES.get(reason, 2)
    assert "/" not in caught.value.text
    assert "f" not in box.stored()
    until(lambda: box.server.counters["active"] == 0, "the end")


def test_a_requester_never_heard_from_reserves_nothing(box: Box) -> None:
    with udp() as sock:
        sock.sendto(rrq("f", {"tsize": 5, "utimeout": 50_000}, opcode=2), box.server.address)
        answers = [sock.recv(600) for _ in range(3)]
        until(lambda: box.server.counters["failed"] == 1, "the end of its budget")
        sock.settimeout(0.05)
        with pytest.raises(TimeoutError):
            sock.recv(600)
    assert answers == [b"\0\6tsize\x005\0utimeout\x0050000\0"] * 3
    assert box.custodian.kinds() == ["Ask"]


def test_what_comes_before_the_grant_is_held_and_not_acknowledged(box: Box) -> None:
    go = threading.Event()

    def script(message: wire.FromWorker) -> bool:
        return bool(isinstance(message, wire.Reserve) and not go.wait(10))

    box.custodian.script = script
    content = os.urandom(600)
    upload = Put(box.server.address, "f", content, {"blksize": 100, "windowsize": 3})
    with upload.sock as sock:
        upload.begin()
        for block in (1, 2, 3, 1, 2, 3, 4, 5, 6, 7):
            upload.send(block)
        until(lambda: "Ask" in box.custodian.kinds(), "the question")
        sock.settimeout(0.1)
        with pytest.raises(TimeoutError):
            sock.recv(600)
        go.set()
        assert upload._receive(60) == ack(3)
        for block in (4, 5, 6):
            upload.send(block)
        assert upload._receive(60) == ack(6)
        upload.send(7)
        assert upload._receive(60) == ack(7)
    assert box.stored() == {"f": content}


def test_the_last_ack_comes_only_after_the_file_is_stored_and_repeats_are_swallowed(box: Box) -> None:
    commits: queue.Queue[wire.FromWorker] = queue.Queue()
    box.custodian.script = lambda message: isinstance(message, wire.Commit) and not commits.put(message)
    upload = Put(box.server.address, "f", b"content", {"timeout": 1})
    with upload.sock as sock:
        upload.begin()
        upload.send(1)
        message = commits.get(timeout=60)
        for _ in range(3):
            upload.send(1)
        sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            sock.recv(600)
        box.custodian.answer(message)
        assert upload._receive(60) == ack(1)
        for _ in range(3):  # our ACK was lost
            upload.send(1)
            assert upload._receive(60) == ack(1)
    assert commits.empty()
    assert box.server.counters["active"] == 0
    assert box.server.counters["transfers"] == 1


def test_a_large_upload_never_waits_for_its_allowance(box: Box) -> None:
    content = os.urandom(9_000_000)
    put(box.server.address, "f", content, {"blksize": 1428, "windowsize": 32})
    assert box.stored()["f"] == content
    assert 2 <= box.custodian.kinds().count("Extend") <= 4


def test_a_slow_allowance_delays_and_loses_nothing(box: Box) -> None:
    box.custodian.allowance = 100_000
    content = os.urandom(1_000_000)
    put(box.server.address, "f", content, {"blksize": 1428, "windowsize": 32, "timeout": 60})  # longer than it may take
    assert box.stored()["f"] == content
    assert box.custodian.kinds().count("Extend") >= 8


@pytest.mark.parametrize("size", [100_000, 100_001])
def test_an_upload_may_fill_its_allowance_to_the_last_byte(box: Box, size: int) -> None:
    def script(message: wire.FromWorker) -> bool:
        if isinstance(message, wire.Extend):
            box.custodian.say(wire.Refused(message.id, Reason.SIZE))
        return isinstance(message, wire.Extend)

    box.custodian.allowance = 100_000
    box.custodian.script = script
    if size <= 100_000:
        put(box.server.address, "f", bytes(size), {"blksize": 1000, "windowsize": 8})
        assert len(box.stored()["f"]) == size
    else:
        with pytest.raises(RefusedError, match="3 File is too large"):
            put(box.server.address, "f", bytes(size), {"blksize": 1000, "windowsize": 8})
        until(lambda: "Abort" in box.custodian.kinds(), "the abort")
        assert os.listdir(box.custodian.folder) == []


@pytest.mark.parametrize("granted", [True, False])
def test_what_a_full_box_refused_when_it_was_asked_for_ahead_was_never_asked_for_again(box: Box, granted: bool) -> None:
    asked: list[wire.FromWorker] = []

    def script(message: wire.FromWorker) -> bool:
        if not isinstance(message, wire.Extend) or (asked and granted):
            return False
        asked.append(message)
        box.custodian.say(wire.Refused(message.id, Reason.QUOTA))
        return True

    box.custodian.script = script
    content = os.urandom(5_000_000)
    if granted:
        put(box.server.address, "f", content, {"blksize": 1428, "windowsize": 32})
        assert box.stored()["f"] == content
    else:
        with pytest.raises(RefusedError, match="3 "):
            put(box.server.address, "f", content, {"blksize": 1428, "windowsize": 32})
        assert len(asked) == 2, "ahead, and when it could not go on without"


def test_what_is_refused_ahead_is_asked_for_again_each_time_and_not_only_once(box: Box) -> None:
    """Seen: after a first grant the second refusal was for good, whatever uploads of other workers had left since."""
    asked: list[wire.FromWorker] = []

    def script(message: wire.FromWorker) -> bool:
        if isinstance(message, wire.Extend):
            asked.append(message)
            if len(asked) % 2:
                box.custodian.say(wire.Refused(message.id, Reason.QUOTA))
                return True
        return False

    box.custodian.script = script
    content = os.urandom(11_000_000)
    put(box.server.address, "f", content, {"blksize": 1428, "windowsize": 32})
    assert box.stored()["f"] == content and len(asked) >= 4


@pytest.mark.parametrize(("mode", "refused"), [("octet", True), ("netascii", False)])
def test_an_upload_that_ends_before_its_announced_size_is_refused(box: Box, mode: str, refused: bool) -> None:
    if refused:
        with pytest.raises(RefusedError, match="0 Upload is incomplete"):
            put(box.server.address, "f", b"content", {"tsize": 8}, mode=mode)
        until(lambda: "Abort" in box.custodian.kinds(), "the abort")
        assert os.listdir(box.custodian.folder) == []
    else:
        put(box.server.address, "f", b"content", {"tsize": 8}, mode=mode)


def test_an_upload_that_grew_while_it_was_sent_is_taken(box: Box) -> None:
    put(box.server.address, "f", b"content", {"tsize": 3})
    assert box.stored() == {"f": b"content"}


def test_a_custodian_gone_bad_cannot_stop_a_worker_with_a_pipe_that_nobody_empties(start) -> None:
    server = start(replace(SETTINGS, uploads=UPLOADS), linked=True)
    (server.root / "f").write_bytes(b"served")
    custodian = Custodian(server.link, server.root / UPLOADS.path)
    for_nobody, pipe = os.pipe()

    def script(message: wire.FromWorker) -> bool:
        if isinstance(message, wire.Reserve):
            custodian.say(wire.Granted(message.id, 1 << 30), pipe)
        return isinstance(message, wire.Reserve)

    custodian.script = script
    with pytest.raises(RefusedError, match="0 Internal error"):
        put(server.address, "uploads/f", bytes(400_000), {"blksize": 1400, "windowsize": 16})
    assert fetch(server.address, "f") == b"served"
    assert server.counters["crashes"] == 1
    custodian.stop()
    os.close(for_nobody)
    os.close(pipe)
