"""Each fault of pyftpdlib 2.2.0 that was seen on the wire, named, and absent here. (AUTH TLS: there is no TLS yet.)"""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path

import pytest

from tests.ftp.serving import Server, read_all, server, until


def test_retr_of_a_fifo_blocks_nobody(served: Server) -> None:
    os.mkfifo(served.root / "fifo")
    with served.raw() as raw:
        raw.ask("TYPE I")
        raw.passive()
        for line in ("RETR fifo", "SIZE fifo", "MLST fifo", "CWD fifo", "LIST fifo"):
            assert raw.ask(line).startswith("550"), line
        assert b"fifo" not in raw.get("LIST") and b"fifo" not in raw.get("MLSD") and b"fifo" not in raw.get("NLST")


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mknod")
def test_retr_of_a_device_is_refused(served: Server) -> None:
    os.mknod(served.root / "zero", 0o20666, os.makedev(1, 5))
    with served.raw() as raw:
        raw.passive()
        assert raw.ask("RETR zero").startswith("550")
        assert b"zero" not in raw.get("LIST")


def test_auth_tls_is_not_understood_and_injects_nothing(served: Server) -> None:
    with served.raw(log_in=False) as raw:
        raw.sock.sendall(b"AUTH TLS\r\nUSER anonymous\r\nPASS x\r\n")
        assert [raw.reply()[:3] for _ in range(3)] == ["500", "331", "230"]


def test_an_upload_whose_data_connection_is_reset_does_not_end_with_226(boxed: Server) -> None:
    with boxed.raw() as raw:
        raw.ask("TYPE I")
        data = raw.passive()
        assert raw.ask("STOR incoming/partial").startswith("150")
        data.sendall(b"x" * 100_000)
        data.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        data.close()
        assert raw.reply().startswith("426")
    until(lambda: os.listdir(boxed.box) == [])


def test_retr_without_pasv_or_port_does_not_hang(served: Server) -> None:
    with served.raw() as raw:
        assert raw.ask("RETR a.txt").startswith("425")


def test_an_ipv4_client_of_a_dual_stack_listener_may_ask_epsv_1(tree: Path) -> None:
    with server(tree, family=socket.AF_INET6, host="::") as running:
        running.host = "127.0.0.1"
        with running.raw() as raw:
            assert raw.ask("EPSV 1").startswith("229")


def test_pasv_over_ipv6_tells_no_ipv6_address(tree: Path) -> None:
    with server(tree, family=socket.AF_INET6, host="::1") as running, running.raw() as raw:
        assert raw.ask("PASV").startswith("522")


def test_type_a_n_is_accepted(served: Server) -> None:
    with served.raw() as raw:
        assert raw.ask("TYPE A N").startswith("200")


def test_rest_1_0_is_not_ten(served: Server) -> None:
    with served.raw() as raw:
        assert raw.ask("REST 1_0").startswith("501")


def test_quit_during_a_transfer_is_221_after_226(served: Server) -> None:
    with served.raw() as raw:
        raw.ask("TYPE I")
        data = raw.passive()
        raw.sock.sendall(b"RETR big\r\nQUIT\r\n")
        assert raw.reply().startswith("150")
        assert read_all(data) == (served.root / "big").read_bytes()
        assert [raw.reply()[:3], raw.reply()[:3]] == ["226", "221"]


def test_user_ftp_is_an_alias_of_anonymous(served: Server) -> None:
    with served.raw(log_in=False) as raw:
        raw.ask("USER ftp")
        assert raw.ask("PASS x").startswith("230")


def test_no_version_stands_in_the_banner(served: Server) -> None:
    with served.raw(log_in=False) as raw:
        assert not any(character.isdigit() for character in raw.greeting[3:])


def test_existing_files_are_not_overwritten_appended_or_resumed(boxed: Server) -> None:
    (boxed.box / "kept").write_bytes(b"kept")
    with boxed.raw() as raw:
        raw.ask("TYPE I")
        raw.passive()
        assert raw.ask("STOR incoming/kept").startswith("553")
        assert raw.ask("APPE incoming/kept").startswith("550")
        raw.ask("REST 2")
        assert raw.ask("STOR incoming/kept").startswith("501")
    assert (boxed.box / "kept").read_bytes() == b"kept"


@pytest.mark.parametrize("name", [b".dot", b"-dash", b"caf\xe9", "a\u0085b".encode()])
def test_hostile_upload_names_are_not_stored(boxed: Server, name: bytes) -> None:
    with boxed.raw() as raw:
        raw.passive()
        assert raw.ask(b"STOR incoming/" + name).startswith("553")
    assert os.listdir(boxed.box) == []


def test_a_nul_in_a_path_does_not_drop_the_session(served: Server) -> None:
    with served.raw() as raw:
        assert raw.ask(b"RETR a\x00b").startswith("501")
        assert raw.ask("NOOP").startswith("200")


def test_account_names_do_not_stand_in_list(served: Server) -> None:
    with served.raw() as raw:
        assert b"root" not in raw.get("LIST")


def test_a_site_to_site_upload_of_another_host_is_not_accepted(boxed: Server) -> None:
    with boxed.raw() as raw:
        assert raw.ask("PORT 192,0,2,1,200,1").startswith("501")
        assert raw.ask("STOR incoming/x").startswith("425")
