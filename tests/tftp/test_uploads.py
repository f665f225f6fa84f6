"""uploads: what ends a write, drains, caps and records."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

import pytest

from appliance import wire as control
from appliance.custody import wire
from tests.tftp.client import Put, RefusedError, ack, fetch, put, rrq, udp
from tests.tftp.custodian import Custodian
from tests.tftp.server import until
from tests.tftp.uploading import Box, under_way

OpenBox = Callable[..., Box]


def test_an_error_of_the_client_ends_it_and_leaves_nothing(box: Box) -> None:
    upload = under_way(box)
    with upload.sock as sock:
        sock.sendto(b"\0\5\0\0stop\0", upload.tid)
        until(lambda: "Abort" in box.custodian.kinds(), "the abort")
    assert os.listdir(box.custodian.folder) == []
    until(lambda: box.server.lines("upload"), "the record")
    assert 'outcome="aborted by the client"' in box.server.first("upload")


def test_a_silent_client_is_given_up(open_box: OpenBox) -> None:
    box = open_box(give_up_after=2.0)
    upload = under_way(box, utimeout=100_000)
    with upload.sock:
        until(lambda: "Abort" in box.custodian.kinds(), "the abort")
    assert os.listdir(box.custodian.folder) == []
    assert 'outcome="timed out"' in box.server.first("upload")
    assert 1 <= int(box.server.first("upload").split("retransmits=")[1].split()[0]) <= 6


def test_a_block_longer_than_agreed_ends_it(box: Box) -> None:
    upload = under_way(box)
    with upload.sock as sock:
        sock.sendto(b"\0\3\0\2" + bytes(513), upload.tid)
        with pytest.raises(RefusedError, match="4 Block is longer than agreed"):
            upload._receive(60)
    until(lambda: "Abort" in box.custodian.kinds(), "the abort")


def test_a_closed_port_of_the_client_ends_it(box: Box) -> None:
    upload = under_way(box, utimeout=50_000)
    upload.sock.close()
    until(lambda: "Abort" in box.custodian.kinds(), "the abort")
    until(lambda: box.server.lines("upload"), "the record")
    assert 'outcome="client gone"' in box.server.first("upload")


def taken(box: Box) -> bool:
    """Whether an upload of f was taken now."""
    try:
        put(box.server.address, "f", b"content")
    except RefusedError:
        return False
    return True


def test_the_end_of_the_custodian_ends_uploads_and_a_new_one_goes_on(box: Box) -> None:
    upload = under_way(box)
    with upload.sock:
        box.custodian.stop()
        with pytest.raises(RefusedError, match="0 Upload could not be stored"):
            upload._receive(60)
    with pytest.raises(RefusedError, match="0 Uploads are not possible right now"):
        put(box.server.address, "f", b"x")
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    box.server.tell(control.Link(0), theirs.fileno())
    theirs.close()
    box.custodian = Custodian(ours, box.custodian.folder)
    until(lambda: taken(box), "a request behind the new link")  # which may come behind some of them
    until(lambda: box.stored() == {"f": b"content"}, "the upload")
    assert len([line for line in box.server.log.read_text().splitlines() if ": the custodian is gone" in line]) == 1


def test_a_custodian_that_speaks_nonsense_loses_the_link_and_nothing_else(box: Box) -> None:
    upload = under_way(box)
    with upload.sock:
        box.custodian.link.send(b"?")
        with pytest.raises(RefusedError, match="0 Upload could not be stored"):
            upload._receive(60)
    assert box.server.alive()


def test_draining_finishes_what_runs(box: Box) -> None:
    upload = under_way(box)
    with upload.sock:
        box.server.tell(control.Drain(10_000))
        for block in range(2, 11):
            upload.send(block)
            assert upload._receive(60) == ack(block)
        until(lambda: not box.server.alive(), "the end")
    assert box.stored() == {"f": bytes(5000)}


def test_draining_ends_at_its_deadline_and_leaves_nothing(box: Box) -> None:
    upload = under_way(box)
    with upload.sock:
        box.server.tell(control.Drain(50))
        with pytest.raises(RefusedError, match="0 Server is stopping"):
            upload._receive(60)
    until(lambda: not box.server.alive(), "the end")
    until(lambda: "Abort" in box.custodian.kinds(), "the abort")


def test_one_line_and_the_counters_tell_of_an_upload(box: Box) -> None:
    put(box.server.address, "uploads/f", bytes(1000), {"blksize": 600, "windowsize": 4})
    until(lambda: box.server.lines("upload"), "the record")
    line = box.server.only("upload")
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


@pytest.mark.parametrize("refused", [None, wire.Reserve, wire.Commit])
def test_an_upload_that_is_over_is_not_waited_for_as_long_as_the_link_lives(box: Box, refused: type | None) -> None:
    """Each one kept 2.6 KiB in the worker for ever, stored or refused; a soak found it."""

    def script(message: wire.FromWorker) -> bool:
        if refused is not None and isinstance(message, refused):
            box.custodian.say(wire.Refused(message.id, wire.Reason.QUOTA))
        return refused is not None and isinstance(message, refused)

    box.custodian.script = script
    for number in range(5):
        try:
            put(box.server.address, f"f{number}", b"content")
        except RefusedError:
            assert refused
    until(lambda: len(box.server.lines("upload")) == 5, "the records")
    box.custodian.stop()
    until(lambda: box.server.lines("the custodian is gone"), "the end of the link is heard")
    assert "lost=0" in box.server.first("the custodian is gone")


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


def test_a_forged_request_does_not_take_the_blocks_of_a_running_upload_through_the_single_port(
    open_box: OpenBox,
) -> None:
    box = open_box(single_port=True, allow=("127.0.0.0/8",))
    upload = under_way(box)
    with upload.sock as sock:
        for block in range(2, 11):
            sock.sendto(rrq(f"uploads/forged{block}", opcode=2), box.server.address)
            upload.send(block)
            assert upload._receive(60) == ack(block)
        put(box.server.address, "uploads/next", b"at once", sock=sock)  # the old one is stored
    assert box.stored() == {"f": bytes(5000), "next": b"at once"}


def test_a_silent_upload_gives_way_to_the_next_from_its_port_through_the_single_port(open_box: OpenBox) -> None:
    box = open_box(single_port=True, allow=("127.0.0.0/8",))
    upload = under_way(box, timeout=1)
    with upload.sock as sock:

        def answer() -> bytes:
            sock.sendto(rrq("uploads/next", opcode=2), box.server.address)
            return sock.recv(600)

        until(lambda: answer() == ack(0), "the beginning of the next")  # what the old one repeats is let go by
        until(lambda: box.hidden() == [], "the end of the old one")
        sock.sendto(b"\0\5\0\0enough\0", box.server.address)
        until(lambda: box.server.counters["active"] == 0, "the end")
