"""uploads: write requests as a client meets them, with a scripted custodian behind the worker."""

from __future__ import annotations

import os
import queue
import random
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace

import pytest

from appliance import wire as control
from appliance.custody import wire
from appliance.custody.wire import Reason
from appliance.settings.tftp import TftpNetwork, TftpRemap, TftpUploads
from appliance.tftp import netascii
from tests.tftp.client import Put, RefusedError, ack, fetch, put, rrq, udp
from tests.tftp.custodian import Custodian
from tests.tftp.server import SETTINGS, Server, until
from tests.tftp.uploading import UPLOADS, Box, under_way

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
        content = os.urandom(40_000)
        upload = Put(
            box.server.address,
            f"f{window}",
            content,
            {"windowsize": window},
            lose=lambda *_, chance=chance: chance.random() < 0.1,
        )
        upload.run()
        assert box.stored()[f"f{window}"] == content
        assert upload.sent < 4 * window * 79
        assert upload.acks < 3 * upload.sent


def test_every_block_twice_brings_no_apprentice(box: Box) -> None:
    for window in (1, 4):
        upload = Put(box.server.address, f"f{window}", bytes(20_000), {"windowsize": window})
        send = upload.send
        upload.send = lambda block, send=send: (send(block), send(block))  # type: ignore[method-assign]
        upload.run()
        assert upload.sent <= 6 * 40
        assert box.stored()[f"f{window}"] == bytes(20_000)


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


# -- names and who may


@pytest.mark.parametrize("name", ["uploads/f", "/uploads/f", "uploads\\f", "./uploads//f", "f", "/f"])
def test_names_that_mean_the_same_file_in_the_box(box: Box, name: str) -> None:
    put(box.server.address, name, b"content")
    assert box.stored() == {"f": b"content"}


@pytest.mark.parametrize("name", ["boot/f", "uploads/a/f", "uploads/../f", "..", "Uploads/f", "n" * 256])
def test_names_outside_of_the_box_are_refused(box: Box, name: str) -> None:
    with pytest.raises(RefusedError) as caught:
        put(box.server.address, name, b"content")
    assert caught.value.code == 2
    assert box.custodian.heard == []


def test_a_bare_name_is_refused_unless_the_settings_put_it_into_the_box(open_box: OpenBox) -> None:
    box = open_box(TftpUploads(mode="create"))
    with pytest.raises(RefusedError, match="2 uploads are not accepted here"):
        put(box.server.address, "sw1.cfg", b"x")
    put(box.server.address, "uploads/sw1.cfg", b"x")


def test_rules_apply_to_uploads_before_the_folder_is_looked_at(open_box: OpenBox) -> None:
    box = open_box(TftpUploads(mode="create"), remap=(TftpRemap(r"^(sw\d+)-confg$", r"uploads/\1-\i.cfg"),))
    put(box.server.address, "sw7-confg", b"x")
    assert list(box.stored()) == ["sw7-127.0.0.1.cfg"]


def test_another_case_of_the_folder_is_the_folder_where_the_settings_say_so(open_box: OpenBox) -> None:
    box = open_box(case_insensitive=True)
    put(box.server.address, "UPLOADS/f", b"content")
    assert fetch(box.server.address, "Uploads/f") == b"content"


def test_only_the_networks_of_the_settings_may_upload(open_box: OpenBox) -> None:
    box = open_box(replace(UPLOADS, allow=("127.0.1.0/24",)))
    with pytest.raises(RefusedError, match="2 uploads are not accepted here"):
        put(box.server.address, "f", b"x")
    with udp("127.0.1.9") as sock:
        put(box.server.address, "f", b"x", sock=sock)
    assert box.stored() == {"f": b"x"}


def test_a_mode_that_is_none_is_refused(box: Box) -> None:
    with pytest.raises(RefusedError, match="4 mode is neither"):
        put(box.server.address, "f", b"x", mode="mail")


# -- what the custodian says

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
        assert upload._receive(5) == ack(3)
        for block in (4, 5, 6):
            upload.send(block)
        assert upload._receive(5) == ack(6)
        upload.send(7)
        assert upload._receive(5) == ack(7)
    assert box.stored() == {"f": content}


def test_the_last_ack_comes_only_after_the_file_is_stored_and_repeats_are_swallowed(box: Box) -> None:
    commits: queue.Queue[wire.FromWorker] = queue.Queue()
    box.custodian.script = lambda message: isinstance(message, wire.Commit) and not commits.put(message)
    upload = Put(box.server.address, "f", b"content", {"timeout": 1})
    with upload.sock as sock:
        upload.begin()
        upload.send(1)
        message = commits.get(timeout=5)
        for _ in range(3):
            upload.send(1)
        sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            sock.recv(600)
        box.custodian.answer(message)
        assert upload._receive(5) == ack(1)
        for _ in range(3):  # our ACK was lost
            upload.send(1)
            assert upload._receive(5) == ack(1)
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
    started = time.monotonic()
    put(box.server.address, "f", content, {"blksize": 1428, "windowsize": 32, "timeout": 9})
    assert box.stored()["f"] == content
    assert time.monotonic() - started < 5  # no time-out of 9 s was waited for
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


# -- what ends an upload


def test_an_error_of_the_client_ends_it_and_leaves_nothing(box: Box) -> None:
    upload = under_way(box)
    with upload.sock as sock:
        sock.sendto(b"\0\5\0\0stop\0", upload.tid)
        until(lambda: "Abort" in box.custodian.kinds(), "the abort")
    assert os.listdir(box.custodian.folder) == []
    until(lambda: box.server.lines("upload"), "the record")
    assert 'outcome="aborted by the client"' in box.server.lines("upload")[0]


def test_a_silent_client_is_given_up(open_box: OpenBox) -> None:
    box = open_box(give_up_after=1.0)
    upload = under_way(box, utimeout=100_000)
    with upload.sock:
        until(lambda: "Abort" in box.custodian.kinds(), "the abort")
    assert os.listdir(box.custodian.folder) == []
    assert 'outcome="timed out"' in box.server.lines("upload")[0]
    assert 2 <= int(box.server.lines("upload")[0].split("retransmits=")[1].split()[0]) <= 6


def test_a_block_longer_than_agreed_ends_it(box: Box) -> None:
    upload = under_way(box)
    with upload.sock as sock:
        sock.sendto(b"\0\3\0\2" + bytes(513), upload.tid)
        with pytest.raises(RefusedError, match="4 Block is longer than agreed"):
            upload._receive(5)
    until(lambda: "Abort" in box.custodian.kinds(), "the abort")


def test_a_closed_port_of_the_client_ends_it(box: Box) -> None:
    upload = under_way(box, utimeout=50_000)
    upload.sock.close()
    until(lambda: "Abort" in box.custodian.kinds(), "the abort")
    until(lambda: box.server.lines("upload"), "the record")
    assert 'outcome="client gone"' in box.server.lines("upload")[0]


def test_the_end_of_the_custodian_ends_uploads_and_a_new_one_goes_on(box: Box) -> None:
    upload = under_way(box)
    with upload.sock:
        box.custodian.stop()
        with pytest.raises(RefusedError, match="0 Upload could not be stored"):
            upload._receive(5)
    with pytest.raises(RefusedError, match="0 Uploads are not possible right now"):
        put(box.server.address, "f", b"x")
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    box.server.tell(control.Link(0), theirs.fileno())
    theirs.close()
    box.custodian = Custodian(ours, box.custodian.folder)
    for _ in range(2):  # the link may come behind the first request
        try:
            put(box.server.address, "f", b"content")
            break
        except RefusedError:
            until(lambda: box.custodian.heard or True, "")
    until(lambda: box.stored() == {"f": b"content"}, "the upload")
    assert len([line for line in box.server.log.read_text().splitlines() if ": the custodian is gone" in line]) == 1


def test_a_custodian_that_speaks_nonsense_loses_the_link_and_nothing_else(box: Box) -> None:
    upload = under_way(box)
    with upload.sock:
        box.custodian.link.send(b"?")
        with pytest.raises(RefusedError, match="0 Upload could not be stored"):
            upload._receive(5)
    assert box.server.alive()


def test_draining_finishes_what_runs(box: Box) -> None:
    upload = under_way(box)
    with upload.sock:
        box.server.tell(control.Drain(10_000))
        for block in range(2, 11):
            upload.send(block)
            assert upload._receive(5) == ack(block)
        until(lambda: not box.server.alive(), "the end")
    assert box.stored() == {"f": bytes(5000)}


def test_draining_ends_at_its_deadline_and_leaves_nothing(box: Box) -> None:
    upload = under_way(box)
    with upload.sock:
        box.server.tell(control.Drain(50))
        with pytest.raises(RefusedError, match="0 Server is stopping"):
            upload._receive(5)
    until(lambda: not box.server.alive(), "the end")
    until(lambda: "Abort" in box.custodian.kinds(), "the abort")


# -- strangers and repeats


def test_foreign_ports_get_error_5_and_disturb_nothing(box: Box) -> None:
    upload = under_way(box)
    with upload.sock, udp() as stranger:
        for datagram in (upload.data(2), ack(2), b"\0\6windowsize\0009\0"):
            stranger.sendto(datagram, upload.tid)
            assert stranger.recv(600)[:4] == b"\0\5\0\5"
        stranger.sendto(b"\0\5\0\0stop\0", upload.tid)
        for block in range(2, 11):
            upload.send(block)
            assert upload._receive(5) == ack(block)
    assert box.stored() == {"f": bytes(5000)}


def test_garbage_from_the_client_itself_disturbs_nothing(box: Box) -> None:
    upload = under_way(box)
    with upload.sock as sock:
        for datagram in (b"", b"\0", b"\0\3\0", ack(1), rrq("x"), b"\0\6a\0b\0", b"\xff" * 700, upload.data(9)):
            sock.sendto(datagram, upload.tid)
        for block in range(2, 11):
            upload.send(block)
            while upload._receive(5) != ack(block):
                pass
    assert box.stored() == {"f": bytes(5000)}


def test_repeats_of_a_request_are_one_upload_also_while_the_custodian_is_asked(box: Box) -> None:
    asked: queue.Queue[wire.FromWorker] = queue.Queue()
    box.custodian.script = lambda message: isinstance(message, wire.Ask) and not asked.put(message)
    upload = Put(box.server.address, "f", b"content", {"timeout": 2})
    with upload.sock as sock:
        for _ in range(5):
            sock.sendto(upload.request, box.server.address)
        message = asked.get(timeout=5)
        put_seen_off(box)
        box.custodian.answer(message)
        assert upload._receive(5)[:2] == b"\0\6"
        for _ in range(5):
            sock.sendto(upload.request, box.server.address)
        upload.agreed = {"timeout": "2"}
        upload.send(1)
        assert upload._receive(5) == ack(1)
        sock.sendto(upload.request, box.server.address)
        put_seen_off(box)
    assert asked.empty()
    assert box.stored() == {"f": b"content"}


def put_seen_off(box: Box) -> None:
    """Every request before this one has been judged: it is answered at once."""
    with pytest.raises(RefusedError, match="1 File not found"):
        fetch(box.server.address, "boot/missing")


def test_the_oldest_of_too_many_questions_is_forgotten(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[wire.FromWorker] = []
    box.custodian.script = lambda message: isinstance(message, wire.Ask) and not asked.append(message)
    first = Put(box.server.address, "first", b"x")
    with first.sock as sock, udp() as flood:
        sock.sendto(first.request, box.server.address)
        until(lambda: len(asked) == 1, "the first question")
        for number in range(300):
            with udp() as forged:
                forged.sendto(rrq(f"n{number}", opcode=2), box.server.address)
        until(lambda: len(asked) > 256, "the other questions")
        put_seen_off(box)
        box.custodian.answer(asked[0])
        flood.sendto(rrq("last", opcode=2), box.server.address)
        until(lambda: asked[-1].name == b"last", "the last question")  # type: ignore[union-attr]
        box.custodian.answer(asked[-1])
        flood.settimeout(5)
        assert flood.recv(600) == ack(0)
        sock.settimeout(0.05)
        with pytest.raises(TimeoutError):
            sock.recv(600)


def test_another_file_from_the_same_port_is_another_upload(box: Box) -> None:
    with udp() as sock:
        for name in ("a", "b", "c"):
            Put(box.server.address, name, name.encode() * 600, sock=sock)._run()
    assert {name: len(content) for name, content in box.stored().items()} == {"a": 600, "b": 600, "c": 600}


def test_caps_hold_for_uploads(open_box: OpenBox) -> None:
    box = open_box(limits=replace(SETTINGS.limits, per_client=2))
    first, second = under_way(box, "a"), under_way(box, "b")
    with first.sock, second.sock, udp("127.0.0.1") as third, udp("127.0.0.2") as other:
        third.sendto(rrq("c", opcode=2), box.server.address)
        until(lambda: box.server.counters["dropped"] == 1, "the drop")
        Put(box.server.address, "d", b"x", sock=other)._run()
        for upload in (first, second):
            for block in range(2, 11):
                upload.send(block)
                assert upload._receive(5) == ack(block)
        until(lambda: box.server.counters["active"] == 0, "the end")
        Put(box.server.address, "c", b"x", sock=third)._run()
    assert sorted(box.stored()) == ["a", "b", "c", "d"]


def test_uploads_end_when_the_memory_of_the_settings_is_used_up(open_box: OpenBox) -> None:
    box = open_box(limits=replace(SETTINGS.limits, memory=1 << 20, per_client=1000))
    answers = []
    with ExitStack() as running:
        for number in range(40):
            upload = Put(box.server.address, f"f{number}", bytes(5000), {"blksize": 1400, "timeout": 9})
            running.enter_context(upload.sock)
            upload.begin()
            upload.send(1)
            answers.append(upload.sock.recv(600))
    assert answers.count(ack(1)) > 4
    assert set(answers[-3:]) == {b"\0\5\0\0Server is busy, try again\0"}
    until(lambda: box.server.counters["active"] == answers.count(ack(1)), "the ends of the refused")


def test_half_open_uploads_are_bounded_and_the_oldest_goes(open_box: OpenBox) -> None:
    box = open_box(limits=replace(SETTINGS.limits, per_client=1000))
    socks = []
    for number in range(520):
        socks.append(udp(f"127.0.0.{number % 200 + 1}"))
        socks[-1].sendto(rrq(f"f{number}", {"timeout": 30}, opcode=2), box.server.address)
        assert socks[-1].recv(600)[:2] == b"\0\6"
    until(lambda: box.server.counters["active"] == 512, "the evictions")
    for sock in socks:
        sock.close()


# -- reading back


def test_an_upload_is_read_back_through_the_custodian(box: Box) -> None:
    content = os.urandom(20_000)
    put(box.server.address, "uploads/sw1.cfg", content)
    for name in ("uploads/sw1.cfg", "sw1.cfg", "\\uploads\\sw1.cfg"):
        for options in ({}, {"blksize": 1428, "windowsize": 8}):
            assert fetch(box.server.address, name, options) == content
    assert "Fetch" in box.custodian.kinds()
    box.custodian.readable = False
    with pytest.raises(RefusedError, match="2 Access violation"):
        fetch(box.server.address, "uploads/sw1.cfg")
    box.custodian.readable = True
    with pytest.raises(RefusedError, match="1 File not found"):
        fetch(box.server.address, "missing")


def test_a_file_in_the_root_wins_over_an_upload_of_a_bare_name(box: Box) -> None:
    put(box.server.address, "f", b"upload")
    (box.server.root / "f").write_bytes(b"boot file")
    assert fetch(box.server.address, "f") == b"boot file"


def test_without_a_custodian_nothing_is_read_back(box: Box) -> None:
    put(box.server.address, "f", b"upload")
    box.custodian.stop()
    until(lambda: "custodian is gone" in box.server.log.read_text(), "the loss")
    with pytest.raises(RefusedError, match="0 File cannot be read right now"):
        fetch(box.server.address, "uploads/f")
    with pytest.raises(RefusedError, match="1 File not found"):
        fetch(box.server.address, "f")


@pytest.mark.parametrize("readable", ["none", "networks"])
def test_no_path_into_the_box_is_read_from_the_file_system(open_box: OpenBox, readable: str) -> None:
    """As an ordinary user everything has one uid: only the server itself keeps its clients out."""
    networks = (TftpNetwork("127.0.7.0/24", root="uploads"),)
    box = open_box(
        TftpUploads(mode="create", readable=readable),
        case_insensitive=True,
        world_readable_only=False,
        networks=networks,
        remap=(TftpRemap("^mapped$", "uploads/f"),),
    )
    box.custodian.readable = False
    root = box.server.root
    put(box.server.address, "uploads/f", b"secret")
    (root / "uploads/f").chmod(0o644)
    (root / "link").symlink_to("uploads/f")
    (root / "folder").symlink_to("uploads")
    (root / "boot").mkdir()
    (root / "boot/up").symlink_to("../uploads")
    (root / "absolute").symlink_to("/uploads/f")
    names = ["uploads/f", "UPLOADS/F", "uploads\\f", "link", "folder/f", "FOLDER/F", "boot/up/f", "absolute", "mapped"]
    for name in names:
        with pytest.raises(RefusedError, match="2 Access violation"):
            fetch(box.server.address, name)
    with udp("127.0.7.1") as sock, pytest.raises(RefusedError, match="2 Access violation"):
        fetch(box.server.address, "f", sock=sock)


def test_where_uploads_are_off_the_path_is_an_ordinary_folder(server: Server) -> None:
    (server.root / "uploads").mkdir()
    (server.root / "uploads/f").write_bytes(b"content")
    assert fetch(server.address, "uploads/f") == b"content"


# -- records


def test_one_line_and_the_counters_tell_of_an_upload(box: Box) -> None:
    put(box.server.address, "uploads/f", bytes(1000), {"blksize": 600, "windowsize": 4})
    until(lambda: box.server.lines("upload"), "the record")
    (line,) = box.server.lines("upload")
    assert "file=uploads/f bytes=1000 " in line
    assert line.endswith("retransmits=0 blksize=600 windowsize=4 outcome=done")
    assert (box.server.counters["transfers"], box.server.counters["bytes"]) == (1, 1000)


def test_no_descriptor_is_lost_in_a_hundred_uploads(box: Box) -> None:
    def held() -> int:
        return len(os.listdir(f"/proc/{box.server.pid}/fd"))

    for number in range(100):  # ports are kept, and sockets linger: let them come to their number first
        put(box.server.address, f"a{number}", b"x")
    before = held()
    for number in range(100):
        put(box.server.address, f"b{number}", bytes(2000))
        with pytest.raises(RefusedError, match="6 File already exists"):
            put(box.server.address, f"b{number}", b"x")
    assert held() <= before + 2


# -- single-port mode


@pytest.mark.parametrize("family", ["address", "address6"])
@pytest.mark.parametrize("options", [{}, {"blksize": 1000, "windowsize": 16, "tsize": 0}], ids=str)
def test_an_allowed_client_uploads_through_the_single_port(
    open_box: OpenBox, options: dict[str, object], family: str
) -> None:
    box = open_box(single_port=True, allow=("127.0.0.0/8", "::1"))
    address = getattr(box.server, family)
    for size in (0, 511, 512, 200_000):
        content = os.urandom(size)
        upload = Put(address, f"uploads/f{size}", content, options)
        upload.run()
        assert box.stored()[f"f{size}"] == content
        assert upload.tid[:2] == address[:2]
        assert fetch(address, f"uploads/f{size}") == content


def test_an_upload_and_a_download_of_one_client_port_do_not_disturb_each_other(open_box: OpenBox) -> None:
    box = open_box(single_port=True, allow=("127.0.0.0/8",))
    (box.server.root / "file").write_bytes(bytes(700))
    with udp() as sock:

        def said(packet: bytes, answer: bytes) -> None:
            """Send, and wait for the answer; what is repeated meanwhile is let go by."""
            sock.sendto(packet, box.server.address)
            while sock.recv(600) != answer:
                pass

        said(rrq("uploads/up", opcode=2), ack(0))
        said(b"\0\3\0\1" + b"u" * 512, ack(1))
        said(rrq("file"), b"\0\3\0\1" + bytes(512))
        said(ack(1), b"\0\3\0\2" + bytes(188))
        said(b"\0\3\0\2end", ack(2))
        sock.sendto(ack(2), box.server.address)
    assert box.stored()["up"] == b"u" * 512 + b"end"


def test_whoever_could_be_forged_uploads_nothing_through_the_single_port(open_box: OpenBox) -> None:
    box = open_box(single_port=True)
    with pytest.raises(RefusedError) as refusal:
        put(box.server.address, "uploads/f", b"x")
    assert refusal.value.code == 2
    assert box.stored() == {}
