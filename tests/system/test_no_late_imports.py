"""Nothing is imported after confinement: a whole session of each service adds nothing to sys.modules."""

from __future__ import annotations

import contextlib
import ftplib
import hashlib
import io
import json
import os
import select
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from appliance import wire
from appliance.board import guard
from appliance.custody import wire as custody
from appliance.observe import events, framing, tables
from appliance.settings.board import BoardSettings
from appliance.settings.box import Box, of_incoming
from appliance.settings.ftp import FtpSettings, IncomingSettings, TlsSettings
from appliance.settings.hooks import Hook
from appliance.settings.plain import encode
from appliance.settings.tftp import TftpSettings
from appliance.supervise.spawn import spawn
from tests.ftp.tlskit import Client, certificate, fetched, refusal, trusting
from tests.resolve.names import NameServer
from tests.support import spec
from tests.system.running import tftp_read

Late = list[list[str]]


@contextmanager
def watched(
    main: str, promise: str, settings: dict[str, Any], jail: Path, *socks: tuple[str, socket.socket], **changes: Any
) -> Iterator[tuple[Late, socket.socket]]:
    """A real, confined worker; the list holds the late modules once the block is left."""
    child = spawn(promise, 0)
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    table = tables.create(promise)
    roles = ("table", *(role for role, _ in socks), "document:answer")
    confinement = asdict(spec(str(jail), promise, nofile=1024, **changes))
    settings = {"watched": main, "log": "text", **settings}
    start = wire.Start(promise, 0, "tests.system.modules:prepare", settings, confinement, roles)
    socket.send_fds(child.channel, [wire.pack(start)], [table, *(sock.fileno() for _, sock in socks), write_end])
    os.close(table)
    os.close(write_end)
    late: Late = []
    try:
        child.channel.setblocking(True)
        child.channel.settimeout(30)
        assert isinstance(wire.parse(child.channel.recv(1000), from_child=True), wire.Ready)
        yield late, child.channel
        child.channel.send(wire.pack(wire.Drain(5000)))
        select.select([read_end], [], [], 30)
        with os.fdopen(read_end, "rb") as answer:
            late.append(json.loads(answer.read()))
    finally:
        child.channel.close()
        os.waitpid(child.pid, 0)


BIG = b"b" * 3_000_000


def _forget(path: Path) -> None:
    """Leave a file on its disk alone, out of memory."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "hello.txt").write_bytes(b"hello\n")
    (tmp_path / "big").write_bytes(BIG)
    (tmp_path / "dir").mkdir()
    (tmp_path / "incoming").mkdir(mode=0o700)
    tmp_path.chmod(0o755)
    return tmp_path


def test_a_tftp_session_imports_nothing(tree: Path) -> None:
    listener = socket.socket(type=socket.SOCK_DGRAM)
    listener.bind(("127.0.0.1", 0))
    settings = {"tftp": encode(TftpSettings()), "workers": 1}
    with watched("appliance.tftp.worker:prepare", "tftp", settings, tree, ("listener:0", listener)) as (late, _):
        assert tftp_read(listener.getsockname(), b"hello.txt") == b"hello\n"
        for bad in (b"missing", b"dir", b"\xff\xfe"):
            with pytest.raises(OSError, match=r"\w"):
                tftp_read(listener.getsockname(), bad)
        with socket.socket(type=socket.SOCK_DGRAM) as sock:
            for garbage in (b"", b"\0", b"\0\1", b"\0\1x\0octet\0blksize\0abc\0", os.urandom(500)):
                sock.sendto(garbage, listener.getsockname())
        assert tftp_read(listener.getsockname(), b"hello.txt") == b"hello\n"
    listener.close()
    assert late == [[]]


def test_an_ftp_session_with_an_upload_imports_nothing(tree: Path) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    incoming = IncomingSettings(enabled=True)
    ftp = encode(replace(FtpSettings(), incoming=incoming, passive_ports="51000-51099"))
    if os.geteuid() == 0:
        os.chown(tree / "incoming", 64610, 64610)
    with (
        watched(
            "appliance.custody.worker:prepare",
            "custody",
            {"box": encode(of_incoming(incoming))},
            tree / "incoming",
            ("link:0", theirs),
            writes=True,
        ) as (custody_late, _),
        watched(
            "appliance.ftp.worker:prepare",
            "ftp",
            {"ftp": ftp, "workers": 1},
            tree,
            ("listener:0", listener),
            ("link:custody", ours),
            bind_tcp=(51000, 51099),
        ) as (ftp_late, _),
    ):
        theirs.close()
        ours.close()
        client = ftplib.FTP(timeout=20)
        client.connect(*listener.getsockname())
        client.login()
        client.voidcmd("TYPE I")
        for command in (
            "FEAT",
            "SYST",
            "HELP",
            "STAT",
            "OPTS UTF8 ON",
            "MDTM hello.txt",
            "SIZE hello.txt",
            "MLST hello.txt",
            "HASH hello.txt",
            "OPTS HASH SHA-1",
            "HASH hello.txt",
            "XSHA256 hello.txt",
            "XMD5 hello.txt",
            "XCRC hello.txt",
            "NOOP",
        ):
            client.sendcmd(command)
        lines: list[str] = []
        client.retrlines("LIST", lines.append)
        client.retrlines("MLSD", lines.append)
        client.retrlines("NLST", lines.append)
        client.retrlines("RETR hello.txt", lines.append)
        got: list[bytes] = []
        client.retrbinary("RETR hello.txt", got.append)
        assert got == [b"hello\n"]
        _forget(tree / "big")
        client.retrbinary("RETR big", got.append)  # by way of a thread, from the disk
        assert b"".join(got[1:]) == BIG
        client.retrbinary("RETR big.sha256", got.append)
        assert got[-1] == f"{hashlib.sha256(BIG).hexdigest()}  big\n".encode()
        client.storbinary("STOR incoming/a.bin", io.BytesIO(b"x" * 100_000))
        for refused in ("DELE hello.txt", "RETR missing", "CWD nowhere", "STOR hello.txt", "XYZZY", "RETR a\x01b"):
            with pytest.raises((ftplib.error_perm, ftplib.error_temp)):
                client.sendcmd(refused)
        client.quit()
    listener.close()
    assert (tree / "incoming" / "a.bin").stat().st_size == 100_000
    assert ftp_late == [[]]
    assert custody_late == [[]]


def test_the_history_is_written_and_handed_out_from_inside_the_jail(tmp_path: Path) -> None:
    """With what only happens later: a segment that is full, one that is removed, a reader, a worker that lies."""
    place = tmp_path / "history"
    place.mkdir()
    if os.geteuid() == 0:
        os.chown(place, 64610, 64610)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(tmp_path / "events.sock"))
    listener.listen()
    main, settings = "appliance.observe.recorder:prepare", {"history": 80_000}
    with watched(main, "events", settings, place, ("listener:0", listener), writes=True) as (late, channel):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        socket.send_fds(channel, [wire.pack(wire.Link(1, "tftp.0"))], [theirs.fileno()])
        theirs.close()
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as reader, ours:
            reader.settimeout(20)
            ours.send(os.urandom(50))
            told = framing.encode(events.Ended(file=b"x" * 500, outcome=b"done"))
            for _ in range(20):
                for datagram in framing.join([told] * 20):
                    ours.send(datagram)
            ours.send(b"".join(framing.join([framing.encode(events.Lost(1, b"rate"))])))
            reader.connect(str(tmp_path / "events.sock"))
            found, fds, _flags, _peer = socket.recv_fds(reader, 100, 100)
            assert 1 <= int(found) == len(fds)
            for fd in fds:
                os.close(fd)
            text = b""
            while b'"lost"' not in text and not any(b'"lost"' in one.read_bytes() for one in place.iterdir()):
                text += reader.recv(1 << 17)
    listener.close()
    assert late == [[]]
    assert len(list(place.iterdir())) > 3


def test_uploads_by_tftp_are_replaced_and_read_back_from_inside_the_jail(tree: Path) -> None:
    """Every system call of that is in the promise of the custodian, and nothing is imported for it."""
    box = Box(1 << 20, 1 << 30, 1 << 30, 100, 0.0, (), mode="replace", keep_versions=1, readable="same-client")
    place = tree / "incoming"
    if os.geteuid() == 0:
        os.chown(place, 64610, 64610)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(20)
    main, settings = "appliance.custody.worker:prepare", {"box": encode(box)}
    with watched(main, "custody", settings, place, ("link:0", theirs), writes=True) as (late, _):
        theirs.close()
        for number in range(3):
            ours.send(custody.pack(custody.Reserve(1, 0, "192.0.2.1", b"sw1.cfg")))
            (fd,) = socket.recv_fds(ours, 100, 1)[1]
            os.write(fd, b"version %d" % number)
            os.close(fd)
            ours.send(custody.pack(custody.Commit(1, 9)))
            assert custody.parse_from_custodian(ours.recv(100)) == custody.Done(1)
        (version,) = (name for name in os.listdir(place) if name != "sw1.cfg")
        for name, content in ((b"sw1.cfg", b"version 2"), (os.fsencode(version), b"version 1")):
            ours.send(custody.pack(custody.Fetch(2, "192.0.2.1", name)))
            datagram, (fd,), _flags, _peer = socket.recv_fds(ours, 100, 1)
            assert custody.parse_from_custodian(datagram) == custody.Opened(2, 9)
            assert os.read(fd, 100) == content
            os.close(fd)
        for message, answer in (
            (custody.Fetch(3, "192.0.2.2", b"sw1.cfg"), custody.Refused(3, custody.Reason.UNREADABLE)),
            (custody.Ask(4, 5, "192.0.2.2", b"sw1.cfg"), custody.More(4, 1 << 20)),
        ):
            ours.send(custody.pack(message))
            assert custody.parse_from_custodian(ours.recv(100)) == answer
    ours.close()
    assert late == [[]]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def test_an_ftp_session_under_tls_imports_and_opens_nothing(tree: Path, version: ssl.TLSVersion) -> None:
    pair = certificate(tree)
    listener, implicit = (socket.create_server(("127.0.0.1", 0)) for _ in range(2))
    tls = TlsSettings("required", str(pair[0]), str(pair[1]), ("127.0.0.1:0",), "required")
    ftp = encode(replace(FtpSettings(), listen=("127.0.0.1:0",), tls=tls, passive_ports="51100-51199"))
    with watched(
        "appliance.ftp.worker:prepare",
        "ftp",
        {"ftp": ftp, "workers": 1},
        tree,
        ("listener:0", listener),
        ("listener:1", implicit),
        bind_tcp=(51100, 51199),
    ) as (late, _):
        for begins_with_tls, sock in ((False, listener), (True, implicit)):
            client = Client(context=trusting(pair, version), timeout=20)
            client.implicit = begins_with_tls
            client.connect(*sock.getsockname())
            client.login(secure=not begins_with_tls)
            client.prot_p()
            assert fetched(client, "RETR hello.txt") == b"hello\n"
            client.retrlines("MLSD", lambda _line: None)
            client.resume = False
            assert refusal(client, "RETR hello.txt").startswith("522")
            client.quit()
            with socket.create_connection(sock.getsockname(), timeout=20) as stranger:
                stranger.sendall(b"" if begins_with_tls else b"AUTH TLS\r\n")
                stranger.sendall(b"\x16\x03\x01\x00\x05garbage" * 9)
                with contextlib.suppress(ConnectionResetError):
                    while stranger.recv(4096):
                        pass
    listener.close()
    implicit.close()
    assert late == [[]]


def test_a_page_of_the_board_under_tls_imports_and_opens_nothing(tree: Path) -> None:
    pair = certificate(tree)
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    page = BoardSettings((), guard.store("secret", b"0" * 16), str(pair[0]), str(pair[1]))
    settings = {**encode(page), "events_per_second": 100}
    roles = (("listener:0", listener), ("link:events", theirs))
    with watched("appliance.board.worker:prepare", "board", settings, tree, *roles) as (late, channel):
        theirs.close()
        context = trusting(pair, ssl.TLSVersion.TLSv1_3)
        event = events.Ended(bytes=5, client=b"192.0.2.1", verb=b"RRQ", file=b"vmlinuz", outcome=b"done")
        ours.send(b"".join(framing.join([framing.encode_record(events.Record(1, 1000, "tftp.0", event)), b"nonsense"])))
        for request in (b"/", b"/board.json", b"/machine.json?key=192.0.2.1", b"/none", b"/events"):
            with context.wrap_socket(
                socket.create_connection(("127.0.0.1", port), 20), server_hostname="localhost"
            ) as one:
                head = f"Host: localhost:{port}\r\nAuthorization: Basic YTpzZWNyZXQ=\r\nConnection: close\r\n\r\n"
                one.sendall(b"GET " + request + b" HTTP/1.1\r\n" + head.encode())
                assert one.recv(5) == b"HTTP/"
                if request == b"/events":
                    assert isinstance(wire.parse(channel.recv(1000), from_child=True), wire.Query)
                    channel.send(wire.pack(wire.Facts(b'{"ready": true, "services": {"tftp": {"state": "ok"}}}')))
                    got = b""
                    while b'"tftp":"ok"' not in got:
                        got += one.recv(65536)
        with socket.create_connection(("127.0.0.1", port), 20) as stranger:
            stranger.sendall(b"GET / HTTP/1.1\r\n\r\n" * 9)
            with contextlib.suppress(ConnectionResetError):
                while stranger.recv(4096):
                    pass
    ours.close()
    listener.close()
    assert late == [[]]


def test_a_status_session_imports_nothing(tree: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as asker:
        listener.bind(str(tree / "status.sock"))
        listener.listen(5)
        main = "appliance.observe.control:prepare"
        with watched(main, "status", {}, tree, ("listener:0", listener)) as (late, channel):
            asker.connect(str(tree / "status.sock"))
            assert isinstance(wire.parse(channel.recv(1000), from_child=True), wire.Query)
            channel.send(wire.pack(wire.Facts(b'{"ready": true}')))
            assert b"".join(iter(lambda: asker.recv(1000), b"")) == b'{"ready": true}'
    assert late == [[]]


def test_the_resolver_imports_nothing(tree: Path, tmp_path: Path) -> None:
    servers = NameServer()
    servers.zone = {"a.example": ["192.0.2.1"]}
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    files = {"resolv_conf": str(tmp_path / "resolv.conf"), "hosts": str(tmp_path / "hosts")}
    values = {"names": ["a.example", "b.example"], "port": servers.port, **files}
    with watched("appliance.resolve.worker:prepare", "resolver", values, tree) as (late, channel):
        heard = [wire.parse(channel.recv(1000), from_child=True) for _ in range(2)]
        assert sorted(map(str, heard)) == sorted(
            [str(wire.Resolved("192.0.2.1", "a.example")), str(wire.Resolved("0.0.0.0", "b.example"))]
        )
    servers.close()
    assert late == [[]]


def test_hooks_that_hear_and_run_something_import_nothing(tree: Path) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    who = spec(str(tree), "hooks")
    hook = Hook(on=("upload-complete", "machine-booted"), run=("/bin/sh", "-c", "cat; exit 3"))
    settings = {
        "hooks": [encode(hook)], "events_per_second": 100, "machines": 100, "folder": str(tree), "uid": who.uid,
        "gid": who.gid, "required": False,
    }  # fmt: skip
    tree.chmod(0o755)
    with watched("appliance.hooks.worker:prepare", "hooks", settings, tree, ("link:events", theirs)) as (late, _):
        theirs.close()
        ours.settimeout(60)
        boot = [
            events.Ended(bytes=5, client=b"192.0.2.1", verb=b"RRQ", file=name, outcome=b"done", acknowledged=1)
            for name in (b"pxelinux.cfg/01-52-54-00-12-34-56", b"vmlinuz", b"initrd")
        ]
        told: list[events.Event] = [events.Stored(name=b"x"), *boot]
        records = [events.Record(number, 1000, "tftp.0", event) for number, event in enumerate(told, 1)]
        ours.send(b"".join(framing.join([framing.encode_record(record) for record in records])))
        ours.send(b"nonsense")
        machine = framing.decode(framing.split(ours.recv(65536))[0])
        assert isinstance(machine, events.Machine) and machine.state == b"booted"
        back = events.Record(9, 2000, "hooks.0", machine)
        ours.send(b"".join(framing.join([framing.encode_record(back)])))
    ours.close()
    assert late == [[]]
