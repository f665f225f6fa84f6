from __future__ import annotations

import io
import random
import socket
import struct
from pathlib import Path

import pytest

from appliance.cli import tftpclient
from appliance.cli.tftpclient import TftpClient
from appliance.cli.transfer import Local, LocalError, TransferError
from appliance.cli.urls import Target
from tests.cli.servers import Peer, scripted_tftp, tftp_server

RRQ, WRQ, DATA, ACK, ERROR, OACK = range(1, 7)


def target(port: int, name: bytes = b"x") -> Target:
    return Target("tftp", "127.0.0.1", port, name)


def ignore(_count: int, _size: int | None) -> None:
    pass


def fetch(port: int, name: bytes = b"x", timeout: float = 5.0, **more: int) -> bytes:
    sink = io.BytesIO()
    TftpClient(timeout, **more).fetch(target(port, name), Local(sink), ignore)
    return sink.getvalue()


def data(block: int, payload: bytes) -> bytes:
    return struct.pack("!HH", DATA, block) + payload


def opcode(packet: bytes) -> int:
    return int.from_bytes(packet[:2], "big")


@pytest.mark.parametrize("size", [0, 1, 1427, 1428, 1429, 2856, 100_000])
def test_a_file_comes_back_byte_for_byte(tmp_path: Path, size: int) -> None:
    content = random.Random(size).randbytes(size)
    (tmp_path / "x").write_bytes(content)
    sink, seen = io.BytesIO(), []
    with tftp_server(tmp_path) as port:
        moving = TftpClient(5.0).fetch(target(port), Local(sink), lambda *step: seen.append(step))
    assert sink.getvalue() == content
    assert moving.bytes == size
    assert moving.options == {"blksize": "1428", "tsize": str(size)}
    assert seen[-1] == (size, size)


def test_a_file_is_sent_byte_for_byte(tmp_path: Path) -> None:
    content = random.Random(1).randbytes(5000)
    with tftp_server(tmp_path) as port:
        moving = TftpClient(5.0, 512).send(target(port, b"new"), Local(io.BytesIO(content)), 5000, ignore)
    assert (tmp_path / "new").read_bytes() == content
    assert (moving.bytes, moving.options["blksize"]) == (5000, "512")


def test_a_source_of_unknown_size_is_sent_without_tsize() -> None:
    requests = []

    def script(sock: socket.socket, packet: bytes, peer: Peer) -> None:
        requests.append(packet)
        sock.sendto(struct.pack("!HH", ACK, 0 if opcode(packet) == WRQ else 1), peer)

    with scripted_tftp(script) as port:
        assert TftpClient(5.0).send(target(port), Local(io.BytesIO(b"abc")), None, ignore).options == {}
    assert requests == [b"\0\2x\0octet\0blksize\x001428\0", data(1, b"abc")]


def test_a_probe_tells_size_options_and_time_and_ends_the_transfer() -> None:
    heard = []

    def script(sock: socket.socket, packet: bytes, peer: Peer) -> None:
        heard.append(opcode(packet))
        if opcode(packet) == RRQ:
            sock.sendto(b"\0\6blksize\x001000\0tsize\x005000\0", peer)
        elif opcode(packet) == ACK:
            sock.sendto(data(1, bytes(1000)), peer)

    with scripted_tftp(script) as port:
        found = TftpClient(5.0).probe(target(port))
    assert (found.size, found.options) == (5000, {"blksize": "1000", "tsize": "5000"})
    assert found.first_byte_ms is not None and 0 < found.first_byte_ms < 5000
    assert heard == [RRQ, ACK, ERROR]


def test_a_server_without_options_can_be_probed_and_read() -> None:
    def script(sock: socket.socket, packet: bytes, peer: Peer) -> None:
        if opcode(packet) == RRQ:
            sock.sendto(data(1, b"old"), peer)

    with scripted_tftp(script) as port:
        found = TftpClient(5.0).probe(target(port))
        assert fetch(port) == b"old"
    assert (found.size, found.options) == (None, {})


def test_the_words_of_a_refusal_are_told_and_made_harmless() -> None:
    def script(sock: socket.socket, packet: bytes, peer: Peer) -> None:
        if opcode(packet) == RRQ:
            sock.sendto(struct.pack("!HH", ERROR, 2) + b"go\x1b[2Jaway\0", peer)

    with scripted_tftp(script) as port, pytest.raises(TransferError) as refused:
        fetch(port)
    assert str(refused.value) == "the server refuses: go\\x1b[2Jaway (error 2)"
    assert refused.value.reached


def test_a_missing_file_is_a_refusal(tmp_path: Path) -> None:
    with tftp_server(tmp_path) as port, pytest.raises(TransferError, match=r"refuses: File not found \(error 1\)"):
        fetch(port, b"missing")


def test_a_closed_port_is_told_at_once() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    with pytest.raises(TransferError, match=f"nothing listens on 127.0.0.1:{port}") as refused:
        fetch(port, timeout=60)
    assert not refused.value.reached


def test_silence_ends_after_three_tries() -> None:
    requests = []
    with (
        scripted_tftp(lambda _sock, packet, _peer: requests.append(packet)) as port,
        pytest.raises(TransferError, match="no answer") as refused,
    ):
        fetch(port, timeout=0.1)
    assert len(requests) == 3
    assert not refused.value.reached


def test_silence_in_the_middle_still_counts_as_reached() -> None:
    def script(sock: socket.socket, packet: bytes, peer: Peer) -> None:
        if opcode(packet) == RRQ:
            sock.sendto(data(1, bytes(512)), peer)

    with scripted_tftp(script) as port, pytest.raises(TransferError, match="no answer") as refused:
        fetch(port, timeout=0.5)
    assert refused.value.reached


def test_a_stranger_on_another_port_gets_error_5_and_changes_nothing() -> None:
    answers = []

    def script(sock: socket.socket, packet: bytes, peer: Peer) -> None:
        if opcode(packet) == RRQ:
            sock.sendto(data(1, b"a" * 512), peer)
        elif packet == struct.pack("!HH", ACK, 1):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
                stranger.settimeout(10)
                stranger.sendto(data(2, b"evil"), peer)
                answers.append(stranger.recv(100))
            sock.sendto(data(2, b"good"), peer)

    with scripted_tftp(script) as port:
        assert fetch(port) == b"a" * 512 + b"good"
    assert answers[0][:4] == struct.pack("!HH", ERROR, 5)


def test_another_address_is_not_the_server() -> None:
    def script(sock: socket.socket, packet: bytes, peer: Peer) -> None:
        if opcode(packet) == RRQ:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
                stranger.bind(("127.0.0.2", 0))
                stranger.sendto(data(1, b"evil"), peer)
            sock.sendto(data(1, b"good"), peer)

    with scripted_tftp(script) as port:
        assert fetch(port) == b"good"


def test_a_repeated_oack_is_acknowledged_again() -> None:
    acks = []

    def script(sock: socket.socket, packet: bytes, peer: Peer) -> None:
        oack = b"\0\6tsize\x004\0"
        if opcode(packet) == RRQ:
            sock.sendto(oack, peer)
        elif opcode(packet) == ACK:
            acks.append(packet[2:])
            sock.sendto(oack if len(acks) == 1 else data(1, b"late"), peer)

    with scripted_tftp(script) as port:
        assert fetch(port) == b"late"
    assert acks[:2] == [b"\0\0", b"\0\0"]


def test_repeated_blocks_are_counted_once() -> None:
    def script(sock: socket.socket, packet: bytes, peer: Peer) -> None:
        if opcode(packet) == RRQ:
            sock.sendto(data(1, b"a" * 512), peer)
        elif packet == struct.pack("!HH", ACK, 1):
            sock.sendto(data(1, b"a" * 512), peer)
            sock.sendto(data(2, b"b"), peer)

    with scripted_tftp(script) as port:
        assert fetch(port) == b"a" * 512 + b"b"


def test_a_transfer_past_block_65535_is_whole() -> None:
    blocks = 65600

    def script(sock: socket.socket, packet: bytes, peer: Peer) -> None:
        nonlocal sent
        if opcode(packet) == RRQ:
            sock.sendto(b"\0\6blksize\x008\0", peer)
        elif opcode(packet) == ACK and packet[2:] == (sent & 0xFFFF).to_bytes(2, "big"):
            sent += 1
            sock.sendto(data(sent & 0xFFFF, sent.to_bytes(8, "big") if sent < blocks else b""), peer)

    sent = 0
    with scripted_tftp(script) as port:
        content = fetch(port, block_size=8)
    assert content == b"".join(number.to_bytes(8, "big") for number in range(1, blocks))


def test_fewer_bytes_than_announced_are_a_failure() -> None:
    def script(sock: socket.socket, packet: bytes, peer: Peer) -> None:
        if opcode(packet) == RRQ:
            sock.sendto(b"\0\6tsize\x00100\0", peer)
        elif packet == struct.pack("!HH", ACK, 0):
            sock.sendto(data(1, b"short"), peer)

    with scripted_tftp(script) as port, pytest.raises(TransferError, match="5 bytes came where 100 were announced"):
        fetch(port)


def test_a_larger_block_than_asked_is_refused() -> None:
    def script(sock: socket.socket, packet: bytes, peer: Peer) -> None:
        if opcode(packet) == RRQ:
            sock.sendto(b"\0\6blksize\x009000\0", peer)

    with scripted_tftp(script) as port, pytest.raises(TransferError, match="blksize 9000 to 1428"):
        fetch(port)


def test_our_full_disk_is_our_error_and_the_server_is_told() -> None:
    heard = []

    def script(sock: socket.socket, packet: bytes, peer: Peer) -> None:
        heard.append(opcode(packet))
        if opcode(packet) == RRQ:
            sock.sendto(data(1, bytes(512)), peer)

    with (
        scripted_tftp(script) as port,
        open("/dev/full", "wb", buffering=0) as full,
        pytest.raises(LocalError, match="cannot write the file: No space left on device"),
    ):
        TftpClient(5.0).fetch(target(port), Local(full), ignore)
    assert heard[0] == RRQ
    assert heard[-1] == ERROR


def test_no_name_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(TransferError, match="name a file"):
        fetch(1, b"")


def test_ipv6_is_refused_with_the_reason() -> None:
    with pytest.raises(TransferError, match="cannot reach ::1: the TFTP client speaks IPv4 only"):
        tftpclient.resolve("::1")


def test_a_host_that_does_not_exist_is_refused() -> None:
    with pytest.raises(TransferError, match="no IPv4 address is known"):
        tftpclient.resolve("host.invalid")


def test_names_that_are_no_ascii_go_out_as_they_are() -> None:
    heard = []

    def script(sock: socket.socket, packet: bytes, peer: Peer) -> None:
        heard.append(packet)
        sock.sendto(data(1, b""), peer)

    with scripted_tftp(script) as port:
        fetch(port, b"\xff\xc3\xbc")
    assert heard[0].startswith(b"\0\1\xff\xc3\xbc\0octet\0")


def test_whatever_a_server_answers_only_transfer_error_comes_out() -> None:
    chance = random.Random(7)
    seeds = [
        b"\0\6blksize\x00abc\0",
        b"\0\6tsize\0",
        b"\0\6\xff\0\xff\0",
        b"\0\3\0",
        b"\0\4\0\0",
        b"\0\5\0",
        b"",
        b"\0\1x\0octet\0",
    ]

    def script(sock: socket.socket, packet: bytes, peer: Peer) -> None:
        if opcode(packet) == RRQ:
            base = bytearray(chance.choice(seeds) + chance.randbytes(chance.randrange(4)))
            for _ in range(chance.randrange(3)):
                if base:
                    base[chance.randrange(len(base))] = chance.randrange(256)
            sock.sendto(base, peer)

    with scripted_tftp(script) as port:
        for _ in range(200):
            try:
                fetch(port, timeout=0.05)
            except TransferError:
                pass
