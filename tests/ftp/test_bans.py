"""ftp.bans: what counts against a client, and what a ban does to its sessions, old and new."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance import wire
from appliance.ftp.bans import REFUSAL, Bans
from appliance.settings.ftp import FtpBans
from tests.ftp.serving import Server, server, settings, until
from tests.observe.test_tally import family


def test_strikes_count_only_within_their_time() -> None:
    bans = Bans(3, 10.0, ())
    assert [bans.strike("a", "192.0.2.1", now) for now in (0.0, 1.0, 2.0)] == [False, False, True]
    assert [bans.strike("a", "192.0.2.1", now) for now in (3.0, 4.0, 14.0, 15.0, 16.0)] == [False] * 4 + [True]
    assert not bans.strike("b", "192.0.2.2", 0.0)


def test_strikes_count_wherever_the_sessions_of_a_client_land() -> None:
    one, two = (Bans(3, 10.0, (), tally) for tally in family(2))
    assert [bans.strike("a", "192.0.2.1", 0.0) for bans in (one, two, one)] == [False, False, True]
    two.told("a", 60, 1.0)  # the supervisor tells both, and nothing of before counts after a ban
    one.told("a", 60, 1.0)
    assert [bans.strike("a", "192.0.2.1", 2.0) for bans in (two, one, two)] == [False, False, True]
    assert not two.strike("b", "192.0.2.2", 20.0) and not two.strike("b", "192.0.2.2", 21.0)
    two.sweep(30.0)
    assert [one.strike("b", "192.0.2.2", now) for now in (30.0, 30.1, 30.2)] == [False, False, True]


def test_without_a_number_and_in_exempt_networks_nobody_is_banned() -> None:
    assert not any(Bans(0, 10.0, ()).strike("a", "192.0.2.1", 0.0) for _ in range(100))
    exempt = Bans(1, 10.0, ("192.0.2.0/24",))
    assert not exempt.strike("a", "192.0.2.1", 0.0)
    assert exempt.strike("b", "198.51.100.1", 0.0)


def test_a_ban_passes_or_is_lifted() -> None:
    bans = Bans(3, 10.0, ())
    assert not bans.banned("a", 0.0)
    bans.told("a", 60, 0.0)
    bans.told("b", 60, 0.0)
    assert bans.banned("a", 59.0) and not bans.banned("a", 60.0)
    bans.told("a", 0, 0.0)
    assert not bans.banned("a", 1.0) and bans.banned("b", 1.0)


def test_both_tables_are_bounded() -> None:
    bans = Bans(2, 10.0, ())
    for number in range(5000):
        bans.strike(f"{number}", "192.0.2.1", 0.0)
        bans.told(f"banned {number}", 60, 0.0)
    assert not bans.banned("banned 0", 1.0) and bans.banned("banned 4999", 1.0)
    assert not bans.strike("0", "192.0.2.1", 1.0) and bans.strike("4999", "192.0.2.1", 1.0)


@pytest.mark.parametrize(
    "offence",
    [["PORT 192,0,2,1,19,136"], ["EPRT |1|127.0.0.1|25|"], [f"XYZZY{i}" for i in range(10)], ["GET / HTTP/1.0"]],
    ids=["bounce", "privileged port", "ten unknown words", "another protocol"],
)
def test_an_offence_counts_and_enough_of_them_ask_for_a_ban(tree: Path, offence: list[str]) -> None:
    with server(tree, settings(bans=FtpBans(after=3, duration=77))) as running:
        for _ in range(3):
            with running.raw() as raw:
                for line in offence:
                    raw.say(line)
                for _line in offence:
                    raw.reply()
        until(lambda: running.worker.offences == [wire.Offence(77, "127.0.0.1")])


def test_a_log_in_that_is_not_anonymous_counts(tree: Path) -> None:
    with server(tree, settings(bans=FtpBans(after=1))) as running, running.raw(log_in=False) as raw:
        raw.ask("USER root")
        assert raw.ask("PASS x").startswith("530")
        until(lambda: running.worker.offences == [wire.Offence(600, "127.0.0.1")])


def test_what_ordinary_clients_do_wrong_does_not_count(tree: Path) -> None:
    with server(tree, settings(bans=FtpBans(after=1))) as running, running.raw() as raw:
        for line in ("RETR none", "XYZZY", "DELE a.txt", "STOR /a.txt", "PORT 1,2,3", "CWD none", "EPRT |2|::1|5000|"):
            raw.ask(line)
        raw.ask("QUIT")
        assert running.worker.offences == []


def test_a_ban_ends_sessions_and_refuses_new_ones_until_it_is_lifted(served: Server) -> None:
    with served.raw() as one, served.raw(log_in=False) as two:
        served.worker.tell(wire.Ban(60, "127.0.0.1"))
        assert one.reply() == two.reply() == REFUSAL + "\r\n"
        assert one.closed() and two.closed()
    with served.raw(log_in=False) as refused:
        assert refused.greeting == REFUSAL + "\r\n"
    served.worker.tell(wire.Ban(0, "127.0.0.1"))
    until(lambda: _greeting(served).startswith("220"))


def _greeting(running: Server) -> str:
    with running.raw(log_in=False) as raw:
        return raw.greeting
