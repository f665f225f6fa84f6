"""sockets and ports: addresses in and out, and what the kernel cuts."""

from __future__ import annotations

import errno
import socket

import pytest

from appliance.tftp import sockets
from appliance.tftp.ports import Port, Ports
from appliance.tftp.sockets import Local

FAMILIES = [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]


@pytest.fixture(params=FAMILIES, ids=["ipv4", "ipv6"])
def pair(request):
    """A listener on every address, and a client of it."""
    family, host = request.param
    with sockets.watch(family) as listener, socket.socket(family, socket.SOCK_DGRAM) as client:
        client.bind((host, 0))
        client.settimeout(60)
        yield listener, client, host


def test_the_address_that_was_asked_is_told_and_answered_from(pair) -> None:
    listener, client, host = pair
    client.sendto(b"request", (host, listener.getsockname()[1]))
    datagram = sockets.receive(listener)
    assert datagram == (b"request", Local(host), client.getsockname(), None)
    sockets.reply(listener, b"answer", datagram.local, datagram.peer)
    answer, peer = client.recvfrom(100)
    assert (answer, peer[0]) == (b"answer", host)


def test_a_request_is_cut_one_byte_above_the_largest(pair) -> None:
    listener, client, host = pair
    client.sendto(b"x" * 5000, (host, listener.getsockname()[1]))
    assert len(sockets.receive(listener).payload) == 2049


@pytest.mark.parametrize(("family", "host"), FAMILIES)
def test_a_transfer_socket_hears_its_client_and_the_watch_hears_the_others(family: int, host: str) -> None:
    with sockets.watch(family) as watch, socket.socket(family, socket.SOCK_DGRAM) as client:
        client.bind((host, 0))
        port = watch.getsockname()[1]
        with sockets.connect(Local(host), client.getsockname(), port) as transfer:
            client.sendto(b"mine", (host, port))
            with socket.socket(family, socket.SOCK_DGRAM) as stranger:
                stranger.sendto(b"foreign", (host, port))
                assert transfer.recv(100) == b"mine"
                assert watch.recv(100) == b"foreign"
            for sock in (transfer, watch):
                with pytest.raises(BlockingIOError):
                    sock.recv(100)


# the kernel tells 65535 for loopback's 65536 in IPv4
@pytest.mark.parametrize(("family", "host", "expected"), [(*FAMILIES[0], 65535 - 32), (*FAMILIES[1], 65536 - 52)])
def test_the_room_of_a_path_is_its_mtu_without_the_headers(family: int, host: str, expected: int) -> None:
    with socket.socket(family, socket.SOCK_DGRAM) as client:
        client.bind((host, 0))
        with sockets.connect(Local(host), client.getsockname(), 0) as transfer:
            assert sockets.room(transfer) == expected


def test_the_kernel_cuts_a_window_into_packets_until_it_is_told_not_to() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.bind(("127.0.0.1", 0))
        client.settimeout(60)
        with sockets.connect(Local("127.0.0.1"), client.getsockname(), 0) as transfer:
            assert sockets.segment(transfer, 100) == 64
            transfer.send(b"a" * 100 + b"b" * 100 + b"c" * 7)
            assert [client.recv(1000)[:1] * 2 for _ in range(3)] == [b"aa", b"bb", b"cc"]
            sockets.segment_no_more(transfer)
            transfer.send(b"d" * 300)
            assert len(client.recv(1000)) == 300


@pytest.mark.parametrize(("stride", "run"), [(12, 64), (1432, 45), (32753, 2), (32754, 1), (65468, 1)])
def test_a_send_carries_at_most_64_segments_and_65507_bytes(stride: int, run: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        assert sockets.segment(sock, stride) == run


def test_an_address_that_is_not_ours_is_an_error_and_leaves_nothing_open() -> None:
    with pytest.raises(OSError, match="assign") as caught:
        sockets.connect(Local("192.0.2.1"), ("127.0.0.1", 9), 0)
    assert caught.value.errno == errno.EADDRNOTAVAIL


def test_a_mapped_client_is_an_ipv4_client() -> None:
    assert sockets.unmapped(Local("::ffff:10.0.0.1"), ("::ffff:10.0.0.2", 5, 0, 0)) == (
        Local("10.0.0.1"),
        ("10.0.0.2", 5),
    )
    assert sockets.unmapped(Local("::1"), ("::1", 5, 0, 0)) == (Local("::1"), ("::1", 5, 0, 0))


@pytest.fixture
def ports():
    """Ports, and the list of those that exist."""
    existing: list[Port] = []
    made = Ports(existing.append, existing.remove)
    yield made, existing
    made.close_idle()


def test_sixteen_other_ports_lie_between_two_uses_of_one(ports) -> None:
    made, _existing = ports
    numbers = []
    for _ in range(40):
        port = made.take(socket.AF_INET)
        numbers.append(port.number)
        made.give(port)
    for at, number in enumerate(numbers):
        assert number not in numbers[at + 1 : at + 16]
    assert len(set(numbers)) == 16


def test_no_port_is_given_out_twice(ports) -> None:
    made, existing = ports
    others = Ports(existing.append, existing.remove)  # another worker of the same account
    taken = [each.take(socket.AF_INET) for _ in range(400) for each in (made, others)]
    assert len({port.number for port in taken}) == 800
    for port in taken:
        others.close(port)


def test_a_port_is_busy_while_it_is_taken(ports) -> None:
    made, existing = ports
    port = made.take(socket.AF_INET6)
    assert port.busy and existing == [port]
    made.give(port)
    assert not port.busy


def test_idle_ports_beyond_256_are_closed(ports) -> None:
    made, existing = ports
    taken = [made.take(socket.AF_INET) for _ in range(300)]
    for port in taken:
        made.give(port)
    assert len(existing) == 256
    made.close_idle()
    assert existing == []


def test_without_a_descriptor_for_the_watch_there_is_no_port(ports, monkeypatch: pytest.MonkeyPatch) -> None:
    made, _existing = ports

    def full(family: int) -> None:
        raise OSError(errno.EMFILE, "no more")

    monkeypatch.setattr(sockets, "watch", full)
    assert made.take(socket.AF_INET) is None
