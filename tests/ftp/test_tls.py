"""ftp.tls and ftp.secured with a real worker: what is under TLS, what is refused, and what is not let in."""

from __future__ import annotations

import contextlib
import ftplib
import io
import os
import socket
import ssl
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.ftp.worker import _is_implicit
from appliance.settings.ftp import FtpSite
from tests.ftp.conftest import BIG
from tests.ftp.serving import SECONDS, Server, listener, read_all, replace, server, settings, store, until
from tests.ftp.tlskit import Client, TlsRaw, certificate, client, fetched, refusal, secured, trusting

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
Pair = tuple[Path, Path]


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def safe(tree: Path, pair: Pair) -> Iterator[Server]:
    """A worker with a drop box where TLS is required."""
    config = secured(pair, mode="required", incoming={"enabled": True}, limits={"login_timeout": 3.0})
    with server(tree, config) as running:
        yield running
        assert running.worker.counters()["crashes"] == 0, running.worker.log_text()


@pytest.fixture
def either(tree: Path, pair: Pair) -> Iterator[Server]:
    """A worker where TLS is optional."""
    with server(tree, secured(pair)) as running:
        yield running
        assert running.worker.counters()["crashes"] == 0, running.worker.log_text()


def raw(running: Server) -> TlsRaw:
    return TlsRaw(running.host, running.port, log_in=False)


# --- what works


@pytest.mark.parametrize("version", [V12, V13], ids=["1.2", "1.3"])
def test_everything_that_a_session_does_works_under_tls(safe: Server, pair: Pair, version: ssl.TLSVersion) -> None:
    made = client(safe, trusting(pair, version))
    content = (safe.root / "big").read_bytes()
    assert fetched(made, "RETR big") == content
    assert fetched(made, "RETR empty") == b""
    got: list[bytes] = []
    made.retrbinary("RETR big", got.append, rest=1_234_567)
    assert b"".join(got) == content[1_234_567:]
    lines: list[str] = []
    for command in ("LIST", "NLST", "MLSD", "RETR a.txt"):  # TYPE A
        made.retrlines(command, lines.append)
    assert "three" in lines and "a.txt" in lines
    made.voidcmd("TYPE I")
    upload = os.urandom(9_000_001)
    assert store(made, "incoming/up", upload).startswith("226")
    assert (safe.box / "up").read_bytes() == upload
    assert store(made, "incoming/none", b"").startswith("226")
    made.sendcmd("TYPE A")
    with made.transfercmd("STOR incoming/text") as data:
        data.sendall(b"one\r\ntwo\r\n" * 40_000)
        data.unwrap()  # type: ignore[attr-defined]
    assert made.voidresp().startswith("226")
    assert (safe.box / "text").read_bytes() == b"one\ntwo\n" * 40_000
    assert made.quit().startswith("221")


def test_active_mode_works_under_tls_and_the_server_is_the_tls_server(safe: Server, pair: Pair) -> None:
    made = client(safe, trusting(pair))
    made.set_pasv(False)
    assert fetched(made, "RETR big") == (safe.root / "big").read_bytes()
    assert store(made, "incoming/active", b"x" * 100_000).startswith("226")
    assert safe.worker.parent is not None
    assert safe.worker.parent.asked == 2


def test_a_listener_for_ftps_begins_with_tls_and_its_data_is_private(tree: Path, pair: Pair) -> None:
    config = secured(pair, mode="required")
    config = replace(config, tls=replace(config.tls, implicit_listen=("127.0.0.1:0",)), listen=())
    with server(tree, config) as running:
        made = client(running, trusting(pair), private=False, implicit=True)
        assert made.welcome.startswith("220")
        made._prot_p = True  # type: ignore[attr-defined]  # without asking: that is where an implicit session begins
        assert fetched(made, "RETR big") == (tree / "big").read_bytes()
        assert made.sendcmd("PBSZ 0") == "200 PBSZ=0"
        with pytest.raises(ftplib.error_perm, match="503 TLS is on already"):
            made.sendcmd("AUTH TLS")
        assert running.worker.counters()["crashes"] == 0


def test_optional_serves_both_and_data_may_stay_in_the_clear(either: Server, pair: Pair) -> None:
    content = (either.root / "big").read_bytes()
    assert fetched(either.ftp(), "RETR big") == content
    made = client(either, trusting(pair), private=False)
    assert fetched(made, "RETR big") == content
    made.prot_p()
    assert fetched(made, "RETR big") == content
    made.prot_c()
    assert fetched(made, "RETR big") == content


def test_feat_lists_tls_only_where_it_is(either: Server, tree: Path) -> None:
    with raw(either) as one:
        assert {" AUTH TLS", " PBSZ", " PROT"} <= set(one.ask("FEAT").splitlines())
    with server(tree, settings()) as running, running.raw() as plain:
        said = plain.ask("FEAT")
        assert not any(word in said for word in ("AUTH", "PBSZ", "PROT"))
        assert plain.ask("PROT P").startswith("500")


def test_replies_to_the_verbs_of_tls(either: Server, pair: Pair) -> None:
    with raw(either) as one:
        assert one.ask("AUTH SSL").startswith("504")
        assert one.ask("PROT P").startswith("503")
        one.turn(trusting(pair))
        for line, code in {
            "PBSZ x": "501", "PBSZ 16384": "200", "PROT S": "536", "PROT E": "536", "PROT X": "504",
            "PROT P": "200", "CCC": "534", "AUTH TLS": "503",
        }.items():  # fmt: skip
            assert one.ask(line)[:3] == code, line


def test_prot_needs_pbsz_first(either: Server, pair: Pair) -> None:
    with raw(either) as one:
        one.turn(trusting(pair))
        assert one.ask("PROT P").startswith("503 Send PBSZ 0")


def test_auth_ends_a_log_in_of_before(either: Server, pair: Pair) -> None:
    with TlsRaw(either.host, either.port) as one:
        assert one.ask("PWD").startswith("257")
        one.turn(trusting(pair))
        assert one.ask("PWD").startswith("530")
        one.log_in()
        assert one.ask("PWD").startswith("257")


def test_abort_under_tls_ends_the_transfer_without_close_notify(safe: Server, pair: Pair) -> None:
    (safe.root / "huge").write_bytes(bytes(64 << 20))
    with raw(safe) as one:
        context = trusting(pair)
        one.turn(context)
        one.log_in()
        one.ask("TYPE I")
        data = one.passive()
        one.say("RETR huge")
        assert one.reply().startswith("150")
        sealed = context.wrap_socket(data, server_hostname="127.0.0.1", suppress_ragged_eofs=False)
        assert sealed.recv(1000)
        one.say("ABOR")
        assert one.reply().startswith("426")
        assert one.reply().startswith("226")
        with pytest.raises((ssl.SSLError, ConnectionResetError), match=r"(?i)eof|reset"):
            read_all(sealed)


def test_a_download_and_a_listing_end_with_close_notify(safe: Server, pair: Pair) -> None:
    with raw(safe) as one:
        context = trusting(pair)
        one.turn(context)
        one.log_in()
        one.ask("TYPE I")
        for command in ("RETR big", "LIST"):
            data = one.passive()
            assert one.ask(command).startswith("150")
            sealed = context.wrap_socket(data, server_hostname="127.0.0.1", suppress_ragged_eofs=False)
            assert read_all(sealed)
            assert one.reply().startswith("226")


def test_a_slow_reader_gets_every_byte_and_the_others_are_served_meanwhile(safe: Server, pair: Pair) -> None:
    content = os.urandom(6_000_000)
    (safe.root / "slow").write_bytes(content)
    slow, quick = client(safe, trusting(pair)), client(safe, trusting(pair))
    slow.voidcmd("TYPE I")
    data = slow.transfercmd("RETR slow")
    assert fetched(quick, "RETR big") == (safe.root / "big").read_bytes()
    assert read_all(data) == content
    assert slow.voidresp().startswith("226")


@pytest.mark.parametrize("implicit_first", [False, True])
def test_a_listener_is_known_by_its_port_whatever_its_place(pair: Pair, implicit_first: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        ports = [f"0.0.0.0:{sock.getsockname()[1]}" for sock in (one, two)]
        config = secured(pair, listen=(ports[0],), tls={"implicit_listen": (ports[1],)})
        socks = (two, one) if implicit_first else (one, two)  # systemd passes them in any order
        assert [_is_implicit(config, i, sock) for i, sock in enumerate(socks)] == [sock is two for sock in socks]
        picked = secured(pair, listen=("127.0.0.1:0",), tls={"implicit_listen": ("127.0.0.1:0",)})
        assert [_is_implicit(picked, i, sock) for i, sock in enumerate((one, two))] == [False, True]
        off = replace(config, tls=replace(config.tls, mode="off"))
        assert not _is_implicit(off, 1, two)


@pytest.mark.parametrize("mode", ["optional", "off"])
def test_the_listener_of_a_site_is_no_listener_for_ftps_because_of_its_place(pair: Pair, mode: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        ports = [f"127.0.0.1:{sock.getsockname()[1]}" for sock in (one, two)]
        site = FtpSite(listen=(ports[0],), implicit_listen=(ports[1],))
        config = secured(pair, mode=mode, sites=(site,))
        assert [_is_implicit(config, 1 + i, sock) for i, sock in enumerate((one, two))] == [False, mode != "off"]


def test_each_site_shows_its_own_certificate_by_its_address(tree: Path, pair: Pair, tmp_path: Path) -> None:
    other = certificate(tmp_path, "other")
    socks = [listener() for _ in range(3)]
    plain, implicit, common = (f"127.0.0.1:{sock.getsockname()[1]}" for sock in socks)
    site = FtpSite(
        (plain,), ("b.example.org",), "pub", implicit_listen=(implicit,), certificate=str(other[0]), key=str(other[1])
    )
    config = secured(pair, tls={"session_reuse": "required"}, sites=(site, FtpSite((common,), root="pub")))
    with server(tree, config, more=tuple(socks)) as running:
        ports = [sock.getsockname()[1] for sock in socks]
        for sock in socks:
            sock.close()
        for port, trusted, name in ((ports[0], other, "b.txt"), (ports[2], pair, "b.txt"), (0, pair, "pub/b.txt")):
            made = client(running, trusting(trusted), port=port)
            assert fetched(made, f"RETR {name}") == b"b\n"  # the data connection resumes the same context
        made = client(running, trusting(other), port=ports[1], implicit=True)
        assert fetched(made, "RETR b.txt") == b"b\n"
        with pytest.raises(ssl.SSLCertVerificationError):
            client(running, trusting(pair), port=ports[0])
        with raw(running) as one:  # HOST comes too late to change what was shown
            one.turn(trusting(pair))
            assert one.ask("HOST b.example.org").startswith("220")
            one.log_in()
        assert running.worker.counters()["crashes"] == 0


# --- required means required


def test_where_tls_is_required_nothing_happens_in_the_clear(safe: Server, pair: Pair) -> None:
    with raw(safe) as one:
        assert one.ask("USER anonymous").startswith("530")
        assert one.ask("PASS x").startswith("530")
        one.turn(trusting(pair))
        one.log_in(private=False)
        for command in ("LIST", "RETR big", "STOR incoming/x", "MLSD", "NLST"):
            assert one.ask("EPSV").startswith("229")
            assert one.ask(command).startswith("521"), command
        assert one.ask("PBSZ 0").startswith("200")
        assert one.ask("PROT C").startswith("534")


def test_a_data_connection_that_does_not_speak_tls_is_told_522(safe: Server, pair: Pair) -> None:
    with raw(safe) as one:
        one.turn(trusting(pair))
        one.log_in()
        data = one.passive()
        assert one.ask("RETR big").startswith("150")
        data.sendall(b"this is no handshake at all\r\n")
        assert one.reply().startswith("522 TLS negotiation failed")


@pytest.mark.parametrize("version", [V12, V13], ids=["1.2", "1.3"])
def test_required_reuse_takes_only_data_connections_that_resume(
    tree: Path, pair: Pair, version: ssl.TLSVersion
) -> None:
    config = secured(pair, mode="required", tls={"session_reuse": "required"})
    with server(tree, config) as running:
        made = client(running, trusting(pair, version))
        for _ in range(3):
            assert fetched(made, "RETR big") == (tree / "big").read_bytes()
        fresh = client(running, trusting(pair, version), resume=False)
        assert refusal(fresh, "RETR big").startswith("522 The data connection must resume")
        assert running.worker.counters()["crashes"] == 0


def test_another_workers_ticket_resumes_nothing(tree: Path, pair: Pair) -> None:
    config = secured(pair, mode="required", tls={"session_reuse": "required"})
    with server(tree, config) as running, server(tree, replace(config, passive_ports="19000-19039")) as other:
        context = trusting(pair)
        theirs = client(other, context)
        theirs.nlst()
        made = client(running, context)
        made.voidcmd("TYPE I")
        data, _size = ftplib.FTP.ntransfercmd(made, "RETR big")
        assert isinstance(theirs.sock, ssl.SSLSocket)
        sealed = context.wrap_socket(
            data, server_hostname="127.0.0.1", session=theirs.sock.session, suppress_ragged_eofs=False
        )
        with pytest.raises(OSError):  # noqa: PT011  reset or cut, whatever comes first
            read_all(sealed)
        assert made.getmultiline().startswith("522")


# --- handshakes


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1], ids=["1.0", "1.1"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_old_versions_are_refused(either: Server, version: ssl.TLSVersion) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    context.set_ciphers("ALL:@SECLEVEL=0")
    with raw(either) as one, pytest.raises(ssl.SSLError, match=r"(?i)protocol.version|unsupported protocol|handshake"):
        one.turn(context)
    until(lambda: "TLS handshake failed" in either.worker.log_text())


def test_a_cipher_without_forward_secrecy_is_refused(either: Server) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = V12
    context.set_ciphers("AES128-SHA:AES256-SHA:ECDHE+AES128+SHA")
    with raw(either) as one, pytest.raises(ssl.SSLError):
        one.turn(context)


@pytest.mark.parametrize("ahead", [b"USER anonymous\r\nPASS x\r\n", b"x", b"\r\n", b"\x16\x03\x01"])
def test_what_is_sent_ahead_of_the_handshake_ends_the_connection(either: Server, ahead: bytes) -> None:
    before = either.worker.counters()["dropped"]
    with raw(either) as one:
        one.sock.sendall(b"AUTH TLS\r\n" + ahead)
        assert one.closed()
    until(lambda: either.worker.counters()["dropped"] == before + 1)
    until(lambda: "commands were sent ahead of the TLS handshake" in either.worker.log_text())


def test_a_command_put_between_auth_and_the_handshake_never_runs(either: Server) -> None:
    with raw(either) as one:
        assert one.ask("AUTH TLS").startswith("234")
        one.sock.sendall(b"CLNT injected\r\n")
        got = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := one.sock.recv(4096):
                got += piece
        assert b"200" not in got  # an alert of TLS at most
    until(lambda: "TLS handshake failed" in either.worker.log_text())


def test_a_verb_of_http_drops_the_connection_under_tls_too(either: Server, pair: Pair) -> None:
    with raw(either) as one:
        one.turn(trusting(pair))
        one.say("GET / HTTP/1.1")
        assert one.closed()


def test_a_handshake_that_does_not_go_on_ends_with_the_time_to_log_in(safe: Server) -> None:
    with raw(safe) as one:
        assert one.ask("AUTH TLS").startswith("234")
        one.sock.sendall(b"\x16\x03\x01\x02")  # the beginning of a record
        assert one.closed()
    until(lambda: "no log-in in time" in safe.worker.log_text())


def test_slow_handshakes_delay_nobody(either: Server, pair: Pair) -> None:
    halves = [raw(either) for _ in range(50)]
    for one in halves:
        assert one.ask("AUTH TLS").startswith("234")
        one.sock.sendall(b"\x16\x03\x01\x02\x00\x01")
    assert fetched(client(either, trusting(pair)), "RETR a.txt").startswith(b"one")
    for one in halves:
        one.close()


def test_pipelined_commands_in_one_record_are_all_answered(either: Server, pair: Pair) -> None:
    with raw(either) as one:
        one.turn(trusting(pair))
        one.sock.sendall(b"".join(b"NOOP %04d\r\n" % i for i in range(1200)))  # just under one record
        assert [one.reply() for _ in range(1200)] == ["200 Ok.\r\n"] * 1200


def test_garbage_in_place_of_records_ends_only_that_session(either: Server, pair: Pair) -> None:
    with raw(either) as one:
        one.turn(trusting(pair))
        socket.socket.sendall(one.sock, os.urandom(500))
        assert one.closed()
    assert fetched(client(either, trusting(pair)), "RETR a.txt").startswith(b"one")


# --- uploads that are cut short


def begin(safe: Server, pair: Pair, name: str) -> tuple[Client, ssl.SSLSocket]:
    made = client(safe, trusting(pair))
    made.voidcmd("TYPE I")
    data = made.transfercmd(f"STOR incoming/{name}")
    assert isinstance(data, ssl.SSLSocket)
    data.sendall(b"x" * 300_000)
    return made, data


def test_an_upload_cut_by_a_forged_end_of_connection_is_never_226(safe: Server, pair: Pair) -> None:
    made, data = begin(safe, pair, "cut")
    socket.socket.shutdown(data, socket.SHUT_WR)  # a FIN without close_notify: anybody on the way can send one
    with pytest.raises(ftplib.error_temp, match=r"426 Data connection cut without close_notify; \d+ bytes are kept"):
        made.voidresp()
    data.close()
    until(lambda: 'result="cut without close_notify"' in safe.worker.log_text())  # no "Connection reset by peer"
    (hidden,) = os.listdir(safe.box)
    assert hidden.startswith(".up-")
    at = made.size("incoming/cut")
    assert at is not None and 0 < at <= 300_000
    assert made.storbinary("STOR incoming/cut", io.BytesIO(b"y" * 1000), rest=at).startswith("226")  # type: ignore[arg-type]
    content = (safe.box / "cut").read_bytes()
    assert content[at:] == b"y" * 1000 and len(content) == at + 1000


def test_an_upload_that_is_reset_is_never_226(safe: Server, pair: Pair) -> None:
    made, data = begin(safe, pair, "reset")
    data.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    data.close()
    with pytest.raises(ftplib.error_temp, match="426"):
        made.voidresp()
    made.close()
    until(lambda: os.listdir(safe.box) == [])


def test_an_upload_that_ends_with_close_notify_is_whole_and_answered_in_kind(safe: Server, pair: Pair) -> None:
    made, data = begin(safe, pair, "whole")
    data.unwrap()  # raises when the server does not say close_notify too
    data.close()
    assert made.voidresp().startswith("226")
    assert (safe.box / "whole").stat().st_size == 300_000


def test_an_upload_beyond_the_quota_is_refused_under_tls(tree: Path, pair: Pair) -> None:
    config = secured(pair, mode="required", incoming={"enabled": True, "max_size": 1 << 20})
    with server(tree, config) as running:
        made = client(running, trusting(pair))
        with pytest.raises((ftplib.error_perm, OSError)):
            store(made, "incoming/large", bytes(8 << 20))
        until(lambda: os.listdir(running.box) == [])
        assert store(client(running, trusting(pair)), "incoming/fits", bytes(1 << 20)).startswith("226")


def test_bytes_of_a_download_leave_the_machine_encrypted(safe: Server, pair: Pair) -> None:
    secret = b"SECRET" * 50_000
    (safe.root / "s").write_bytes(secret)
    with raw(safe) as one:
        context = trusting(pair)
        one.turn(context)
        one.log_in()
        for setup in ("TYPE I", "TYPE A"):
            one.ask(setup)
            data = one.passive()
            assert one.ask("RETR s").startswith("150")
            here, there = ssl.MemoryBIO(), ssl.MemoryBIO()
            side = context.wrap_bio(here, there, server_hostname="127.0.0.1")
            wire, got = b"", b""
            data.settimeout(SECONDS)
            while True:
                try:
                    if side.version() is None:
                        side.do_handshake()
                    if not (piece := side.read(1 << 16)):
                        break
                    got += piece
                except ssl.SSLWantReadError:
                    data.sendall(there.read())
                    came = data.recv(1 << 16)
                    wire += came
                    here.write(came)
                except ssl.SSLZeroReturnError:
                    break
            assert got == secret
            assert b"SECRET" not in wire and len(wire) > BIG // 20
            assert one.reply().startswith("226")
