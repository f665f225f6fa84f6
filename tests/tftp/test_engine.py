"""The engine against hostile and odd clients: one of them suffers at most, the server never does."""

from __future__ import annotations

import os
import random
import socket
import stat
from dataclasses import replace

import pytest

from appliance import wire
from appliance.tftp import sockets
from tests.tftp.client import PATIENCE_S, Fetch, RefusedError, ack, answer, fetch, options_of, rrq, udp
from tests.tftp.server import QUICK, SETTINGS, Server, until
from tests.tftp.test_packet import KILLERS

SILENCE_S = 0.05


def put(server: Server, name: str, content: bytes = b"content") -> bytes:
    (server.root / name).write_bytes(content)
    return content


def quiet(sock: socket.socket) -> bool:
    """Nothing more is on its way: a request that is answered at once was answered, and nothing else had come."""
    sock.settimeout(SILENCE_S)
    try:
        sock.recv(65536)
    except TimeoutError:
        return True
    finally:
        sock.settimeout(60)
    return False


# -- datagrams that end other servers


@pytest.mark.parametrize("family", ["address", "address6"])
def test_no_datagram_ends_or_stops_the_server(server: Server, family: str) -> None:
    put(server, "boot")
    address = getattr(server, family)
    os.mkdir(server.root / "dir")
    source = random.Random(5)
    with udp(address[0]) as sock:
        for datagram in [*KILLERS, source.randbytes(65_000), rrq("dir"), rrq("dir", opcode=2), rrq("dir/")]:
            sock.sendto(datagram, address)
            assert fetch(address, "boot") == b"content"
    assert server.alive()
    assert server.counters["crashes"] == 0
    assert server.counters["dropped"] > 10


def test_garbage_on_the_port_of_a_transfer_disturbs_nothing(server: Server) -> None:
    content = put(server, "f", os.urandom(5000))
    with udp() as sock:

        def disturb(block: int, tries: int) -> bool:
            for datagram in KILLERS:
                if datagram[:2] != b"\0\5":
                    sock.sendto(datagram, download.tid)
            return False

        download = Fetch(server.address, "f", sock=sock, lose=disturb)
        assert download.run() == content
    assert server.counters["crashes"] == 0


@pytest.mark.parametrize("value", ["abc", "", "-1", "0", "7", "99999999999999999999", "\uff11"])
@pytest.mark.parametrize("name", ["blksize", "windowsize", "timeout", "utimeout", "tsize", "rollover", "multicast"])
def test_no_option_value_hurts(lasting: Server, name: str, value: str) -> None:
    content = put(lasting, "f", b"z" * 1000)
    raw = b"\0\1f\0octet\0" + name.encode() + b"\0" + value.encode() + b"\0"
    download = Fetch(lasting.address, "f")
    download.request = raw
    assert download.run() == content
    most = {"tsize": "1000", "windowsize": "64", "blksize": "65464"}
    legal = most.get(name, value) if name in ("tsize", "blksize") or len(value) > 9 else value
    assert download.agreed in ({}, {name: legal})


def test_a_blksize_beyond_the_rfc_is_lowered_and_the_file_comes(server: Server) -> None:  # a 64 KiB block ends tftpy
    content = put(server, "f", os.urandom(200_000))
    for asked in (65465, 65504, 65535, 65536):
        download = Fetch(server.address, "f", {"blksize": asked})
        assert download.run() == content
        assert download.agreed == {"blksize": "65464"}


# -- what is refused, and what the peer is told


def make_fifo(path: str) -> None:
    os.mkfifo(path, 0o644)


def make_socket(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
    os.chmod(path, 0o644)


def make_unreadable(path: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write("secret")
    os.chmod(path, 0o640)


REFUSALS = {
    "fifo": (make_fifo, 2),
    "socket": (make_socket, 2),
    "dir": (os.mkdir, 2),
    "dangling": (lambda path: os.symlink("nowhere", path), 1),
    "loop": (lambda path: os.symlink("loop", path), 1),
    "absolute": (lambda path: os.symlink("/etc/passwd", path), 1),
    "upwards": (lambda path: os.symlink("../outside", path), 1),
    "root-link": (lambda path: os.symlink("/", path), 2),
    "private": (make_unreadable, 2),
}


@pytest.mark.parametrize("kind", REFUSALS)
def test_what_is_no_readable_file_inside_the_root_is_refused_at_once(server: Server, kind: str) -> None:
    make, code = REFUSALS[kind]
    (server.root.parent / "outside").write_text("outside")
    make(str(server.root / kind))
    with pytest.raises(RefusedError) as caught:
        fetch(server.address, kind)
    assert caught.value.code == code
    assert caught.value.text in ("File not found", "Access violation")
    assert server.counters["refused"] == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a device node")
def test_a_device_is_refused(server: Server) -> None:
    os.mknod(server.root / "zero", 0o644 | stat.S_IFCHR, os.makedev(1, 5))
    with pytest.raises(RefusedError, match="2 Access violation"):
        fetch(server.address, "zero")


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("../outside", 2), ("a/../../outside", 2), ("..", 2), ("..\\outside", 2), ("/../outside", 2), ("", 1),
        ("/", 1), ("./.", 1), ("f/x", 1), ("n" * 255, 1), ("n" * 256, 2), ("missing", 1),
    ],
)  # fmt: skip
def test_names_that_are_refused(lasting: Server, name: str, code: int) -> None:
    (lasting.root.parent / "outside").write_text("outside")
    put(lasting, "f")
    with pytest.raises(RefusedError) as caught:
        fetch(lasting.address, name)
    assert caught.value.code == code
    assert str(lasting.root) not in caught.value.text


@pytest.mark.parametrize("name", ["d/f", "/d/f", "//d///f", "\\d\\f", "./d/./f", "d\\/f"])
def test_slashes_of_every_kind_name_the_same_file(server: Server, name: str) -> None:
    (server.root / "d").mkdir()
    content = put(server, "d/f")
    assert fetch(server.address, name) == content


def test_a_name_of_strange_bytes_is_served_and_escaped_in_the_log(server: Server) -> None:
    name = b"caf\xe9\x1b[2J\n$(x)"
    with open(os.fsencode(server.root) + b"/" + name, "wb") as file:
        file.write(b"strange")
    assert fetch(server.address, name) == b"strange"
    assert "file=caf\\xe9\\x1b[2J\\x0a$(x) " in server.first("transfer")


def test_relative_links_inside_the_root_are_followed(server: Server) -> None:  # Debian's installer tree has four
    (server.root / "boot-screens").mkdir()
    (server.root / "cfg").symlink_to("boot-screens")
    content = put(server, "boot-screens/syslinux.cfg")
    (server.root / "boot-screens/default").symlink_to("../boot-screens/syslinux.cfg")
    assert fetch(server.address, "cfg/default") == content


def test_private_files_are_served_when_the_settings_say_so(start) -> None:
    server = start(replace(SETTINGS, world_readable_only=False))
    make_unreadable(str(server.root / "f"))
    assert fetch(server.address, "f") == b"secret"


def test_uploads_are_refused_and_touch_nothing(server: Server) -> None:
    put(server, "f")
    for name in ("f", "new", "../x"):
        with udp() as sock:
            sock.sendto(rrq(name, {"tsize": 5}, opcode=2), server.address)
            assert sock.recv(600) == b"\0\5\0\2uploads are not accepted here\0"
    assert os.listdir(server.root) == ["f"]
    assert (server.root / "f").read_bytes() == b"content"


@pytest.mark.parametrize("mode", ["mail", "", "octett", "\x7f"])
def test_other_modes_are_refused(server: Server, mode: str) -> None:
    put(server, "f")
    with pytest.raises(RefusedError, match="4 mode is neither octet nor netascii"):
        fetch(server.address, "f", mode=mode)


def test_the_mode_may_be_written_in_any_case(server: Server) -> None:
    assert fetch(server.address, "f" if put(server, "f") else "", mode="OcTeT") == b"content"


def test_a_padded_request_is_served(server: Server) -> None:
    content = put(server, "f")
    download = Fetch(server.address, "f")
    download.request += b"\0" * 400
    assert download.run() == content


def test_a_refusal_is_logged_with_client_and_file_and_repeats_are_not(server: Server) -> None:
    for _ in range(5):
        with pytest.raises(RefusedError):
            fetch(server.address, "missing")
    line = server.only("refused")
    assert "client=127.0.0.1:" in line
    assert 'file=missing cause="No such file or directory"' in line
    assert server.counters["refused"] == 5


# -- transfer identity


def strangers(server: Server) -> tuple[socket.socket, socket.socket]:
    return udp(server.address[0]), udp(server.address[0])


@pytest.mark.parametrize("family", ["address", "address6"])
@pytest.mark.parametrize("datagram", [ack(1), ack(0), b"\0\3\0\1data", b"\0\6x\0y\0", rrq("f")])
def test_a_stranger_gets_error_5_at_every_step_and_disturbs_nothing(server: Server, family, datagram) -> None:
    content = put(server, "f", os.urandom(4 * 512 + 100))
    address = getattr(server, family)
    with udp(address[0]) as stranger, udp(address[0]) as sock:

        def meddle(block: int, tries: int) -> bool:
            stranger.sendto(datagram, download.tid)
            answer, peer = stranger.recvfrom(600)
            assert answer == b"\0\5\0\5Unknown transfer ID\0"
            assert peer == download.tid
            return False

        download = Fetch(address, "f", sock=sock, lose=meddle)
        assert download.run() == content
    until(lambda: server.counters["active"] == 0, "the end")
    assert server.counters["retransmits"] == server.counters["failed"] == 0


def test_a_port_used_again_hears_nothing_of_its_last_client(server: Server) -> None:
    content = put(server, "f", os.urandom(600))
    with udp() as last, udp() as stranger:
        download = Fetch(server.address, "f", sock=last)
        assert download.run() == content
        for _ in range(100):
            for block in (1, 2, 1):
                last.sendto(ack(block), download.tid)
            with udp() as sock:
                packet, tid = answer(sock, rrq("f"), server.address)
                if tid != download.tid:
                    sock.sendto(b"\0\5\0\0enough\0", tid)
                    continue
                last.sendto(ack(1), tid)
                assert last.recv(600) == b"\0\5\0\5Unknown transfer ID\0"
                stranger.sendto(ack(1), tid)
                assert stranger.recv(600) == b"\0\5\0\5Unknown transfer ID\0"
                sock.sendto(ack(1), tid)
                assert packet[4:] + sock.recv(600)[4:] == content
                sock.sendto(ack(2), tid)
                until(lambda: server.counters["active"] == 0, "the end")
                assert server.counters["transfers"] == 2
                return
    raise AssertionError("the port was never used again")


def far() -> None:
    """Nobody is near, as on an address of the Internet."""
    from appliance.tftp import worker

    worker.near_networks = lambda *_routes: []  # type: ignore[assignment]


def test_nobody_learns_from_transfers_of_his_own_which_port_a_forged_request_will_get(start) -> None:
    server = start(QUICK, sabotage=far)
    content = put(server, "f")
    learnt = set()
    for number in range(1, 33):  # more than are kept before they come round
        with udp() as sock:
            download = Fetch(server.address, "f", sock=sock)
            assert download.run() == content
            learnt.add(download.tid[1])
        until(lambda: server.counters["transfers"] == number, "the end")  # noqa: B023
    held = len(os.listdir(f"/proc/{server.pid}/fd"))
    found = []
    with udp("127.0.0.7") as victim:
        for name in ("f", "./f", ".//f"):
            victim.sendto(rrq(name), server.address)
            found.append(victim.recvfrom(600)[1][1] in learnt)
        assert found.count(True) < 2, "by chance it is one in a thousand"
        until(lambda: server.counters["active"] == 0, "the end of the forged ones")
    assert len(os.listdir(f"/proc/{server.pid}/fd")) == held


def test_a_scan_of_the_ports_does_not_tell_which_one_a_client_from_afar_has(start) -> None:
    server = start(replace(SETTINGS, timeout=5.0), sabotage=far)
    put(server, "f", bytes(1100))
    with udp() as client, udp("127.0.0.66") as scan, udp() as beside:
        client.sendto(rrq("f"), server.address)
        tid = client.recvfrom(600)[1]
        for block in (1, 2):
            scan.sendto(ack(1), tid)
            beside.sendto(ack(1), tid)  # from the client's own address: it may have lost its way
            assert beside.recv(600)[:4] == b"\0\5\0\5"
            client.sendto(ack(block), tid)
            assert client.recv(600)[:4] == b"\0\3\0" + bytes([block + 1])
        scan.setblocking(False)
        with pytest.raises(BlockingIOError):
            scan.recv(600)
        client.sendto(ack(3), tid)


def test_a_stranger_is_heard_before_the_first_ack_too(server: Server) -> None:
    put(server, "f")
    with udp() as sock, udp() as stranger:
        sock.sendto(rrq("f", {"tsize": 0}), server.address)
        _oack, tid = sock.recvfrom(600)
        stranger.sendto(ack(0), tid)
        assert stranger.recv(600)[:4] == b"\0\5\0\5"
        sock.sendto(ack(0), tid)
        assert sock.recv(600) == b"\0\3\0\1content"
        sock.sendto(ack(1), tid)


@pytest.mark.parametrize("datagram", [b"\0\5\0\0stop\0", b"\0\5\0\x08stop\0", b"", b"x", b"\xff" * 1000])
def test_an_error_or_garbage_of_a_stranger_gets_no_answer_and_disturbs_nothing(server: Server, datagram) -> None:
    content = put(server, "f", os.urandom(3000))
    with udp() as stranger:

        def meddle(block: int, tries: int) -> bool:
            stranger.sendto(datagram, download.tid)
            return False

        download = Fetch(server.address, "f", lose=meddle)
        assert download.run() == content
        assert quiet(stranger)


def test_a_repeated_request_is_one_session(server: Server) -> None:
    put(server, "f", b"x" * 2000)
    with udp() as sock:
        for _ in range(4):
            sock.sendto(rrq("f"), server.address)
        packet, tid = sock.recvfrom(600)
        assert packet[:4] == b"\0\3\0\1"
        assert fetch(server.address, "f") == b"x" * 2000  # all four were seen by now
        assert quiet(sock)
        assert server.counters["active"] == 1
        for block in range(1, 5):
            sock.sendto(ack(block), tid)
        until(lambda: server.counters["transfers"] == 2, "the end")


def test_the_same_request_to_another_of_our_addresses_is_another_one(start) -> None:
    server = start(host="0.0.0.0")
    put(server, "f")
    with udp("0.0.0.0") as sock:
        for host in ("127.0.0.1", "127.0.0.2"):
            sock.sendto(rrq("f"), (host, server.address[1]))
            assert sock.recvfrom(600)[1][0] == host


def test_a_late_duplicate_of_the_request_does_not_disturb_the_running_transfer(server: Server) -> None:
    content = put(server, "f", os.urandom(5000))
    with udp() as sock:

        def again(block: int, tries: int) -> bool:
            sock.sendto(download.request, server.address)
            return False

        download = Fetch(server.address, "f", sock=sock, lose=again)
        assert download.run() == content


def test_one_port_may_ask_for_one_file_after_the_other_at_once(server: Server) -> None:  # lpxelinux
    with udp() as sock:
        for number in range(20):
            content = put(server, f"f{number}", os.urandom(1000 + number))
            sock_fetch = Fetch(server.address, f"f{number}", {"tsize": 0, "blksize": 1408}, sock=sock)
            assert sock_fetch.run() == content
            with pytest.raises(RefusedError):
                Fetch(server.address, "missing", sock=sock).run()


def test_another_request_of_one_port_starts_while_the_last_ack_of_the_first_is_missing(server: Server) -> None:
    put(server, "one", b"1" * 512 + b"end")
    put(server, "two", b"2")
    with udp() as sock:
        sock.sendto(rrq("one"), server.address)
        _block, tid = sock.recvfrom(600)
        sock.sendto(ack(1), tid)
        assert sock.recv(600) == b"\0\3\0\2end"
        sock.sendto(rrq("two"), server.address)
        packet, second = sock.recvfrom(600)
        assert packet == b"\0\3\0\x012"
        assert second != tid
        until(lambda: server.counters["active"] == 1, "the end of the first")
        sock.sendto(ack(1), second)


def test_a_forged_request_does_not_end_a_running_transfer(server: Server) -> None:
    content = put(server, "f", os.urandom(3000))
    put(server, "g", b"g")
    with udp() as sock:
        sock.sendto(rrq("f"), server.address)
        packet, tid = sock.recvfrom(600)
        got = packet[4:]
        sock.sendto(ack(1), tid)
        got += sock.recv(600)[4:]
        sock.sendto(rrq("g"), server.address)  # as anybody could, under this address and port
        packet, other = sock.recvfrom(600)
        assert other != tid
        for block in range(2, 7):
            sock.sendto(ack(block), tid)
            if block < 6:
                packet, peer = sock.recvfrom(600)
                assert peer == tid
                got += packet[4:]
    assert got == content


def test_an_error_after_the_oack_ends_quietly(server: Server) -> None:  # EDK2 and its size probe
    put(server, "f", b"x" * 100)
    for code in (0, 8):
        with udp() as sock:
            sock.sendto(rrq("f", {"tsize": 0, "blksize": 1468, "windowsize": 4}), server.address)
            packet, tid = sock.recvfrom(600)
            assert options_of(packet) == {"tsize": "100", "blksize": "1468", "windowsize": "4"}
            sock.sendto(bytes((0, 5, 0, code)) + b"User aborted the transfer\0", tid)
            until(lambda: server.counters["active"] == 0, "the end")
    assert server.counters["failed"] == server.counters["retransmits"] == 0
    until(lambda: len(server.lines("transfer")) == 2, "the records")
    assert [line.rpartition(" ")[2] for line in server.lines("transfer")] == ["outcome=probe"] * 2


# -- silence and repeats


def packets_of(sock: socket.socket, silence_s: float) -> list[bytes]:
    """Everything that comes until nothing came for `silence_s`."""
    sock.settimeout(silence_s)
    packets = []
    try:
        while len(packets) < 1000:
            packets.append(sock.recv(70000))
    except TimeoutError:
        pass
    return packets


@pytest.mark.parametrize("options", [{}, {"blksize": 1428, "windowsize": 64, "tsize": 0}])
def test_a_requester_that_never_answers_gets_three_small_packets(start, options: dict) -> None:
    server = start(QUICK)
    put(server, "f", b"x" * 100_000)
    with udp() as sock:
        sock.sendto(rrq("f", options), server.address)
        until(lambda: server.lines("unanswered"), "the end")
        packets = packets_of(sock, 1.0)
    assert len(packets) == 3
    assert sum(map(len, packets)) <= 3 * 516
    until(lambda: server.counters["active"] == 0, "the end")
    until(lambda: server.lines("unanswered"), "the record")
    assert server.lines("transfer") == []
    assert len(server.lines("unanswered")) == 1


def test_every_packet_and_ack_twice_does_not_multiply_anything(server: Server) -> None:
    content = put(server, "f", os.urandom(200 * 512 + 5))
    for window in (1, 8):
        download = Fetch(server.address, "f", {"windowsize": window})
        once = download._ack
        download._ack = lambda block, rollover, once=once: (once(block, rollover), once(block, rollover))
        assert download.run() == content
        assert download.blocks <= 2 * 201 + window


def test_a_lost_last_ack_is_asked_for_again(server: Server) -> None:
    put(server, "f", b"last")
    with udp() as sock:
        sock.sendto(rrq("f"), server.address)
        first, tid = sock.recvfrom(600)
        assert sock.recv(600) == first
        sock.sendto(ack(1), tid)
        until(lambda: server.counters["transfers"] == 1, "the end")


def test_a_client_that_falls_silent_is_given_up(start) -> None:
    server = start(replace(SETTINGS, timeout=0.05, give_up_after=2.0))
    put(server, "f", b"x" * 100_000)
    with udp() as sock:
        sock.sendto(rrq("f", {"windowsize": 4}), server.address)
        _oack, tid = sock.recvfrom(600)
        sock.sendto(ack(0), tid)
        sock.recv(600)
        sock.sendto(ack(4), tid)
        until(lambda: server.counters["failed"] == 1, "the end")
    line = server.only("transfer")
    assert line.endswith('outcome="timed out"')
    assert "bytes=2048 " in line


def test_a_closed_port_ends_the_transfer_at_once(server: Server) -> None:
    put(server, "f", b"x" * 100_000)
    sock = udp()
    sock.sendto(rrq("f", {"windowsize": 4}), server.address)
    _oack, tid = sock.recvfrom(600)
    sock.sendto(ack(0), tid)
    sock.recv(600)
    sock.close()
    until(lambda: server.counters["active"] == 0, "the end")
    assert server.first("transfer").endswith('outcome="client gone"')


def test_the_agreed_timeout_is_the_time_of_the_first_repeat(start) -> None:
    server = start(QUICK)
    put(server, "f", b"x" * 2000)
    with udp() as sock:
        sock.sendto(rrq("f", {"timeout": 4}), server.address)
        _oack, tid = sock.recvfrom(600)
        sock.sendto(ack(0), tid)
        sock.recv(600)
        sock.settimeout(0.6)  # the server's own would be 0.2 s
        with pytest.raises(TimeoutError):
            sock.recv(600)
        sock.settimeout(PATIENCE_S)
        assert sock.recv(600)[:4] == b"\0\3\0\1"
        sock.sendto(b"\0\5\0\0\0", tid)


# -- addresses


@pytest.mark.parametrize("asked", ["127.0.0.1", "127.0.0.2", "127.3.2.1"])
def test_the_answer_leaves_from_the_address_that_was_asked(start, asked: str) -> None:
    server = start(host="0.0.0.0")
    put(server, "f")
    target = (asked, server.address[1])
    for name, first in (("f", b"\0\3\0\1content"), ("missing", b"\0\5\0\1File not found\0")):
        with udp("0.0.0.0") as sock:
            sock.sendto(rrq(name), target)
            answer, peer = sock.recvfrom(600)
            assert answer == first
            assert peer[0] == asked
            sock.sendto(ack(1), peer)


def test_a_request_to_a_broadcast_address_is_ignored(start) -> None:
    server = start(host="0.0.0.0")
    put(server, "f")
    with udp("127.0.0.1") as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sock.sendto(rrq("f"), ("127.255.255.255", server.address[1]))
        until(lambda: server.counters["dropped"] == 1, "the datagram")
        assert quiet(sock)


def test_an_ipv4_client_of_a_dual_stack_listener_is_served_as_ipv4(server: Server) -> None:
    content = put(server, "f", os.urandom(3000))
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as both:
        both.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sockets.tell_destination(both)
        both.bind(("::", 0))
        port = both.getsockname()[1]
        server.tell(wire.Adopt(1), both.fileno())
        for host in ("127.0.0.1", "127.0.0.2", "::1"):
            assert fetch((host, port), "f", {"blksize": 1428, "windowsize": 4}) == content
            with pytest.raises(RefusedError, match="1 File not found"):
                fetch((host, port), "missing")
    until(lambda: len(server.lines("transfer")) == 3, "the records")
    assert "client=127.0.0.1:" in server.first("transfer")


# -- what is learnt


def test_a_client_that_never_gets_a_full_block_is_offered_smaller_ones(start) -> None:
    server = start(replace(SETTINGS, timeout=0.3, give_up_after=1.0))
    put(server, "f", b"x" * 5000)
    for expected in (1400, 1200, 512):
        with udp() as sock:
            sock.sendto(rrq("f", {"blksize": 1400, "windowsize": 2}), server.address)
            oack, tid = sock.recvfrom(600)
            assert options_of(oack)["blksize"] == str(expected)
            sock.sendto(ack(0), tid)
            assert len(sock.recv(2000)) == 4 + expected
            failed = server.counters["failed"]
            until(lambda failed=failed: server.counters["failed"] > failed, "the end")
    with udp("127.0.0.2") as other:
        other.sendto(rrq("f", {"blksize": 1400}), server.address)
        assert options_of(other.recv(600)) == {"blksize": "1400"}


# -- who is served


@pytest.mark.parametrize(
    ("allow", "deny", "served"),
    [
        ((), (), True), (("127.0.0.0/8",), (), True), (("192.0.2.0/24",), (), False),
        (("127.0.0.0/8",), ("127.0.0.1",), False), ((), ("127.0.0.0/8",), False), ((), ("::/0",), True),
    ],
)  # fmt: skip
def test_allow_and_deny_and_deny_wins(start, allow, deny, served: bool) -> None:
    server = start(replace(SETTINGS, allow=allow, deny=deny))
    put(server, "f")
    if served:
        assert fetch(server.address, "f") == b"content"
        return
    with udp() as sock:
        sock.sendto(rrq("f"), server.address)
        until(lambda: server.counters["dropped"] == 1, "the datagram")
        assert quiet(sock)


@pytest.mark.parametrize(("cap", "of"), [("transfers", 3), ("per_client", 2)])
def test_requests_over_a_cap_are_dropped_and_served_when_there_is_room(start, cap: str, of: int) -> None:
    server = start(replace(SETTINGS, timeout=5.0, limits=replace(SETTINGS.limits, **{cap: of})))
    put(server, "f", b"x" * 2000)
    running = []
    for _ in range(of):
        sock = udp()
        sock.sendto(rrq("f"), server.address)
        _block, tid = sock.recvfrom(600)
        sock.sendto(ack(1), tid)
        sock.recv(600)
        running.append((sock, tid))
    with udp() as late:
        late.sendto(rrq("f"), server.address)
        until(lambda: server.counters["dropped"] == 1, "the datagram")
        for sock, tid in running:
            sock.sendto(b"\0\5\0\0\0", tid)
            sock.close()
        until(lambda: server.counters["active"] == 0, "room")
        late.sendto(rrq("f"), server.address)
        packet, tid = late.recvfrom(600)
        assert packet[:4] == b"\0\3\0\1"
        late.sendto(b"\0\5\0\0\0", tid)


def test_ten_thousand_half_open_requests_leave_room_for_a_good_client(start) -> None:
    server = start(replace(SETTINGS, timeout=1.0, limits=replace(SETTINGS.limits, per_client=65536)), sabotage=few)
    content = put(server, "f", os.urandom(300_000))
    with udp() as flood:
        half_open = [udp() for _ in range(50)]
        for turn in range(200):
            for sock in half_open:
                sock.sendto(rrq("f", {"tsize": 0, "x": turn}), server.address)
            if turn % 40 == 0:
                assert fetch(server.address, "f", {"blksize": 1428, "windowsize": 8}) == content
        flood.sendto(b"", server.address)
        assert server.counters["active"] <= 33
        assert server.counters["crashes"] == 0
        for sock in half_open:
            sock.close()


def few() -> None:
    """A half-open pool that a test can fill."""
    from appliance.tftp import engine

    engine.HALF_OPEN_MAX = 32


def test_a_crash_ends_one_session_with_a_constant_and_the_server_lives(start) -> None:
    server = start(sabotage=crash_on_block_3)
    put(server, "f", b"x" * 5000)
    other = put(server, "short", b"y" * 600)
    with pytest.raises(RefusedError, match="0 Internal error"):
        fetch(server.address, "f")
    until(lambda: server.counters["active"] == 0, "the end")
    assert server.counters["crashes"] == 1
    assert fetch(server.address, "short") == other
    line = server.only("crash")
    assert "ZeroDivisionError" in line


def crash_on_block_3() -> None:
    from appliance.tftp.sources import GapBuffer

    plain = GapBuffer.packets

    def packets(self: GapBuffer, first: int, count: int) -> memoryview:
        return plain(self, first // (3 - first), count) if first == 3 else plain(self, first, count)

    GapBuffer.packets = packets  # type: ignore[method-assign]


def test_a_crash_while_a_request_is_read_ends_nothing(start) -> None:
    server = start(sabotage=crash_on_a_name)
    put(server, "f")
    with udp() as sock:
        sock.sendto(rrq("bang"), server.address)
        until(lambda: server.counters["crashes"] == 1, "the crash")
    assert fetch(server.address, "f") == b"content"


def crash_on_a_name() -> None:
    from appliance.tftp import lookup

    plain = lookup.open_path

    def open_path(path, **more):
        return plain(path, **more) if path != b"bang" else 1 // 0

    lookup.open_path = open_path
