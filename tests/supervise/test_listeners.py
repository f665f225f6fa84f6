"""Binding and inheriting what is listened on."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.errors import StartError
from appliance.supervise import listeners
from appliance.supervise.service import Listen


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listeners, "_RETRY_S", 0.1)


@pytest.fixture
def bound() -> Iterator[list[socket.socket]]:
    socks: list[socket.socket] = []
    yield socks
    for sock in socks:
        sock.close()


@pytest.mark.parametrize("kind", ["udp", "tcp"])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_every_worker_gets_a_socket_on_the_same_free_port(bound: list[socket.socket], kind: str, host: str) -> None:
    bound += listeners.bind(Listen(kind, host, 0), 3)
    assert len({sock.getsockname()[:2] for sock in bound}) == 1
    assert len({sock.fileno() for sock in bound}) == 3
    assert not any(os.get_inheritable(sock.fileno()) or sock.getblocking() for sock in bound)


@pytest.mark.parametrize("kind", ["udp", "tcp"])
def test_a_second_instance_does_not_quietly_share_the_port(bound: list[socket.socket], kind: str) -> None:
    bound += listeners.bind(Listen(kind, "127.0.0.1", 0), 2)
    port = bound[0].getsockname()[1]
    with pytest.raises(StartError, match=rf"cannot listen on {kind} 127.0.0.1:{port}.*ss -lnp"):
        listeners.bind(Listen(kind, "127.0.0.1", port), 2)


def test_an_address_that_is_not_up_yet_is_bound(bound: list[socket.socket]) -> None:
    bound += listeners.bind(Listen("udp", "192.0.2.7", 0), 1)
    bound += listeners.bind(Listen("tcp", "2001:db8::7", 0), 1)
    assert [sock.getsockname()[0] for sock in bound] == ["192.0.2.7", "2001:db8::7"]


def test_both_families_can_have_the_same_port(bound: list[socket.socket]) -> None:
    bound += listeners.bind(Listen("tcp", "0.0.0.0", 0), 1)
    bound += listeners.bind(Listen("tcp", "::", bound[0].getsockname()[1]), 1)
    assert len(bound) == 2


def test_the_receive_buffer_of_a_udp_listener_is_raised(bound: list[socket.socket]) -> None:
    bound += listeners.bind(Listen("udp", "127.0.0.1", 0), 1)
    allowed = int(Path("/proc/sys/net/core/rmem_max").read_text())
    wanted = listeners.UDP_BUFFER if os.geteuid() == 0 else min(allowed, listeners.UDP_BUFFER)
    assert listeners.raise_buffer(bound[0]) >= wanted


def test_more_workers_join_a_port_that_is_bound(bound: list[socket.socket]) -> None:
    listen = Listen("udp", "127.0.0.1", 0)
    bound += listeners.bind(listen, 1)
    grown = listeners.extend(listen, bound, 3)
    assert grown[0] is bound[0]
    assert len({sock.getsockname() for sock in grown}) == 1
    assert listeners.extend(listen, grown, 2) == grown[:2]
    bound += grown[1:]


def test_a_unix_socket_replaces_a_leftover_and_is_private(tmp_path: Path) -> None:
    place = tmp_path / ("long" * 30) / "x.sock"
    place.parent.mkdir()
    listeners.bind(Listen("unix", str(place), 0), 1)[0].close()  # the name stays
    assert place.exists()
    (sock,) = listeners.bind(Listen("unix", str(place), 0), 1)
    assert stat.S_ISSOCK(place.stat().st_mode)
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    sock.close()


def test_a_file_in_the_place_of_a_unix_socket_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("kept")
    with pytest.raises(StartError, match="no socket"):
        listeners.bind(Listen("unix", str(tmp_path / "precious"), 0), 1)
    assert (tmp_path / "precious").read_text() == "kept"


def test_a_listener_that_a_worker_shut_down_is_mended() -> None:
    (sock,) = listeners.bind(Listen("tcp", "127.0.0.1", 0), 1)
    with socket.socket(fileno=os.dup(sock.fileno())) as copy:
        copy.shutdown(socket.SHUT_RD)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(sock.getsockname(), 5)
    listeners.mend([sock])
    socket.create_connection(sock.getsockname(), 5).close()
    sock.close()


def test_a_unix_socket_in_a_folder_that_cannot_be_used_is_explained(tmp_path: Path) -> None:
    (tmp_path / "x.sock").mkdir()
    with pytest.raises(StartError, match="cannot make"):
        listeners.bind(Listen("unix", str(tmp_path / "x.sock"), 0), 1)


def test_a_count_of_descriptors_that_is_none_or_too_high_is_no_traceback() -> None:
    own = str(os.getpid())
    assert listeners.inherit({"LISTEN_FDS": "\u00b2", "LISTEN_PID": own}) == {}
    os.closerange(900, 901)
    with pytest.raises(StartError, match="there is none"):
        listeners._inherited(900, "tftp", "tftp")


def environment(count: int, names: str) -> dict[str, str]:
    return {"LISTEN_FDS": str(count), "LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": names}


def passed(*socks: socket.socket) -> None:
    """Put sockets where systemd puts them, from 3 on. Only in a child process."""
    copies = [os.dup(sock.fileno()) for sock in socks]
    high = [os.dup(copy) for copy in copies]
    moved = [os.dup2(descriptor, 960 + i) for i, descriptor in enumerate(high)]
    for i, descriptor in enumerate(moved):
        os.dup2(descriptor, 3 + i)


def inherit_in_child(names: str, *socks: socket.socket) -> str:
    """The services found, or the error, from a forked child that inherits `socks`."""
    read_end, write_end = os.pipe()
    out = os.dup2(write_end, 950)  # above whatever is open here
    pid = os.fork()
    if pid == 0:
        try:
            passed(*socks)
            found = listeners.inherit(environment(len(socks), names))
            text = ",".join(f"{name}={len(s)}" for name, s in sorted(found.items()))
        except StartError as error:
            text = str(error)
        os.write(out, text.encode())
        os._exit(0)
    os.close(write_end)
    os.close(out)
    with os.fdopen(read_end, "rb") as answer:
        text = answer.read().decode()
    os.waitpid(pid, 0)
    return text


@pytest.fixture
def pair(bound: list[socket.socket]) -> list[socket.socket]:
    udp, tcp = socket.socket(type=socket.SOCK_DGRAM), socket.socket()
    udp.bind(("127.0.0.1", 0))
    tcp.bind(("127.0.0.1", 0))
    bound += [udp, tcp]
    return bound


def test_sockets_of_systemd_are_taken_by_name_in_any_order(pair: list[socket.socket]) -> None:
    udp, tcp = pair
    assert inherit_in_child("tftp:ftp", udp, tcp) == "ftp=1,tftp=1"
    assert inherit_in_child("ftp:tftp", tcp, udp) == "ftp=1,tftp=1"
    assert inherit_in_child("appliance-ftp.socket:appliance-tftp.socket:ftp-2", tcp, udp, tcp) == "ftp=2,tftp=1"


def test_a_socket_of_the_wrong_type_or_name_is_refused_with_what_to_write(pair: list[socket.socket]) -> None:
    udp, tcp = pair
    assert "use ListenDatagram= in its unit" in inherit_in_child("tftp", tcp)
    assert "use ListenStream= in its unit" in inherit_in_child("ftp", udp)
    assert "FileDescriptorName=tftp" in inherit_in_child("web", tcp)
    assert "FileDescriptorName=tftp" in inherit_in_child("", tcp)


def test_sockets_for_another_process_are_left_alone() -> None:
    assert listeners.inherit({"LISTEN_FDS": "1", "LISTEN_PID": "1", "LISTEN_FDNAMES": "tftp"}) == {}
    assert listeners.inherit({}) == {}
