"""ports: transfers run on ports of the range, in no order that can be foreseen."""

from __future__ import annotations

import errno
import socket

import pytest

from appliance.tftp import ports, sockets
from appliance.tftp.ports import Port, Ports, PortsFull


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
