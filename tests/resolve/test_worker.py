"""The resolver against a name server that answers well, badly, late and not at all."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dns.message
import pytest

from appliance import wire
from appliance.resolve.worker import prepare
from tests.ftp.serving import Process, start
from tests.resolve.names import NameServer

Heard = Callable[[], tuple[str, str]]


@pytest.fixture
def servers() -> Iterator[NameServer]:
    made = NameServer()
    yield made
    made.close()


@contextmanager
def resolver(
    folder: Path, names: list[str], port: int, conf: str = "nameserver 127.0.0.1\n"
) -> Iterator[tuple[Process, Heard]]:
    (folder / "resolv.conf").write_text(conf)
    (folder / "hosts").write_text("192.0.2.77 here.example\n")
    values = {
        "names": names,
        "log": "text",
        "port": port,
        "resolv_conf": f"{folder}/resolv.conf",
        "hosts": f"{folder}/hosts",
    }
    process = start("resolver", prepare, values, folder, folder / "log")
    process.channel.settimeout(20)

    def heard() -> tuple[str, str]:
        message = wire.parse(process.channel.recv(1000), from_child=True)
        assert isinstance(message, wire.Resolved)
        return message.name, message.address

    try:
        yield process, heard
        assert process.counters()["crashes"] == 0, process.log_text()
    finally:
        process.kill()


def test_names_are_told_from_the_network_and_from_hosts(tmp_path: Path, servers: NameServer) -> None:
    servers.zone = {"a.example": ["192.0.2.1"], "b.example": ["192.0.2.2"]}
    with resolver(tmp_path, ["a.example", "b.example", "here.example"], servers.port) as (process, heard):
        assert sorted(heard() for _ in range(3)) == [
            ("a.example", "192.0.2.1"), ("b.example", "192.0.2.2"), ("here.example", "192.0.2.77")]  # fmt: skip
        assert sorted(servers.asked) == ["a.example", "b.example"]
        process.tell(wire.Drain(1000))
        assert process.wait() == 256


def test_a_name_that_does_not_exist_is_told_and_asked_again(tmp_path: Path, servers: NameServer) -> None:
    with resolver(tmp_path, ["a.example"], servers.port) as (process, heard):
        assert heard() == ("a.example", "0.0.0.0")
        servers.zone = {"a.example": ["192.0.2.1"]}
        assert heard() == ("a.example", "192.0.2.1")  # after 5 s
        assert "lookup failed name=a.example reason=NXDOMAIN" in process.log_text()


def test_a_name_server_that_is_not_there_is_passed_over(tmp_path: Path, servers: NameServer) -> None:
    servers.zone = {"a.example": ["192.0.2.1"]}
    conf = "nameserver 127.0.0.2\nnameserver 127.0.0.1\n"  # nothing listens at the first
    with resolver(tmp_path, ["a.example"], servers.port, conf) as (_process, heard):
        assert heard() == ("a.example", "192.0.2.1")


def test_noise_and_answers_to_other_questions_are_passed_over(tmp_path: Path, servers: NameServer) -> None:
    def noisy(answer: dns.message.Message) -> bytes:
        return b"noise" if servers.asked.count("a.example") == 1 else answer.to_wire()

    def forged(answer: dns.message.Message) -> bytes:
        if servers.asked.count("b.example") == 1:
            answer.id ^= 1
        return answer.to_wire()

    servers.zone = {"a.example": ["192.0.2.1"], "b.example": ["192.0.2.2"]}
    servers.odd = {"a.example": noisy, "b.example": forged}
    with resolver(tmp_path, ["a.example", "b.example"], servers.port) as (_process, heard):
        assert sorted((heard(), heard())) == [("a.example", "192.0.2.1"), ("b.example", "192.0.2.2")]
        assert servers.asked.count("a.example") == servers.asked.count("b.example") == 2


def test_only_the_server_that_was_asked_is_heard(tmp_path: Path, servers: NameServer) -> None:
    """Somebody else who knows port and id: the socket is connected, so the kernel drops it."""
    stranger = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    stranger.bind(("127.0.0.1", 0))
    peers: list[object] = []
    inner = servers.answer

    def answer(query: dns.message.Message, name: str) -> bytes:
        lie = dns.message.from_wire(inner(query, name).replace(bytes((192, 0, 2, 1)), bytes((192, 0, 2, 66))))
        for line in Path("/proc/net/udp").read_text().splitlines()[1:]:
            local, remote = line.split()[1:3]
            if int(remote.split(":")[1], 16) == servers.port:
                peers.append(local)
                stranger.sendto(lie.to_wire(), ("127.0.0.1", int(local.split(":")[1], 16)))
        return inner(query, name)

    servers.zone = {"a.example": ["192.0.2.1"]}
    servers.answer = answer  # type: ignore[method-assign]
    with resolver(tmp_path, ["a.example"], servers.port) as (_process, heard):
        assert heard() == ("a.example", "192.0.2.1")
    assert peers
    stranger.close()


def test_it_leaves_with_its_supervisor(tmp_path: Path, servers: NameServer) -> None:
    with resolver(tmp_path, ["a.example"], servers.port) as (process, _heard):
        process.channel.close()
        assert process.wait() == 256


def test_a_silent_name_server_does_not_stop_it(tmp_path: Path, servers: NameServer) -> None:
    servers.odd = {"a.example": lambda _answer: b""}
    with resolver(tmp_path, ["a.example"], servers.port) as (process, heard):
        before = process.counters()["tick"]
        assert heard() == ("a.example", "0.0.0.0")
        assert process.counters()["tick"] > before
        assert servers.asked == ["a.example", "a.example"]
