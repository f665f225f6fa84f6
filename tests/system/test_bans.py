"""A client that misbehaves is banned by every worker; the administrator sees it, and can ban and unban by hand."""

from __future__ import annotations

import contextlib
import ftplib
import json
import subprocess
from pathlib import Path

import pytest

from tests.support import until
from tests.system.running import PROGRAM, Appliance, appliance

BAD, GOOD = "127.0.0.9", "127.0.0.1"


def session(running: Appliance, source: str) -> ftplib.FTP:
    client = ftplib.FTP(timeout=10, source_address=(source, 0))
    try:
        client.connect(*running.address("ftp"))
        client.login()
    except Exception:
        client.close()
        raise
    return client


def refused(running: Appliance, source: str) -> bool:
    try:
        session(running, source).close()
    except ftplib.error_temp as error:
        return "421 Your address is not served for a while." in str(error)
    return False


def bounce(client: ftplib.FTP) -> None:
    """Ask for a stranger's port until the session is ended."""
    for _ in range(1000):
        with contextlib.suppress(ftplib.error_perm):
            client.sendcmd("PORT 192,0,2,1,19,136")


def ban(running: Appliance, *words: str) -> subprocess.CompletedProcess[str]:
    argv = [*PROGRAM, "ban", *words, "-c", str(running.config)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60)


def listed(running: Appliance) -> list[tuple[str, str]]:
    done = ban(running, "list", "--json")
    return [(ban["client"], ban["cause"]) for ban in json.loads(done.stdout)["bans"]]


def test_bounce_tries_ban_a_client_in_every_worker_and_over_a_reload_until_it_is_lifted(tmp_path: Path) -> None:
    with appliance(tmp_path) as running:
        while not refused(running, BAD):
            client = session(running, BAD)
            with pytest.raises((ftplib.error_temp, EOFError, ConnectionError)):
                bounce(client)
            client.close()
        assert all(refused(running, BAD) for _ in range(20))  # the kernel deals connections to both workers
        assert not refused(running, GOOD)
        assert listed(running) == [(BAD, "abuse")]
        running.config.write_text(running.config.read_text().replace("sessions: 900", "sessions: 800"))
        assert running.verb("reload").returncode == 0
        assert all(refused(running, BAD) for _ in range(20))
        assert ban(running, "remove", BAD).returncode == 0
        until(lambda: not refused(running, BAD))
        assert listed(running) == []
        assert ban(running, "remove", BAD).returncode == 1


def test_a_ban_by_hand_ends_the_session_that_is_there(tmp_path: Path) -> None:
    with appliance(tmp_path) as running:
        client = session(running, BAD)
        assert ban(running, "add", BAD, "--for", "60").returncode == 0
        with pytest.raises(ftplib.error_temp, match="421"):
            client.getresp()
        client.close()
        until(lambda: refused(running, BAD))
        assert listed(running) == [(BAD, "administrator")]
