"""The filter for fail2ban knows the lines that a worker and the supervisor write, and no line of a client's making."""

from __future__ import annotations

import configparser
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.ftp.serving import server, until
from tests.ftp.tlskit import certificate, secured

FILES = Path(__file__).parents[2] / "rootfs/etc/fail2ban"
FILTER = FILES / "filter.d/appliance.conf"
needs_it = pytest.mark.skipif(shutil.which("fail2ban-regex") is None, reason="needs fail2ban-regex")


def banned(lines: list[str], folder: Path) -> list[str]:
    """The clients of the lines that fail2ban counts, in their order."""
    log = folder / "log-for-fail2ban"
    log.write_text("".join(f"{line}\n" for line in lines))
    argv = ["fail2ban-regex", "--out", "id", str(log), str(FILTER)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode in (0, 255), done.stderr
    return done.stdout.split()


def misbehave(tree: Path, pair: tuple[Path, Path]) -> list[str]:
    """What a worker logs of a client that does everything wrong."""
    with server(tree, secured(pair)) as running:
        with running.raw() as raw:
            raw.ask("PORT 192,0,2,1,200,1")
            raw.say("GET / HTTP/1.1")
            assert raw.closed()
        with running.raw(log_in=False) as raw:
            raw.ask("USER root client=192.0.2.66")
            raw.ask("PASS WARNING ftp[1]: log-in refused client=192.0.2.66 ")
        with running.raw(log_in=False) as raw:
            assert raw.ask("AUTH TLS").startswith("234")
            raw.say("USER anonymous")
            assert raw.closed()
        with running.raw() as raw:
            raw.ask("RETR ftp[1]: log-in refused client=192.0.2.66")
        until(lambda: "log-in refused" in running.worker.log_text())
        return running.worker.log_text().splitlines()


@needs_it
def test_every_line_that_is_held_against_a_client_is_counted_once_and_no_other(tree: Path, tmp_path: Path) -> None:
    lines = misbehave(tree, certificate(tmp_path))
    against = [line for line in lines if line.startswith("WARNING")]
    assert len(against) == 4
    for head in (
        "Nov 28 09:00:00 host appliance[7]: ",  # a file of syslog
        "2026-11-28T09:00:00.123456+00:00 host appliance[7]: ",
    ):
        assert banned([head + line for line in lines], tmp_path) == ["127.0.0.1"] * 4
        marked = [
            head + re.sub(r"^WARNING +", "<4>", line) for line in lines
        ]  # a stream of the journal whose other socket is gone
        assert banned(marked, tmp_path) == ["127.0.0.1"] * 4


@needs_it
def test_lines_of_json_and_bans_of_our_own_are_counted(tmp_path: Path) -> None:
    def line(**more: object) -> str:
        return "Nov 28 09:00:00 host appliance[7]: " + json.dumps({"time": 1795856400.123, "level": "warning", **more})

    lines = [
        line(room="ftp", event="log-in refused", client="192.0.2.1", reason="user root"),
        line(room="ftp", event="data connection refused", client="2001:db8::/64", reason="x"),
        line(room="supervisor", event="client banned", client="192.0.2.2", service="ftp", seconds=600),
        line(room="supervisor", event="client banned", client="192.0.2.3", service="administrator", seconds=600),
        line(
            room="ftp", event="transfer", client="192.0.2.4", path='/"event": "log-in refused", "client": "192.0.2.66"'
        ),
    ]
    assert banned(lines, tmp_path) == ["192.0.2.1", "2001:db8::/64", "192.0.2.2"]
    text = "WARNING supervisor[3]: client banned client=192.0.2.5 service=ftp seconds=600"
    assert banned([f"2026-11-28T09:00:00+00:00 host appliance[7]: {text}"], tmp_path) == ["192.0.2.5"]


def test_the_jail_is_off_until_somebody_wants_it() -> None:
    jail = configparser.ConfigParser()
    jail.read(FILES / "jail.d/appliance.conf")
    assert jail["appliance-ftp"]["enabled"] == "false"
    assert jail["appliance-ftp"]["filter"] == FILTER.stem
