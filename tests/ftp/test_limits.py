"""Caps, networks and time-outs of the FTP worker; what 1,000 silent clients can do."""

from __future__ import annotations

import os
import resource
import socket
import time
from pathlib import Path

import pytest

from appliance.settings.ftp import FtpBans, FtpNetwork
from tests.ftp.serving import SECONDS, Server, read_all, server, settings, store, until


def greeting(running: Server, source: str = "127.0.0.1") -> tuple[socket.socket, str]:
    sock = socket.create_connection((running.host, running.port), SECONDS, source_address=(source, 0))
    return sock, sock.recv(200).decode()


def test_sessions_beyond_the_cap_of_one_client_get_421_and_others_are_served(tree: Path) -> None:
    with server(tree, settings(limits={"sessions_per_client": 2})) as running:
        one, two = greeting(running)[0], greeting(running)[0]
        three, text = greeting(running)
        assert text.startswith("421") and "your address" in text
        assert read_all(three) == b""
        other, text = greeting(running, "127.0.0.2")
        assert text.startswith("220")
        one.close()

        def admitted() -> bool:
            sock, text = greeting(running)
            sock.close()
            return text.startswith("220")

        until(admitted)
        for sock in (two, other):
            sock.close()


def test_sessions_beyond_the_cap_of_all_get_421(tree: Path) -> None:
    with server(tree, settings(limits={"sessions": 2})) as running:
        held = [greeting(running, f"127.0.0.{n}") for n in range(1, 4)]
        assert [text[:3] for _sock, text in held] == ["220", "220", "421"]
        for sock, _text in held:
            sock.close()


def test_data_connections_and_listeners_take_no_seats(tree: Path) -> None:
    two = settings(limits={"sessions": 2, "sessions_per_client": 2})
    with server(tree, two) as running, running.raw() as one, running.raw() as other:
        for _ in range(10):
            one.passive()
            assert other.get("NLST")
        assert running.worker.counters()["active"] == 2


def test_denied_networks_are_told_so_before_anything_else(tree: Path) -> None:
    with server(tree, settings(deny=("127.0.0.2/32",))) as running:
        sock, text = greeting(running, "127.0.0.2")
        assert text.startswith("421")
        sock.close()
        sock, text = greeting(running)
        assert text.startswith("220")
        sock.close()
        until(
            lambda: (
                'refused client=127.0.0.2 reason="This service is not for your address."' in running.worker.log_text()
            )
        )


def test_only_allowed_networks_are_served(tree: Path) -> None:
    with server(tree, settings(allow=("127.0.0.2/32",))) as running:
        for source, code in (("127.0.0.1", "421"), ("127.0.0.2", "220")):
            sock, text = greeting(running, source)
            assert text.startswith(code)
            sock.close()


def test_no_login_in_time_is_421_however_busy_the_client(tree: Path) -> None:
    with server(tree, settings(limits={"login_timeout": 1.0})) as running, running.raw(log_in=False) as raw:
        replies = []
        while not replies or not replies[-1].startswith("421"):
            replies.append(raw.ask("NOOP"))
            assert len(replies) < 1_000_000
        assert raw.closed()


def test_an_idle_session_is_421_and_a_busy_one_is_not(tree: Path) -> None:
    with server(tree, settings(limits={"idle_timeout": 2.0})) as running, running.raw() as raw, running.raw() as busy:
        raw.sock.setblocking(False)
        while True:
            try:
                text = raw.sock.recv(100)
                break
            except BlockingIOError:
                assert busy.ask("NOOP").startswith("200")
        assert text.startswith(b"421")
        assert busy.ask("NOOP").startswith("200")


def test_the_idle_timeout_never_meets_a_transfer(tree: Path) -> None:
    with open(tree / "huge", "wb") as huge:
        huge.truncate(1 << 28)
    with server(tree, settings(limits={"idle_timeout": 1.0, "stall_timeout": 30.0})) as running, running.raw() as raw:
        raw.ask("TYPE I")
        data = raw.passive()
        assert raw.ask("RETR huge").startswith("150")
        begun = running.worker.counters()["tick"]
        until(lambda: running.worker.counters()["tick"] > begun + 2.5e9)
        assert len(read_all(data)) == 1 << 28
        assert raw.reply().startswith("226")


def test_a_transfer_that_stalls_is_ended_and_the_session_lives(tree: Path) -> None:
    with open(tree / "huge", "wb") as huge:
        huge.truncate(1 << 30)
    with server(tree, settings(limits={"stall_timeout": 1.0})) as running, running.raw() as raw:
        raw.ask("TYPE I")
        raw.passive()
        assert raw.ask("RETR huge").startswith("150")
        assert raw.reply().startswith("426")
        assert raw.ask("NOOP").startswith("200")


def test_a_thousand_silent_clients_lock_nobody_out(tree: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 4096:
        pytest.skip("needs 4,096 descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4096), hard))
    silent = []
    try:
        with server(tree) as running:
            for _ in range(1000):
                silent.append(socket.create_connection((running.host, running.port), SECONDS))
            until(lambda: running.worker.counters()["active"] == 1000)
            with running.raw() as raw:
                raw.ask("TYPE I")
                assert raw.get("RETR big") == (tree / "big").read_bytes()
            for sock in silent:
                sock.close()
            until(lambda: running.worker.counters()["active"] == 0)
    finally:
        for sock in silent:
            sock.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_512_silent_connections_of_one_address_leave_room_for_everyone_else(tree: Path) -> None:
    with server(tree, settings(limits={"sessions_per_client": 8, "sessions": 64})) as running:
        silent = [socket.create_connection((running.host, running.port), SECONDS) for _ in range(512)]
        until(lambda: running.worker.counters()["refused"] == 512 - 8)
        others = [greeting(running, f"127.0.0.{number}") for number in range(2, 50)]
        assert {text[:3] for _sock, text in others} == {"220"}
        assert running.worker.counters()["active"] == 8 + 48
        for sock in (*silent, *(sock for sock, _text in others)):
            sock.close()


def test_the_clients_of_a_network_have_its_limits_and_others_those_of_all(tree: Path) -> None:
    campus = FtpNetwork("127.0.0.8/29", sessions_per_client=3, sessions=4, ban=False)
    limits = {"sessions_per_client": 1, "networks": (campus,)}
    with server(tree, settings(limits=limits, bans=FtpBans(after=1))) as running:
        held = [greeting(running, f"127.0.0.{number}") for number in (9, 9, 9, 9, 10, 10, 2, 2)]
        texts = [text for _sock, text in held]
        assert [text[:3] for text in texts] == ["220", "220", "220", "421", "220", "421", "220", "421"]
        assert "your address" in texts[3] and "your network" in texts[5] and "your address" in texts[7]
        held[0][0].sendall(b"PORT 192,0,2,1,19,136\r\n" + b"USER anonymous\r\nPASS x\r\nPORT 192,0,2,1,19,136\r\n")
        until(lambda: running.worker.counters()["refused"] >= 4)
        held[0][0].close()
        until(lambda: running.worker.counters()["active"] == 4)
        again, text = greeting(running, "127.0.0.10")
        assert text.startswith("220") and running.worker.offences == []
        for sock in (again, *(sock for sock, _text in held)):
            sock.close()


def test_a_client_that_comes_too_often_is_told_so_and_others_are_served(tree: Path) -> None:
    spared = FtpNetwork("127.0.0.3", connections_per_minute=0)
    with server(tree, settings(limits={"connections_per_minute": 5, "networks": (spared,)})) as running:
        texts = [_greeted(running, "127.0.0.1") for _ in range(8)]
        assert [text[:3] for text in texts] == ["220"] * 5 + ["421"] * 3
        assert "in a minute" in texts[-1]
        assert _greeted(running, "127.0.0.2").startswith("220")
        assert {_greeted(running, "127.0.0.3")[:3] for _ in range(20)} == {"220"}


def _greeted(running: Server, source: str) -> str:
    sock, text = greeting(running, source)
    sock.close()
    return text


def test_refusals_do_not_flood_the_log(tree: Path) -> None:
    with server(tree, settings(deny=("127.0.0.1/32",))) as running:
        for _ in range(500):
            sock, text = greeting(running)
            assert text.startswith("421")
            sock.close()
        until(lambda: "and more like these" in running.worker.log_text())
        assert running.worker.log_text().count("\n") < 200
        assert running.worker.counters()["refused"] == 500


def test_a_worker_without_descriptors_recovers(tree: Path) -> None:
    def few() -> None:
        limit = len(os.listdir("/proc/self/fd")) + 6
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))

    with server(tree, before=few) as running:
        first = running.raw()
        held = [socket.create_connection((running.host, running.port), SECONDS) for _ in range(20)]
        until(lambda: "cannot accept" in running.worker.log_text())
        held[-1].settimeout(SECONDS)  # seen: it waited without a word until somebody else left
        assert held[-1].recv(100) == b"421 Too many sessions. Try again later.\r\n"
        assert first.ask("NOOP").startswith("200")
        assert first.ask("EPSV").startswith("425")
        for sock in held:
            sock.close()
        until(lambda: running.worker.counters()["active"] == 1)
        assert first.get("NLST")
        first.close()
        assert running.worker.counters()["crashes"] == 0


@pytest.mark.parametrize("rate", ["rate_per_session", "rate_per_client", "rate_total"])
def test_a_rate_is_never_exceeded_by_what_is_sent_and_what_is_received(tree: Path, rate: str) -> None:
    (tree / "big").write_bytes((b"x" * 98 + b"\r\n") * 4000)
    with server(tree, settings(limits={rate: 400_000}, incoming={"enabled": True})) as running:
        client = running.ftp()
        began = time.monotonic()
        content = bytearray()
        client.retrbinary("RETR big", content.extend)
        assert len(content) == 400_000
        client.cwd("incoming")
        assert store(client, "up", b"y" * 200_000).startswith("226")
        client.cwd("/")
        client.retrlines("RETR big", lambda _line: None)  # TYPE A goes another way
        assert time.monotonic() - began >= (1_000_000 - 100_000) / 400_000
        assert (running.box / "up").read_bytes() == b"y" * 200_000


def test_a_rate_of_one_worker_is_its_part_of_the_total(tree: Path) -> None:
    (tree / "big").write_bytes(b"x" * 200_000)
    with server(tree, settings(limits={"rate_total": 400_000}), workers=4) as running:
        began = time.monotonic()
        running.ftp().retrbinary("RETR big", lambda _piece: None)
        assert time.monotonic() - began >= (200_000 - 25_000) / 100_000


def test_a_session_lasts_no_longer_than_allowed_not_even_with_a_transfer(tree: Path) -> None:
    with server(tree, settings(limits={"session_timeout": 0.5})) as running, running.raw() as raw:
        data = raw.passive()
        raw.ask("RETR big")
        assert raw.reply() == "421 The session has lasted long enough.\r\n"
        assert raw.closed()
        data.close()
