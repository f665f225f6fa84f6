"""ftp.worker: what the supervisor can tell it, and how it ends."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from appliance import wire
from tests.ftp.serving import SECONDS, Server, listener, read_all, server, settings, until


def refused(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_it_ticks_without_any_client(served: Server) -> None:
    first = until(lambda: served.worker.counters()["tick"])
    until(lambda: served.worker.counters()["tick"] > first)


def test_it_leaves_at_once_when_the_supervisor_is_gone(served: Server) -> None:
    raw = served.raw()
    served.worker.channel.shutdown(socket.SHUT_RDWR)
    served.worker.channel.close()
    assert served.worker.wait(5) == 256
    assert raw.reply().startswith("421")
    raw.close()


def test_an_adopted_listener_is_served_until_it_is_given_back(served: Server) -> None:
    sock = listener()
    served.worker.tell(wire.Adopt(1), (sock.fileno(),))
    port = sock.getsockname()[1]
    sock.close()
    with socket.create_connection(("127.0.0.1", port), SECONDS) as client:
        assert client.recv(100).startswith(b"220")
    served.worker.tell(wire.Unadopt(1))
    until(lambda: refused(port))
    with served.raw() as raw:
        assert raw.ask("NOOP").startswith("200")


def test_a_descriptor_that_is_no_socket_costs_nothing(tree: Path) -> None:
    with server(tree) as running:
        read_end, write_end = os.pipe()
        running.worker.tell(wire.Adopt(1), (read_end,))
        os.close(read_end)
        os.close(write_end)
        until(lambda: running.worker.counters()["crashes"] == 1)
        with running.raw() as raw:
            assert raw.ask("NOOP").startswith("200")


def test_a_drain_ends_idle_sessions_and_lets_transfers_finish(tree: Path) -> None:
    with open(tree / "huge", "wb") as huge:
        huge.truncate(1 << 28)
    with server(tree) as running:
        idle, busy = running.raw(), running.raw()
        busy.ask("TYPE I")
        data = busy.passive()
        assert busy.ask("RETR huge").startswith("150")
        running.worker.tell(wire.Drain(20_000))
        assert idle.reply().startswith("421")
        assert len(read_all(data)) == 1 << 28
        assert busy.reply().startswith("226")
        assert busy.reply().startswith("421")
        assert running.worker.wait() == 256
        for raw in (idle, busy):
            raw.close()


def test_a_session_that_arranged_a_transfer_and_never_begins_is_sent_away_too(tree: Path) -> None:
    with server(tree) as running, running.raw() as raw:
        raw.passive().close()
        running.worker.tell(wire.Drain(60_000))
        assert raw.reply().startswith("421")
        assert running.worker.wait() == 256


def test_a_drain_has_an_end(tree: Path) -> None:
    with open(tree / "huge", "wb") as huge:
        huge.truncate(1 << 30)
    with server(tree) as running, running.raw() as raw:
        raw.ask("TYPE I")
        raw.passive()
        assert raw.ask("RETR huge").startswith("150")
        running.worker.tell(wire.Drain(300))
        assert running.worker.wait(10) == 256


def test_a_drain_without_sessions_ends_at_once(served: Server) -> None:
    served.worker.tell(wire.Drain(60_000))
    assert served.worker.wait(5) == 256


def test_it_says_nothing_that_the_log_was_not_told(served: Server) -> None:
    """pyftpdlib would write its own lines to standard error for a session like this one."""
    with served.raw() as raw:
        raw.ask("NONSENSE")
        raw.ask("PORT 1,2,3,4,5,6")
    until(lambda: "session client=" in served.worker.log_text())
    assert all(" ftp[" in line for line in served.worker.log_text().splitlines())


@pytest.mark.parametrize("form", ["json", "text"])
def test_settings_are_taken_as_they_are_encoded(form: str, tree: Path) -> None:
    from appliance.settings import plain
    from appliance.settings.ftp import FtpSettings

    config = settings(incoming={"enabled": True})
    assert plain.decode(FtpSettings, plain.encode(config)) == config
