"""ports: transfers run on ports of the range, in no order that can be foreseen."""

from __future__ import annotations

import errno
import socket

import pytest

from appliance.tftp import ports, sockets
from appliance.tftp.ports import Port, Ports, PortsFull
from appliance.tftp.sockets import Local
from tests.tftp.client import udp


def free_ports(count: int) -> list[int]:
    """Numbers of ports that nobody has now."""
    held = [sockets.watch(socket.AF_INET) for _ in range(count)]
    numbers = [sock.getsockname()[1] for sock in held]
    for sock in held:
        sock.close()
    return numbers


def pool(numbers: list[int] | None) -> tuple[Ports, list[Port]]:
    open_now: list[Port] = []
    return Ports(open_now.append, open_now.remove, numbers), open_now


def taken(source: Ports, count: int) -> list[Port]:
    found = [source.take(socket.AF_INET) for _ in range(count)]
    assert all(found)
    return [port for port in found if port]


def finish(source: Ports, used: list[Port]) -> None:
    for port in used:
        source.give(port)
    source.close_idle()


def test_every_port_of_the_range_is_used_and_none_beside_it() -> None:
    numbers = free_ports(8)
    source, open_now = pool(numbers)
    used = taken(source, 8)
    assert {port.number for port in used} == set(numbers)
    with pytest.raises(PortsFull):
        source.take(socket.AF_INET)
    source.give(used.pop())
    used += taken(source, 1)
    finish(source, used)
    assert open_now == []
    used = taken(source, 8)
    assert {port.number for port in used} == set(numbers)
    finish(source, used)


def test_the_order_is_not_that_of_the_range() -> None:
    numbers = sorted(free_ports(12))
    orders = []
    for _ in range(3):
        source, _open_now = pool(numbers)
        used = taken(source, 12)
        orders.append([port.number for port in used])
        finish(source, used)
    assert orders != [numbers] * 3
    assert orders[0] != orders[1] or orders[1] != orders[2]


def test_a_port_that_somebody_else_has_is_passed_over_and_tried_again_later() -> None:
    numbers = free_ports(3)
    source, _open_now = pool(numbers)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("0.0.0.0", numbers[1]))
        used = taken(source, 2)
        assert {port.number for port in used} == {numbers[0], numbers[2]}
        with pytest.raises(PortsFull):
            source.take(socket.AF_INET)
    used += taken(source, 1)
    assert used[-1].number == numbers[1]
    finish(source, used)


def test_without_a_descriptor_a_range_is_not_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_family: int, _port: int = 0) -> socket.socket:
        raise OSError(errno.EMFILE, "full")

    monkeypatch.setattr(ports.sockets, "watch", full)
    with pytest.raises(OSError, match="full"):
        pool([50000])[0].take(socket.AF_INET)
    assert pool(None)[0].take(socket.AF_INET) is None


# -- a socket is kept for later transfers

HERE = Local("127.0.0.1")


@pytest.fixture
def clients():
    """Two clients."""
    made = [udp() for _ in range(2)]
    yield made
    for sock in made:
        sock.close()


@pytest.fixture
def port():
    """A pool, and a port taken from it."""
    source, _open_now = pool(None)
    (port,) = taken(source, 1)
    yield source, port
    finish(source, [port])


def test_the_next_client_gets_nothing_that_the_earlier_one_sent(port, clients) -> None:
    source, used = port
    earlier, later = clients
    first = source.connect(used, HERE, earlier.getsockname())
    for number in range(5):
        earlier.sendto(b"old %d" % number, ("127.0.0.1", used.number))
    second = source.connect(used, HERE, later.getsockname())
    assert second is first
    earlier.sendto(b"late", ("127.0.0.1", used.number))
    with pytest.raises(BlockingIOError):
        second.recv(100)
    assert used.watch.recv(100) == b"late"  # a stranger now, and answered as one
    later.sendto(b"new", ("127.0.0.1", used.number))
    assert second.recv(100) == b"new"
    second.send(b"data")
    assert later.recv(100) == b"data"


def test_an_error_that_the_earlier_client_caused_does_not_meet_the_next(port, clients) -> None:
    source, used = port
    earlier, later = clients
    sock = source.connect(used, HERE, earlier.getsockname())
    earlier.close()
    sock.send(b"to nobody")  # ICMP: port unreachable
    source.connect(used, HERE, later.getsockname()).send(b"data")
    assert later.recv(100) == b"data"


def test_a_queue_that_does_not_get_empty_costs_the_socket(port, clients, monkeypatch: pytest.MonkeyPatch) -> None:
    source, used = port
    monkeypatch.setattr(sockets, "_STALE_MAX", 2)
    first = source.connect(used, HERE, clients[0].getsockname())
    for _ in range(5):
        clients[0].sendto(b"old", ("127.0.0.1", used.number))
    second = source.connect(used, HERE, clients[1].getsockname())
    assert second is not first
    assert first.fileno() < 0
    with pytest.raises(BlockingIOError):
        second.recv(100)


def test_another_address_of_ours_needs_another_socket(port, clients) -> None:
    source, used = port
    first = source.connect(used, HERE, clients[0].getsockname())
    second = source.connect(used, Local("127.0.0.2"), clients[0].getsockname())
    assert second is not first
    second.send(b"data")
    assert clients[0].recvfrom(100) == (b"data", ("127.0.0.2", used.number))


def test_no_way_to_the_client_leaves_the_port_without_a_socket(port, clients) -> None:
    source, used = port
    source.connect(used, HERE, clients[0].getsockname())
    with pytest.raises(OSError, match="argument"):
        source.connect(used, HERE, ("192.0.2.1", 9))  # from a loopback address there is none
    assert used.sock is None


def test_a_polled_socket_is_told_of_before_it_is_closed(clients) -> None:
    told: list[int] = []
    source = Ports(lambda _port: None, lambda _port: None, dropped=lambda port: told.append(port.sock.fileno()))
    (used,) = taken(source, 1)
    source.drop(used)
    source.drop(used)
    source.connect(used, HERE, clients[0].getsockname())
    source.drop(used)
    assert told == []
    descriptor = source.connect(used, HERE, clients[0].getsockname()).fileno()
    used.polled = True
    finish(source, [used])
    assert told == [descriptor]


def test_a_secret_port_is_no_kept_one_and_is_closed_after_its_transfer() -> None:
    source, open_now = pool(None)
    kept = taken(source, 32)
    for port in kept:
        source.give(port)
    once = source.take(socket.AF_INET, secret=True)
    assert once and once.number not in {port.number for port in kept}
    source.give(once)
    assert once not in open_now and open_now == kept
    finish(source, [])


def test_a_secret_port_of_a_range_that_is_all_kept_is_any_of_them() -> None:
    numbers = free_ports(12)
    source, open_now = pool(numbers)
    orders = []
    for _ in range(4):
        for port in taken(source, 12):
            source.give(port)
        found = [source.take(socket.AF_INET, secret=True) for _ in range(12)]
        orders.append([port.number for port in found if port])
        assert set(orders[-1]) == set(numbers)
        for port in found:
            assert port and port.secret
            source.give(port)
        assert open_now == []
    assert len({tuple(order) for order in orders}) > 1
    finish(source, [])


def test_what_a_crowd_has_left_behind_goes_and_what_is_in_use_stays() -> None:
    source, open_now = pool(None)
    source.trim(100.0)
    for port in taken(source, 96):
        source.give(port)
    source.trim(130.0)  # not a minute yet
    source.trim(161.0)  # of which a part had the crowd in it
    assert len(open_now) == 96
    used = taken(source, 3)
    source.trim(222.0)
    assert len(open_now) == 16 + 3
    for port in used:
        assert port.busy and port.watch.fileno() >= 0
        source.give(port)
    finish(source, [])


def test_what_was_needed_within_the_minute_is_kept() -> None:
    source, open_now = pool(None)
    source.trim(100.0)
    for now in (161.0, 222.0, 283.0):
        used = taken(source, 80)
        assert len(open_now) <= 96
        for port in used:
            source.give(port)
        source.trim(now)
        assert len(open_now) >= 80
    finish(source, [])


def test_numbers_of_a_range_that_were_let_go_are_used_again() -> None:
    numbers = free_ports(40)
    source, open_now = pool(numbers)
    for port in taken(source, 40):
        source.give(port)
    source.trim(100.0)
    source.trim(161.0)
    assert len(open_now) == 16
    used = taken(source, 40)
    assert {port.number for port in used} == set(numbers)
    finish(source, used)
