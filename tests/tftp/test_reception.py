"""reception: networks, sites, rules, spelling, ports and broadcasts, as a client meets them."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.observe import arp
from appliance.settings.tftp import TftpMachine, TftpNetwork, TftpRemap, TftpSite
from appliance.tftp import sockets, worker
from tests.tftp.client import Fetch, RefusedError, ack, fetch, rrq, udp
from tests.tftp.server import SETTINGS, Server, until

Start = Callable[..., Server]
EVERYTHING: dict[str, object] = {"blksize": 1400, "windowsize": 16, "tsize": 0, "TIMEOUT": 2}


def put(server: Server, name: str, content: bytes) -> bytes:
    path = server.root / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return content


def agreed_from(server: Server, host: str, name: str = "f") -> dict[str, str]:
    """What the server agrees to with a client at `host`; the file has come, too."""
    with udp(host) as sock:
        download = Fetch(server.address, name, EVERYTHING, sock=sock)
        assert download.run() == (server.root / name).read_bytes()
        return download.agreed


def content_for(server: Server, host: str, name: str) -> bytes:
    with udp(host) as sock:
        return Fetch(server.address, name, sock=sock).run()


def test_each_network_has_its_own_caps_and_options(start: Start) -> None:
    networks = (
        TftpNetwork("127.0.1.0/24", blksize_max=512, windowsize_max=2, refuse_options=("tsize",)),
        TftpNetwork("127.0.1.7", refuse_options=("blksize", "windowsize", "timeout", "tsize")),
    )
    server = start(replace(SETTINGS, networks=networks))
    put(server, "f", os.urandom(5000))
    everybody = {"blksize": "1400", "windowsize": "16", "tsize": "5000", "TIMEOUT": "2"}
    assert agreed_from(server, "127.0.0.1") == everybody
    assert agreed_from(server, "127.0.1.1") == {"blksize": "512", "windowsize": "2", "TIMEOUT": "2"}
    assert agreed_from(server, "127.0.1.7") == {}


def test_a_network_has_a_folder_of_its_own_and_the_root_for_the_rest(start: Start) -> None:
    server = start(replace(SETTINGS, networks=(TftpNetwork("127.0.1.0/24", root="lab"),)))
    put(server, "a", b"general")
    put(server, "b", b"general b")
    put(server, "lab/a", b"lab")
    put(server, "private", b"general p")
    put(server, "lab/private", b"lab p")
    (server.root / "lab" / "private").chmod(0o600)
    assert [content_for(server, "127.0.1.1", name) for name in "ab"] == [b"lab", b"general b"]
    assert content_for(server, "127.0.0.1", "a") == b"general"
    with pytest.raises(RefusedError, match="2 Access violation"):
        content_for(server, "127.0.1.1", "private")
    with pytest.raises(RefusedError, match="1 File not found"):
        content_for(server, "127.0.1.1", "missing")


def test_a_folder_of_a_network_leads_nowhere_outside(start: Start) -> None:
    server = start(replace(SETTINGS, networks=(TftpNetwork("127.0.0.0/8", root="out"),)))
    (server.root.parent / "secret").write_text("outside")
    (server.root / "out").symlink_to("..")
    with pytest.raises(RefusedError, match="1 File not found"):
        fetch(server.address, "secret")


TABLE = """IP address       HW type     Flags       HW address            Mask     Device
127.0.1.7        0x1         0x2         52:54:00:12:34:56     *        eth0
"""


def test_a_machine_has_a_folder_and_caps_of_its_own(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "arp"
    table.write_text(TABLE)
    monkeypatch.setattr(arp, "_TABLE", str(table))
    machine = TftpMachine("52:54:00:12:34:56", windowsize_max=2, root="hosts/one", refuse_options=("tsize",))
    server = start(replace(SETTINGS, machines=(machine,), networks=(TftpNetwork("127.0.1.0/24", root="lab"),)))
    for name, content in (("f", b"general"), ("lab/f", b"lab"), ("only", b"general o")):
        put(server, name, content)
    (server.root / "hosts" / "one").mkdir(parents=True)
    (server.root / "hosts" / "one" / "f").write_bytes(b"one")
    assert [content_for(server, f"127.0.1.{host}", "f") for host in (7, 8)] == [b"one", b"lab"]
    assert content_for(server, "127.0.0.1", "f") == b"general"
    assert agreed_from(server, "127.0.1.7", "only") == {"blksize": "1400", "windowsize": "2", "TIMEOUT": "2"}
    table.write_text(TABLE.replace("127.0.1.7", "127.0.1.8"))
    assert content_for(server, "127.0.1.8", "f") in (b"one", b"lab")  # what was read may be 20 ms old


def test_without_a_neighbour_table_machines_are_unknown_and_everybody_is_served(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arp, "_TABLE", str(tmp_path / "absent"))
    server = start(replace(SETTINGS, machines=(TftpMachine("52:54:00:12:34:56", root="one"),)))
    put(server, "f", b"general")
    assert content_for(server, "127.0.0.1", "f") == b"general"


def test_each_listener_may_be_a_site_with_a_folder(start: Start) -> None:
    with udp() as free:
        port = free.getsockname()[1]
    site = TftpSite(f"127.0.0.1:{port}", root="site", networks=(TftpNetwork("127.0.1.0/24", windowsize_max=3),))
    server = start(replace(SETTINGS, sites=(site,)), port=port)
    put(server, "f", b"general")
    put(server, "site/f", b"of the site")
    assert fetch(server.address, "f") == b"of the site"
    assert fetch(server.address6, "f") == b"general"
    assert agreed_from(server, "127.0.1.1", "site/f")["windowsize"] == "3"
    assert agreed_from(server, "127.0.0.1", "site/f")["windowsize"] == "16"


def test_rules_turn_names_into_others(start: Start) -> None:
    rules = (TftpRemap("^pxe/", "", then="continue"), TftpRemap("^me$", r"hosts/\x"), TftpRemap("^up$", "../secret"))
    server = start(replace(SETTINGS, remap=rules))
    (server.root.parent / "secret").write_text("outside")
    put(server, "f", b"file")
    put(server, "hosts/7F000001", b"mine")
    assert fetch(server.address, r"\pxe\f") == b"file"
    assert fetch(server.address, "/pxe/me") == b"mine"
    with pytest.raises(RefusedError, match="2 Access violation"):
        fetch(server.address, "up")


@pytest.mark.parametrize("log", ["text", "json"])
def test_a_name_is_found_in_another_case_and_a_choice_is_logged_once(start: Start, log: str) -> None:
    server = start(replace(SETTINGS, case_insensitive=True), log=log)
    put(server, "Boot/BCD", b"bcd")
    put(server, "Two", b"Two")
    put(server, "TWO", b"TWO")
    for _ in range(3):
        assert fetch(server.address, r"\BOOT\bcd") == b"bcd"
        assert fetch(server.address, "two") == b"TWO"
        assert fetch(server.address, "Two") == b"Two"
    told = [line for line in server.log.read_text().splitlines() if "ambiguous" in line]
    assert len(told) == 1
    assert "TWO" in told[0] and "Two" in told[0]


def test_another_case_is_another_name_by_default(server: Server) -> None:
    put(server, "F", b"x")
    with pytest.raises(RefusedError, match="1 File not found"):
        fetch(server.address, "f")


def free_range() -> tuple[int, int]:
    """Two neighbouring ports that nobody has."""
    for _ in range(200):
        with sockets.watch(socket.AF_INET) as first:
            number = first.getsockname()[1]
            try:
                sockets.watch(socket.AF_INET, number + 1).close()
            except OSError:
                continue
            return number, number + 1
    raise AssertionError("no two neighbouring ports are free")


def test_transfers_run_on_the_range_and_a_full_one_refuses_with_a_constant(start: Start) -> None:
    first, last = free_range()
    server = start(replace(SETTINGS, port_range=f"{first}-{last}"))
    put(server, "f", b"x" * 600)
    clients = [udp() for _ in range(3)]
    try:
        tids = []
        for sock in clients[:2]:
            sock.sendto(rrq("f"), server.address)
            answer, tid = sock.recvfrom(600)
            assert answer[:4] == b"\0\3\0\1"
            tids.append(tid)
            sock.sendto(ack(1), tid)
            assert sock.recv(600)[:4] == b"\0\3\0\2"
        assert {port for _host, port in tids} == {first, last}
        clients[2].sendto(rrq("f"), server.address)
        assert clients[2].recv(600) == b"\0\5\0\0Server is busy, try again\0"
        assert server.counters["refused"] == 1
        assert "port_range" in server.first("refused")
        for sock, tid in zip(clients[:2], tids, strict=True):
            sock.sendto(ack(2), tid)
        until(lambda: server.counters["transfers"] == 2, "both ends")
        assert fetch(server.address, "f") == b"x" * 600
    finally:
        for sock in clients:
            sock.close()


def test_a_broadcast_is_answered_from_our_own_address_when_the_settings_say_so(start: Start) -> None:
    server = start(replace(SETTINGS, broadcast="answer"), host="0.0.0.0")
    put(server, "f", b"content")
    with udp("127.0.0.1") as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        for name, expected in (("missing", b"\0\5\0\1File not found\0"), ("f", b"\0\3\0\1content")):
            sock.sendto(rrq(name), ("127.255.255.255", server.address[1]))
            answer, peer = sock.recvfrom(600)
            assert (answer, peer[0]) == (expected, "127.0.0.1")
        sock.sendto(ack(1), peer)
    until(lambda: server.counters["transfers"] == 1, "the end of the transfer")


def test_in_a_flood_unknown_clients_are_dropped_before_anything_is_read(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "near_networks", lambda *_routes: [])
    server = start(replace(SETTINGS, limits=replace(SETTINGS.limits, unseen_per_second=1)))
    content = put(server, "f", os.urandom(600))
    with udp("127.0.0.5") as first, udp("127.0.0.6") as stranger:
        first.sendto(rrq("f"), server.address)  # the one permit of this second
        stranger.sendto(b"\0", server.address)
        first.sendto(rrq("f"), server.address)  # under way: no stranger
        assert first.recv(600) == b"\0\3\0\1" + content[:512]
        until(lambda: server.lines("dropped"), "the record")
        assert "client=127.0.0.6:" in server.first("dropped")
        assert 'cause="too many unknown clients"' in server.first("dropped")
        download = Fetch(server.address, "f", sock=first)
        assert download.run() == content
        for _ in range(3):  # whoever has acknowledged needs no permit
            assert content_for(server, "127.0.0.5", "f") == content
    assert len(server.lines("dropped")) == server.counters["dropped"] == 1
