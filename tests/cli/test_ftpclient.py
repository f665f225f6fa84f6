from __future__ import annotations

import io
import random
import socket
import threading
from pathlib import Path

import pytest

from appliance.cli.ftpclient import FtpClient
from appliance.cli.transfer import Local, LocalError, TransferError
from appliance.cli.urls import Target
from tests.cli.servers import ftp_server, scripted_ftp

GREETING = {b"": b"220 hello\r\n", b"USER": b"230 in\r\n", b"TYPE": b"200 ok\r\n", b"QUIT": b"221 bye\r\n"}


def target(port: int, name: bytes = b"x", host: str = "127.0.0.1") -> Target:
    return Target("ftp", host, port, name)


def ignore(_count: int, _size: int | None) -> None:
    pass


def fetch(port: int, name: bytes = b"x", timeout: float = 10.0, host: str = "127.0.0.1") -> bytes:
    sink = io.BytesIO()
    FtpClient(timeout).fetch(target(port, name, host), Local(sink), ignore)
    return sink.getvalue()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("size", [0, 1, 1 << 20])
def test_a_file_comes_back_byte_for_byte(tmp_path: Path, host: str, size: int) -> None:
    content = random.Random(size).randbytes(size)
    (tmp_path / "x").write_bytes(content)
    sink, seen = io.BytesIO(), [(0, size)]
    with ftp_server(tmp_path, host=host) as port:
        moving = FtpClient(10.0).fetch(target(port, host=host), Local(sink), lambda *step: seen.append(step))
    assert sink.getvalue() == content
    assert (moving.bytes, moving.options) == (size, {"type": "I", "passive": "EPSV"})
    assert seen[-1] == (size, size)


def test_a_server_without_epsv_is_read_by_pasv(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"old")
    with ftp_server(tmp_path, epsv=False) as port:
        found = FtpClient(10.0).probe(target(port))
        assert fetch(port) == b"old"
    assert found.options == {"type": "I", "passive": "PASV"}


def test_without_epsv_nothing_is_tried_over_ipv6(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"old")
    with (
        ftp_server(tmp_path, host="::1", epsv=False) as port,
        pytest.raises(TransferError, match="the server refuses: 5"),
    ):
        fetch(port, host="::1")


def test_a_file_is_sent_byte_for_byte(tmp_path: Path) -> None:
    content = random.Random(2).randbytes(700_000)
    with ftp_server(tmp_path) as port:
        moving = FtpClient(10.0).send(target(port, b"new"), Local(io.BytesIO(content)), len(content), ignore)
    assert (tmp_path / "new").read_bytes() == content
    assert moving.bytes == len(content)


def test_a_probe_tells_size_and_time_without_fetching(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bytes(10 << 20))
    with ftp_server(tmp_path) as port:
        found = FtpClient(10.0).probe(target(port))
    assert found.size == 10 << 20
    assert found.first_byte_ms is not None and 0 < found.first_byte_ms < 10000


@pytest.mark.parametrize("name", [b"", b"sub/"])
def test_a_folder_can_be_probed(tmp_path: Path, name: bytes) -> None:
    (tmp_path / "sub").mkdir()
    with ftp_server(tmp_path) as port:
        found = FtpClient(10.0).probe(target(port, name))
    assert (found.size, found.first_byte_ms, found.options) == (None, None, {})


def test_the_words_of_a_refusal_are_told_and_made_harmless() -> None:
    with (
        scripted_ftp({**GREETING, b"USER": b"530 not\x1b[2J you\r\n"}) as port,
        pytest.raises(TransferError) as refused,
    ):
        fetch(port)
    assert str(refused.value) == "the server refuses: 530 not\\x1b[2J you"
    assert refused.value.reached


def test_a_missing_file_is_a_refusal(tmp_path: Path) -> None:
    with ftp_server(tmp_path) as port, pytest.raises(TransferError, match="the server refuses: 550"):
        fetch(port, b"missing")


def test_a_closed_port_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(TransferError, match=f"nothing listens on 127.0.0.1 port {port}") as refused:
        fetch(port)
    assert not refused.value.reached


def test_a_host_that_does_not_exist_is_told() -> None:
    with pytest.raises(TransferError, match=r"cannot talk to host\.invalid: ") as refused:
        fetch(21, host="host.invalid")
    assert not refused.value.reached


def test_silence_is_bounded() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute, pytest.raises(TransferError, match=r"silence for 0\.2 s"):
        fetch(mute.getsockname()[1], timeout=0.2)


def test_a_connection_that_is_closed_in_the_middle_is_told() -> None:
    with scripted_ftp(GREETING) as port, pytest.raises(TransferError, match="the server closed the connection"):
        fetch(port)  # SIZE is not in the script


@pytest.mark.parametrize("reply", [b"213 many\r\n", b"\xff\xfe\r\n", b"999\r\n", b"x" * 9000 + b"\r\n"])
def test_a_reply_that_is_nonsense_is_a_failure(reply: bytes) -> None:
    with scripted_ftp({**GREETING, b"SIZE": reply}) as port, pytest.raises(TransferError):
        fetch(port)


def test_fewer_bytes_than_announced_are_a_failure() -> None:
    with socket.create_server(("127.0.0.1", 0)) as data:
        data.settimeout(10)
        script = {
            **GREETING,
            b"SIZE": b"213 100\r\n",
            b"EPSV": b"229 (|||%d|)\r\n" % data.getsockname()[1],
            b"RETR": b"150 comes\r\n226 done\r\n",
        }
        data.listen()
        with scripted_ftp(script) as port, pytest.raises(TransferError, match="0 bytes came where 100 were announced"):
            _serve_nothing(data, port)


def _serve_nothing(data: socket.socket, port: int) -> None:
    thread = threading.Thread(target=lambda: data.accept()[0].close())
    thread.start()
    try:
        fetch(port)
    finally:
        thread.join(20)


def test_an_upload_that_the_server_stops_tells_its_reason() -> None:
    with socket.create_server(("127.0.0.1", 0)) as data:
        data.settimeout(10)
        script = {
            **GREETING,
            b"EPSV": b"229 (|||%d|)\r\n" % data.getsockname()[1],
            b"STOR": b"150 go\r\n552 the drop box is full\r\n",
        }
        thread = threading.Thread(target=lambda: data.accept()[0].close())
        thread.start()
        with scripted_ftp(script) as port, pytest.raises(TransferError, match="refuses: 552 the drop box is full"):
            FtpClient(10.0).send(target(port), Local(io.BytesIO(bytes(32 << 20))), 32 << 20, ignore)
        thread.join(20)


def test_our_full_disk_is_our_error(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bytes(1000))
    with (
        ftp_server(tmp_path) as port,
        open("/dev/full", "wb", buffering=0) as full,
        pytest.raises(LocalError, match="No space left on device"),
    ):
        FtpClient(10.0).fetch(target(port), Local(full), ignore)


def test_names_that_are_no_utf8_go_out_as_they_are(tmp_path: Path) -> None:
    heard = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as lines:
                connection.sendall(GREETING[b""])
                for line in lines:
                    heard.append(line)
                    connection.sendall(GREETING.get(line.split()[0], b"550 no\r\n"))

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(TransferError):
            fetch(listener.getsockname()[1], b"\xff")
        thread.join(20)
    assert b"SIZE \xff\r\n" in heard
    assert b"RETR \xff\r\n" not in heard  # EPSV was refused before


def test_an_upload_that_was_cut_is_a_failure_whatever_the_server_says() -> None:
    with socket.create_server(("127.0.0.1", 0)) as data:
        data.settimeout(10)
        script = {
            **GREETING,
            b"EPSV": b"229 (|||%d|)\r\n" % data.getsockname()[1],
            b"STOR": b"150 go\r\n226 fine\r\n",
        }
        thread = threading.Thread(target=lambda: data.accept()[0].close())
        thread.start()
        with scripted_ftp(script) as port, pytest.raises(TransferError, match="the server stopped reading"):
            FtpClient(10.0).send(target(port), Local(io.BytesIO(bytes(32 << 20))), 32 << 20, ignore)
        thread.join(20)


def test_a_file_of_ours_that_cannot_be_read_is_our_error(tmp_path: Path) -> None:
    with (
        ftp_server(tmp_path) as port,
        open("/proc/self/mem", "rb", buffering=0) as unreadable,
        pytest.raises(LocalError, match="cannot read the file: Input/output error"),
    ):
        FtpClient(10.0).send(target(port), Local(unreadable), None, ignore)
