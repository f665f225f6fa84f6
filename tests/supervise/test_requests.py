"""The data socket from port 20: every lie that a worker could tell, and the one truth."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Iterator

import pytest

from appliance.supervise.requests import ActiveConnections, Budget, Liar, Refused, rate


class Session:
    """A real control connection: our listener, the accepted socket, the client, and a place for the client's data."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.listener = socket.create_server((host, 0), family=family)
        self.client = socket.create_connection(self.listener.getsockname()[:2])
        self.control, _ = self.listener.accept()
        self.data_listener = socket.create_server((host, 0), family=family)
        self.active = ActiveConnections(0, lambda: [self.listener.getsockname()[:2]])

    @property
    def data_port(self) -> int:
        return int(self.data_listener.getsockname()[1])

    def open(self, sock: socket.socket | int | None = None, port: int = 0) -> socket.socket:
        chosen = self.control if sock is None else sock
        descriptor = chosen if isinstance(chosen, int) else chosen.fileno()
        return self.active.open(descriptor, port or self.data_port, time.monotonic())

    def close(self) -> None:
        for data, _ in self.active.under_way.values():
            data.close()
        for sock in (self.listener, self.client, self.control, self.data_listener):
            sock.close()


@pytest.fixture(params=["127.0.0.1", "::1"])
def session(request: pytest.FixtureRequest) -> Iterator[Session]:
    made = Session(request.param)
    yield made
    made.close()


def test_the_connection_goes_to_the_client_of_the_control_connection(session: Session) -> None:
    data = session.open()
    accepted, peer = session.data_listener.accept()
    assert peer[0] == session.control.getsockname()[0]
    accepted.sendall(b"x")
    data.setblocking(True)
    assert data.recv(1) == b"x"
    accepted.close()
    session.active.settle(data)
    assert session.active.under_way == {}


def test_the_source_port_is_the_one_of_the_settings(session: Session) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        session.active.source_port = free.getsockname()[1]
    data = session.open()
    accepted, peer = session.data_listener.accept()
    assert peer[1] == session.active.source_port
    accepted.close()
    data.close()


@pytest.mark.parametrize("port", [0, 1, 20, 25, 80, 1023])
def test_a_privileged_port_of_the_client_is_refused(session: Session, port: int) -> None:
    with pytest.raises(Refused) as refused:
        session.active.open(session.control.fileno(), port, time.monotonic())
    assert refused.value.errno == errno.EACCES


def test_port_1024_is_the_first_that_is_tried(session: Session) -> None:
    session.open(port=1024).close()


def test_a_second_connection_while_one_is_under_way_is_refused(session: Session) -> None:
    data = session.open()
    with pytest.raises(Refused) as refused:
        session.open()
    assert refused.value.errno == errno.EBUSY
    session.active.settle(data)
    session.active.settle(session.open())


def test_a_file_is_a_lie(session: Session) -> None:
    with open(os.devnull, "rb") as file, pytest.raises(Liar, match="no socket"):
        session.open(file.fileno())


def test_a_udp_socket_is_a_lie(session: Session) -> None:
    with socket.socket(session.control.family, socket.SOCK_DGRAM) as sock:
        sock.connect(session.listener.getsockname()[:2])
        with pytest.raises(Liar, match="no TCP socket"):
            session.open(sock)


def test_a_unix_socket_is_a_lie(session: Session) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(Liar, match="no TCP socket"):
        session.open(ours)


def test_the_listener_itself_is_no_control_connection(session: Session) -> None:
    with pytest.raises((Liar, Refused)):
        session.open(session.listener)


def test_another_listener_is_a_lie(session: Session) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises((Liar, Refused)):
        session.open(other)


def test_a_socket_that_never_was_connected_has_no_peer(session: Session) -> None:
    with socket.socket(session.control.family) as sock, pytest.raises(Refused) as refused:
        session.open(sock)
    assert refused.value.errno == errno.ENOTCONN


def test_a_connection_to_another_port_of_ours_is_a_lie(session: Session) -> None:
    """A passive data connection, for example: accepted by the worker, but not a control connection."""
    host = session.listener.getsockname()[0]
    with (
        socket.create_server((host, 0), family=session.control.family) as passive,
        socket.create_connection(passive.getsockname()[:2]) as _client,
    ):
        accepted, _ = passive.accept()
        with accepted, pytest.raises(Liar, match="not one of ours"):
            session.open(accepted)


def test_the_client_end_of_a_control_connection_is_a_lie(session: Session) -> None:
    with pytest.raises(Liar, match="not one of ours"):
        session.open(session.client)


def test_a_connection_on_another_address_with_our_port_is_a_lie() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    other = socket.create_server(("127.0.0.2", port))
    client = socket.create_connection(("127.0.0.2", port))
    accepted, _ = other.accept()
    active = ActiveConnections(0, lambda: [("127.0.0.1", port)])
    with listener, other, client, accepted, pytest.raises(Liar, match="not one of ours"):
        active.open(accepted.fileno(), 2000, time.monotonic())


def test_a_listener_on_every_address_is_ours_on_every_address() -> None:
    listener = socket.create_server(("0.0.0.0", 0))
    client = socket.create_connection(("127.0.0.3", listener.getsockname()[1]))
    accepted, _ = listener.accept()
    active = ActiveConnections(0, lambda: [("0.0.0.0", listener.getsockname()[1])])
    with listener, client, accepted:
        active.open(accepted.fileno(), 2000, time.monotonic()).close()


def test_a_client_that_hung_up_has_no_peer(session: Session) -> None:
    session.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    session.client.close()
    session.control.settimeout(60)
    with pytest.raises(ConnectionResetError):
        session.control.recv(1)
    with pytest.raises(Refused) as refused:
        session.open()
    assert refused.value.errno == errno.ENOTCONN


def test_a_client_that_has_closed_its_end_gets_no_connection(session: Session) -> None:
    """A worker that was taken over could keep the socket of a client that left long ago."""
    session.client.close()
    session.control.settimeout(60)
    assert session.control.recv(1) == b""
    with pytest.raises(Refused) as refused:
        session.open()
    assert refused.value.errno == errno.ENOTCONN


def test_connects_under_way_are_bounded_in_all(session: Session) -> None:
    """Strangers whose firewall drops the connects must not use up the supervisor's descriptors."""
    with socket.socket() as sock:
        session.active.under_way = {("192.0.2.1", port): (sock, time.monotonic() + 30) for port in range(256)}
        with pytest.raises(Refused) as refused:
            session.open()
        session.active.under_way = {}
    assert refused.value.errno == errno.EAGAIN


def test_a_connect_that_takes_too_long_is_given_up(session: Session) -> None:
    data = session.open()
    assert session.active.expire(time.monotonic()) == []
    assert session.active.expire(time.monotonic() + 31) == [data]
    session.active.settle(data)


def test_requests_are_limited_and_the_budget_fills_again() -> None:
    budget = Budget(2500, at=0.0)
    taken = sum(budget.take(0.0) for _ in range(1000))
    assert taken == 200
    assert budget.take(0.0) is False
    assert budget.take(1.0) is True


def test_a_budget_gives_its_rate_and_no_more() -> None:
    budget = Budget(100, at=0.0)
    assert sum(budget.take(0.0) for _ in range(300)) == 200
    assert sum(budget.take(second / 10) for second in range(1, 11) for _ in range(300)) == 100


@pytest.mark.parametrize(
    ("workers", "each"), [(1, 2500), (2, 2500), (3, 5000 / 3), (16, 312.5), (49, 5000 / 49), (50, 100), (64, 100)]
)
def test_the_workers_of_a_service_share_what_the_supervisor_hears(workers: int, each: float) -> None:
    assert rate(workers) == each
    assert workers * each <= 6400


def test_a_connect_that_stands_already_is_told_from_one_under_way(session: Session) -> None:
    data = session.open()
    deadline = time.monotonic() + 60
    while not session.active.stands(data):  # the other end is our own: the kernel needs no accept for it
        assert time.monotonic() < deadline
    session.active.settle(data)
    with socket.socket(session.listener.family) as alone:
        assert not session.active.stands(alone)
    refused = session.open(port=closed_port(session))
    assert not session.active.stands(refused)
    session.active.settle(refused)


def closed_port(session: Session) -> int:
    """A port on which nobody listens."""
    with socket.create_server((session.listener.getsockname()[0], 0), family=session.listener.family) as gone:
        return int(gone.getsockname()[1])


def test_what_is_settled_is_closed_and_makes_room_for_the_same_client_only(session: Session) -> None:
    with socket.socket() as other:
        session.active.under_way[("192.0.2.1", 5)] = other, time.monotonic() + 30
        data = session.open()
        session.active.settle(data)
        assert list(session.active.under_way) == [("192.0.2.1", 5)]
        session.active.settle(data)  # twice is once
        assert data.fileno() == -1
        session.active.settle(session.open())
        del session.active.under_way[("192.0.2.1", 5)]
