"""ftp.data: passive and active data connections, stealing, bouncing, and thousands in a row."""

from __future__ import annotations

import errno
import itertools
import os
import socket
import struct
import subprocess
import threading
from pathlib import Path

import pytest

from appliance import wire
from tests.ftp.conftest import BIG
from tests.ftp.serving import SECONDS, Raw, Server, Turns, read_all, server, settings, until


def listening(raw: Raw) -> socket.socket:
    """A listener of the client, announced with PORT or EPRT."""
    family = raw.sock.family
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.settimeout(SECONDS)
    sock.bind((raw.sock.getsockname()[0], 0))
    sock.listen(1)
    raw.datas.append(sock)
    host, port = sock.getsockname()[:2]
    if family == socket.AF_INET:
        reply = raw.ask(f"PORT {host.replace('.', ',')},{port >> 8},{port & 255}")
    else:
        reply = raw.ask(f"EPRT |2|{host}|{port}|")
    assert reply.startswith("200"), reply
    return sock


def pasv_port(reply: str) -> tuple[str, int]:
    fields = reply.split("(")[1].split(")")[0].split(",")
    return ".".join(fields[:4]), int(fields[4]) * 256 + int(fields[5])


def test_passive_ports_come_from_the_range_and_cannot_be_foretold(tree: Path) -> None:
    config = settings()
    first, last = map(int, config.passive_ports.split("-"))
    with server(tree, config) as running, running.raw() as raw:
        ports = [pasv_port(raw.ask("PASV"))[1] for _ in range(60)]
    assert all(first <= port <= last for port in ports)
    assert len(set(ports)) > 10
    assert len({b - a for a, b in itertools.pairwise(ports)}) > 10


def test_a_range_that_is_used_up_is_425_and_a_free_port_serves_again(tree: Path) -> None:
    port = settings().passive_ports.split("-")[0]
    one_port = settings(passive_ports=f"{port}-{port}")
    with server(tree, one_port) as running, running.raw() as one, running.raw() as two:
        assert one.ask("EPSV").startswith("229")
        assert two.ask("EPSV").startswith("425")
        assert one.ask("ABOR").startswith("226")
        for _ in range(20):  # TIME_WAIT of the transfers before is no hindrance
            assert two.get("NLST") and one.get("NLST")


def test_the_passive_address_is_the_one_reached_or_the_one_set(tree: Path) -> None:
    with server(tree) as running, running.raw() as raw:
        assert pasv_port(raw.ask("PASV"))[0] == "127.0.0.1"
    with server(tree, settings(passive_address="192.0.2.9")) as running, running.raw() as raw:
        assert pasv_port(raw.ask("PASV"))[0] == "192.0.2.9"


def test_a_transfer_that_was_arranged_before_a_drain_takes_place(tree: Path) -> None:
    """A soak found it: after the reply to PASV the session was sent away, and the connection refused."""
    with server(tree) as running, running.raw() as idle, running.raw() as passive, running.raw() as active:
        for raw in (passive, active):
            assert raw.ask("TYPE I").startswith("200")
        data, listener = passive.passive(), listening(active)
        running.worker.tell(wire.Drain(60_000))
        assert idle.reply().startswith("421")
        for raw in (passive, active):
            raw.say("RETR pub/c.iso")
        for raw in (passive, active):
            assert raw.reply().startswith("150")
            assert read_all(data if raw is passive else listener.accept()[0]) == b"c" * 5000
            assert raw.reply().startswith("226")
            assert raw.reply().startswith("421")
        assert running.worker.wait() == 256


def test_another_address_cannot_steal_a_passive_port(served: Server) -> None:
    with served.raw() as raw:
        port = pasv_port(raw.ask("PASV"))[1]
        thief = socket.create_connection(("127.0.0.1", port), SECONDS, source_address=("127.0.0.2", 0))
        raw.say("NLST pub")
        assert raw.reply().startswith("150")
        assert read_all(thief) == b""
        with socket.create_connection(("127.0.0.1", port), SECONDS) as data:
            assert b"b.txt" in data.recv(1000)
        assert raw.reply().startswith("226")
    until(lambda: 'data connection refused client=127.0.0.1 reason="came from 127.0.0.2"' in served.worker.log_text())


def test_a_dual_stack_listener_serves_an_ipv4_client_as_ipv4(tree: Path) -> None:
    with server(tree, family=socket.AF_INET6, host="::") as running:
        running.host = "127.0.0.1"
        with running.raw() as raw:
            assert raw.ask("EPSV 1").startswith("229")
            assert raw.ask("EPSV 2").startswith("522")
            assert raw.get("NLST pub")
            host, port = pasv_port(raw.ask("PASV"))
            assert host == "127.0.0.1"
            with socket.create_connection((host, port), SECONDS) as data:
                assert raw.ask("NLST pub").startswith("150")
                assert b"b.txt" in data.recv(1000)
            assert raw.reply().startswith("226")
            assert listening(raw)


def test_retr_without_pasv_or_port_is_425_at_once(served: Server) -> None:
    with served.raw() as raw:
        for line in ("RETR a.txt", "LIST", "NLST", "MLSD"):
            assert raw.ask(line).startswith("425"), line


def test_a_client_may_connect_after_its_command(served: Server) -> None:
    with served.raw() as raw:
        raw.ask("TYPE I")
        port = int(raw.ask("EPSV").split("|||")[1].split("|")[0])
        assert raw.ask("RETR big").startswith("150")
        assert len(read_all(socket.create_connection(("127.0.0.1", port), SECONDS))) == BIG
        assert raw.reply().startswith("226")


def test_a_passive_port_serves_one_transfer(served: Server) -> None:
    with served.raw() as raw:
        raw.get("NLST")
        assert raw.ask("NLST").startswith("425")


def test_a_new_pasv_replaces_the_one_before(served: Server) -> None:
    with served.raw() as raw:
        old = pasv_port(raw.ask("PASV"))
        while pasv_port(raw.ask("PASV")) == old:
            pass
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(old, 1)


def test_epsv_all_leaves_only_epsv(served: Server) -> None:
    with served.raw() as raw:
        assert raw.ask("EPSV ALL").startswith("200")
        for line in ("PASV", "PORT 127,0,0,1,200,1", "EPRT |1|127.0.0.1|50000|"):
            assert raw.ask(line).startswith("501"), line
        assert raw.get("NLST")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_active_transfers_over_both_families(tree: Path, host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with server(tree, family=family, host=host) as running, running.raw() as raw:
        raw.ask("TYPE I")
        sock = listening(raw)
        raw.say("RETR big")
        data, _peer = sock.accept()
        assert raw.reply().startswith("150")
        assert read_all(data) == (tree / "big").read_bytes()
        assert raw.reply().startswith("226")
        assert raw.ask("RETR big").startswith("425")


@pytest.mark.parametrize(
    "line",
    [
        "PORT 127,0,0,2,200,1",
        "PORT 192,0,2,1,200,1",
        "PORT 0,0,0,0,200,1",
        "EPRT |1|127.0.0.2|50000|",
        "EPRT |1|192.0.2.1|50000|",
        "PORT 127,0,0,1,0,22",
        "PORT 127,0,0,1,3,255",
        "EPRT |1|127.0.0.1|1023|",
        "EPRT |2|::ffff:192.0.2.1|50000|",
        "EPRT |2|::ffff:127.0.0.2|50000|",
        "EPRT |2|::ffff:127.0.0.1|22|",
    ],
)
def test_a_bounce_to_another_host_or_a_privileged_port_is_refused_and_told(served: Server, line: str) -> None:
    with served.raw() as raw:
        assert raw.ask(line).startswith("501")
        assert raw.ask("RETR a.txt").startswith("425")
    until(lambda: "data connection refused client=127.0.0.1" in served.worker.log_text())
    assert served.worker.parent is not None and served.worker.parent.asked == 0


@pytest.mark.parametrize(
    "line", ["PORT 1,2,3", "PORT 999,1,1,1,1,1", "EPRT x", "EPRT |1|127.0.0.1|", "EPRT |2|::1|65536|"]
)
def test_an_address_that_is_none_is_501(served: Server, line: str) -> None:
    with served.raw() as raw:
        assert raw.ask(line).startswith("501")


def test_eprt_of_the_other_family_is_522_with_the_right_one(served: Server) -> None:
    with served.raw() as raw:
        assert "use (1)" in raw.ask("EPRT |2|::1|50000|")
        assert raw.ask("EPRT |2|::1|50000|").startswith("522")


def test_eprt_of_a_protocol_that_is_none_of_both_is_522_and_not_501(served: Server) -> None:
    with served.raw() as raw:
        for protocol in ("3", "0", "99"):
            assert raw.ask(f"EPRT |{protocol}|127.0.0.1|50000|").startswith("522") and not served.worker.offences


def test_active_mode_can_be_switched_off(tree: Path) -> None:
    from appliance.settings.ftp import ActiveSettings

    with server(tree, settings(active=ActiveSettings(enabled=False))) as running, running.raw() as raw:
        assert raw.ask("PORT 127,0,0,1,200,1").startswith("502")
        assert raw.ask("EPRT |1|127.0.0.1|50000|").startswith("502")


def test_a_client_that_does_not_listen_gets_425(served: Server) -> None:
    with served.raw() as raw:
        sock = listening(raw)
        sock.close()
        assert raw.ask("RETR a.txt").startswith("425")
        assert raw.get("RETR a.txt")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EMFILE])
def test_a_refusal_of_the_supervisor_is_425_and_the_session_lives(served: Server, number: int) -> None:
    assert served.worker.parent is not None
    served.worker.parent.refuse = number
    with served.raw() as raw:
        listening(raw)
        assert raw.ask("RETR a.txt").startswith("425")
        assert raw.get("RETR a.txt")


def test_a_busy_supervisor_is_asked_again(served: Server) -> None:
    parent = served.worker.parent
    assert parent is not None
    parent.refuse = errno.EBUSY
    with served.raw() as raw:
        sock = listening(raw)
        raw.say("NLST pub")
        until(lambda: parent.asked > 2)
        parent.refuse = 0
        assert b"b.txt" in read_all(sock.accept()[0])
        assert raw.reply().startswith("150")
        assert raw.reply().startswith("226")


def test_abor_while_the_supervisor_is_asked_leaves_nothing_behind(served: Server) -> None:
    parent = served.worker.parent
    assert parent is not None
    parent.refuse = errno.EBUSY
    with served.raw() as raw:
        sock = listening(raw)
        raw.say("NLST pub")
        until(lambda: parent.asked > 0)
        assert raw.ask("ABOR").startswith("426")
        assert raw.reply().startswith("226")
        parent.refuse = 0
        assert raw.get("NLST pub")
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.accept()


def test_a_stale_connector_unregisters_nobody_else_in_2000_active_transfers(tree: Path) -> None:
    """pyftpdlib 2.2.0 keeps the connector of a PORT transfer; the next PORT closes whoever has its descriptor now."""
    failures: list[str] = []

    def run(raw: Raw) -> None:
        try:
            for _ in range(250):
                with listening(raw) as sock:
                    raw.datas.clear()
                    raw.say("RETR pub/c.iso")
                    data, _peer = sock.accept()
                    if read_all(data) != b"c" * 5000:
                        failures.append("bytes differ")
                    if not raw.reply().startswith("150") or not raw.reply().startswith("226"):
                        failures.append("bad reply")
        except (OSError, AssertionError) as error:
            failures.append(repr(error))

    with server(tree) as running:
        clients = [running.raw() for _ in range(8)]
        for raw in clients:
            raw.ask("TYPE I")
        threads = [threading.Thread(target=run, args=(raw,)) for raw in clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        for raw in clients:
            raw.close()
        assert failures == []
        assert running.worker.parent is not None and running.worker.parent.errors == []
        until(lambda: running.worker.counters()["transfers"] == 2000)
        assert running.worker.counters()["failed"] == 0


@pytest.mark.parametrize("kind", ["I", "A"])
def test_a_file_that_is_cut_while_it_is_sent_is_no_success(served: Server, kind: str) -> None:
    """Seen in TYPE A: 226."""
    with served.raw() as raw:
        data = raw.fetch_huge(served.root, kind)
        data.recv(1000)
        os.truncate(served.root / "huge", 10 << 20)
        assert len(read_all(data)) < 1 << 30
        assert raw.reply().startswith("451")


def test_a_file_that_grows_while_it_is_sent_is_sent_as_it_was(served: Server) -> None:
    before = (served.root / "big").read_bytes()
    with served.raw() as raw:
        raw.ask("TYPE I")
        data = raw.passive()
        assert raw.ask("RETR big").startswith("150")
        with open(served.root / "big", "ab") as file:
            file.write(b"more")
        assert read_all(data) == before
        assert raw.reply().startswith("226")


def test_a_client_that_resets_the_data_connection_gets_426(served: Server) -> None:
    with served.raw() as raw:
        data = raw.fetch_huge(served.root)
        data.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        data.close()
        assert raw.reply().startswith("426")
        assert raw.ask("NOOP").startswith("200")


def test_a_client_that_never_connects_is_no_transfer_for_ever(tree: Path) -> None:
    from appliance.ftp import data

    def hurry() -> None:
        data._CONNECT_S = 0.1

    with server(tree, before=hurry) as running, running.raw() as raw:
        raw.ask("EPSV")
        assert raw.ask("RETR a.txt").startswith("150")
        assert raw.reply().startswith("425")


def test_an_unused_passive_port_is_given_back(tree: Path) -> None:
    from appliance.ftp import session

    def hurry() -> None:
        session.LISTEN_S = 0.1

    with server(tree, before=hurry) as running, running.raw() as raw:
        port = pasv_port(raw.ask("PASV"))

        def refused() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(port) == errno.ECONNREFUSED

        until(refused)
        assert raw.ask("RETR a.txt").startswith("425")


def answered_while_listing(running: Server, path: str, minimum: int) -> int:
    """How many NOOPs of one client were answered while another listed."""
    with running.raw() as lister, running.raw() as other:
        data = lister.passive()
        lister.say(f"LIST {path}")
        sizes: list[int] = []
        reader = threading.Thread(target=lambda: sizes.append(len(read_all(data))))
        reader.start()
        answered = 0
        while reader.is_alive():
            assert other.ask("NOOP").startswith("200")
            answered += 1
        reader.join(SECONDS)
        assert sizes[0] > minimum
    return answered


def test_listing_a_big_folder_makes_no_turn_longer_than_50_ms_and_others_are_answered_meanwhile(tree: Path) -> None:
    folder = tree / "many"
    folder.mkdir()
    for number in range(100_000):
        os.close(os.open(folder / f"{number:06}", os.O_CREAT))
    turns = Turns()
    with server(tree, before=turns.watch) as running:
        answered = answered_while_listing(running, "many", 100_000 * 60)
    print(f"{answered} answered, the longest turn took {turns.longest_s * 1e3:.1f} ms")
    assert 0 < turns.longest_s < 0.05
    assert answered > 10  # hundreds; none when it is made in one piece


def test_a_client_that_goes_while_its_listing_is_made_is_noticed_at_once(tree: Path) -> None:
    """The listing waits for its pieces then, and no longer for room; here the first of them never ends."""
    from appliance.ftp.folders import Listings

    def never() -> None:
        Listings._slices = lambda *_: (b"" for _ in itertools.count())  # type: ignore[method-assign, assignment]

    with server(tree, before=never) as running, running.raw() as raw:
        data = raw.passive()
        assert raw.ask("LIST").startswith("150")
        data.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        data.close()
        assert raw.reply().startswith("426")
        assert raw.ask("NOOP").startswith("200")


def test_a_tree_4096_deep_delays_nobody_and_ends_where_no_path_leads(tree: Path) -> None:
    """A path of PATH_MAX bytes leads 2,047 folders down; what is below exists for nobody."""
    turns = Turns()
    folder = os.open(tree, os.O_RDONLY)
    try:
        for depth in range(4096):
            if depth == 2040:
                for number in range(2000):
                    os.close(os.open(f"{number:04}", os.O_CREAT, dir_fd=folder))
            os.mkdir("d", dir_fd=folder)
            below = os.open("d", os.O_RDONLY, dir_fd=folder)
            os.close(folder)
            folder = below
        deep = "d/" * 2039 + "d"
        with server(tree, before=turns.watch) as running:
            answered_while_listing(running, deep, 2000 * 60)
            print(f"the longest turn took {turns.longest_s * 1e3:.1f} ms")
            assert 0 < turns.longest_s < 0.05
            with running.raw() as raw:
                assert raw.ask(f"CWD {deep}").startswith("250")
                assert raw.ask("CWD " + "d/" * 20).startswith("550")
                assert raw.ask("CDUP").startswith("250")
    finally:
        os.close(folder)
        subprocess.run(["rm", "-rf", str(tree / "d")], check=True)  # shutil.rmtree recurses as deep
