"""desk and look-up of uploads: which requests are asked about, repeats, and reading back."""

from __future__ import annotations

import os
import queue
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace

import pytest

from appliance.custody import wire
from appliance.settings.tftp import TftpNetwork, TftpRemap, TftpUploads
from tests.tftp.client import Put, RefusedError, ack, fetch, put, rrq, udp
from tests.tftp.server import SETTINGS, Server, until
from tests.tftp.uploading import UPLOADS, Box, under_way

OpenBox = Callable[..., Box]


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


def test_foreign_ports_get_error_5_and_disturb_nothing(box: Box) -> None:
    upload = under_way(box)
    with upload.sock, udp() as stranger:
        for datagram in (upload.data(2), ack(2), b"\0\6windowsize\0009\0"):
            stranger.sendto(datagram, upload.tid)
            assert stranger.recv(600)[:4] == b"\0\5\0\5"
        stranger.sendto(b"\0\5\0\0stop\0", upload.tid)
        for block in range(2, 11):
            upload.send(block)
            assert upload._receive(60) == ack(block)
    assert box.stored() == {"f": bytes(5000)}


def test_garbage_from_the_client_itself_disturbs_nothing(box: Box) -> None:
    upload = under_way(box)
    with upload.sock as sock:
        for datagram in (b"", b"\0", b"\0\3\0", ack(1), rrq("x"), b"\0\6a\0b\0", b"\xff" * 700, upload.data(9)):
            sock.sendto(datagram, upload.tid)
        for block in range(2, 11):
            upload.send(block)
            while upload._receive(60) != ack(block):
                pass
    assert box.stored() == {"f": bytes(5000)}


def test_repeats_of_a_request_are_one_upload_also_while_the_custodian_is_asked(box: Box) -> None:
    asked: queue.Queue[wire.FromWorker] = queue.Queue()
    box.custodian.script = lambda message: isinstance(message, wire.Ask) and not asked.put(message)
    upload = Put(box.server.address, "f", b"content", {"timeout": 2})
    with upload.sock as sock:
        for _ in range(5):
            sock.sendto(upload.request, box.server.address)
        message = asked.get(timeout=60)
        put_seen_off(box)
        box.custodian.answer(message)
        assert upload._receive(60)[:2] == b"\0\6"
        for _ in range(5):
            sock.sendto(upload.request, box.server.address)
        upload.agreed = {"timeout": "2"}
        upload.send(1)
        assert upload._receive(60) == ack(1)
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
    with first.sock as sock, udp() as flood, ExitStack() as others:
        sock.sendto(first.request, box.server.address)
        until(lambda: len(asked) == 1, "the first question")
        for number in range(300):
            forged = others.enter_context(udp())  # left open, or the next might get the same port
            forged.sendto(rrq(f"n{number}", opcode=2), box.server.address)
        until(lambda: len(asked) > 256, "the other questions")
        put_seen_off(box)
        box.custodian.answer(asked[0])
        flood.sendto(rrq("last", opcode=2), box.server.address)
        until(lambda: asked[-1].name == b"last", "the last question")  # type: ignore[union-attr]
        box.custodian.answer(asked[-1])
        flood.settimeout(60)
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
                assert upload._receive(60) == ack(block)
        until(lambda: box.server.counters["active"] == 0, "the end")
        Put(box.server.address, "c", b"x", sock=third)._run()
    assert sorted(box.stored()) == ["a", "b", "c", "d"]


def test_uploads_end_when_the_memory_of_the_settings_is_used_up(open_box: OpenBox) -> None:
    box = open_box(limits=replace(SETTINGS.limits, memory=1 << 20, per_client=1000))
    answers = []
    with ExitStack() as running:
        for number in range(80):
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


def test_a_flood_of_questions_of_one_client_costs_no_other_client_its_own(box: Box) -> None:
    asked: list[wire.FromWorker] = []
    box.custodian.script = lambda message: isinstance(message, wire.Ask) and not asked.append(message)
    with udp("127.0.0.5") as good:
        good.sendto(rrq("good", opcode=2), box.server.address)
        until(lambda: len(asked) == 1, "its question")
        for number in range(300):
            with udp() as flood:
                flood.sendto(rrq(f"n{number}", opcode=2), box.server.address)
        until(lambda: len(asked) > 256, "the other questions")
        put_seen_off(box)
        box.custodian.answer(asked[0])
        assert good.recv(600) == ack(0)
