"""Each finished transfer is one event with the fields that docs/EVENTS.md names, written by the whole program."""

from __future__ import annotations

import ftplib
import io
import json
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support import until
from tests.system.running import Appliance, appliance, tftp_read

PAGE = (Path(__file__).parents[2] / "docs/EVENTS.md").read_text()


def documented(section: str, event: str) -> set[str]:
    """The words in code marks of an event's row."""
    part = PAGE[PAGE.index(f"## {section}") :]
    row = next(line for line in part.splitlines() if line.startswith("| ") and f"`{event}`" in line.split("|")[1])
    return set(re.findall(r"`(\w+)`", row.split("|")[3]))


def events(running: Appliance, room: str, event: str) -> list[dict[str, Any]]:
    lines = (line for line in running.log.read_text().splitlines() if line.startswith("{"))
    return [found for found in map(json.loads, lines) if (found["room"], found["event"]) == (room, event)]


def test_with_json_every_line_of_the_program_is_an_object_the_first_one_too(tmp_path: Path) -> None:
    """Standard output and error both go to the journal, where the example of docs/EVENTS.md reads them with jq."""
    running = Appliance(tmp_path)
    running.write(running.config.read_text().replace("log: text", "log: json"))
    try:
        running.start()
        running.said('"event": "serving"')
    finally:
        running.stop()
    lines = [json.loads(line) for line in running.log.read_text().splitlines()]
    assert [line["confinement"] for line in lines if line["event"] == "serving"] in (["full"], ["user"], ["partial"])


def test_downloads_and_uploads_leave_events_with_the_documented_fields(tmp_path: Path) -> None:
    with appliance(tmp_path) as running:
        text = running.config.read_text().replace("log: text", "log: json")
        running.write(text.replace("\nftp:\n", "\n  uploads: {mode: create}\nftp:\n"))
        running.stop()
        running.start()
        assert tftp_read(running.address("tftp"), b"hello.txt") == b"hello, network\n"
        host, port = running.address("tftp")
        put = ["curl", "-sS", "--max-time", "20", "-T", "-", f"tftp://{host}:{port}/uploads/sw1.cfg"]
        subprocess.run(put, input=b"vlan 7\n" * 100, check=True, timeout=30)
        client = running.ftp()
        client.retrbinary("RETR hello.txt", lambda _piece: None)
        client.storbinary("STOR incoming/report", io.BytesIO(b"x" * 10))
        client.quit()
        last = [("tftp", "upload"), ("ftp", "session"), ("custody", "stored"), ("tftp-custody", "stored")]
        until(lambda: all(events(running, *one) for one in last), 20, "the last event of each service")
        (download,) = events(running, "tftp", "transfer")
        (upload,) = events(running, "tftp", "upload")
        assert (download["file"], download["bytes"], download["outcome"]) == ("hello.txt", 15, "done")
        assert (upload["file"], upload["bytes"], upload["outcome"]) == ("uploads/sw1.cfg", 700, "done")
        common = {"time", "level", "room", "event"}
        assert set(download) == set(upload) == common | (documented("TFTP", "transfer") - {"done"})
        moved = events(running, "ftp", "transfer")
        assert [(one["verb"], one["path"], one["result"]) for one in moved] == [
            ("RETR", "/hello.txt", "complete"),
            ("STOR", "/incoming/report", "complete"),
        ]
        assert all(set(one) == common | documented("FTP", "transfer") - {"complete"} for one in moved)
        (session,) = events(running, "ftp", "session")
        assert set(session) == common | documented("FTP", "session") - {"tls"}
        for room, name, size in (("custody", "report", 10), ("tftp-custody", "sw1.cfg", 700)):
            (stored,) = events(running, room, "stored")
            assert set(stored) == common | documented("Custody", "stored")
            assert (stored["name"], stored["bytes"]) == (name, size)


def kept(running: Appliance) -> list[dict[str, Any]]:
    """Everything in the history."""
    folder = running.home / "state" / "events"
    text = b"".join(place.read_bytes() for place in sorted(folder.glob("*.jsonl")))
    return [json.loads(line) for line in text.splitlines()]


def test_the_events_service_hears_everybody_and_goes_on_after_it_died(tmp_path: Path) -> None:
    with appliance(tmp_path) as running:
        address = running.address("tftp")
        assert tftp_read(address, b"hello.txt") == b"hello, network\n"
        with pytest.raises(OSError, match="File not found"):
            tftp_read(address, b"no/such/file")
        client = running.ftp()
        client.retrbinary("RETR hello.txt", lambda _piece: None)
        with pytest.raises(ftplib.error_perm):
            client.retrbinary("RETR absent", lambda _piece: None)
        long = "x/" * 700  # was not cut, and what came beside it was lost too
        with pytest.raises(ftplib.error_perm):
            client.retrbinary(f"RETR {long}absent", lambda _piece: None)
        client.storbinary("STOR incoming/report", io.BytesIO(b"x" * 10))
        client.quit()
        expected = {"transfer": 3, "refused": 3, "stored": 1, "session": 1}  # each service tells in its own time

        def everything() -> bool:
            seen = [one["event"] for one in kept(running)]
            return all(seen.count(event) >= count for event, count in expected.items())

        until(everything, 20, "what each service tells")
        told = kept(running)
        assert [one["n"] for one in told] == list(range(1, len(told) + 1))
        moved = [(one["room"], one["verb"], one["path"], one["bytes"], one["acknowledged"])
                 for one in told if one["event"] == "transfer"]  # fmt: skip
        assert sorted(moved) == [
            ("ftp", "RETR", "/hello.txt", 15, True),
            ("ftp", "STOR", "/incoming/report", 10, True),
            ("tftp", "RRQ", "hello.txt", 15, True),
        ]
        missed = {(one["room"], one["client"], one["file"]) for one in told if one["event"] == "refused"}
        assert missed == {
            ("tftp", "127.0.0.1", "no/such/file"),
            ("ftp", "127.0.0.1", "/absent"),
            ("ftp", "127.0.0.1", f"/{long}"[:1000]),
        }
        (stored,) = (one for one in told if one["event"] == "stored")
        assert (stored["room"], stored["name"], stored["bytes"]) == ("custody", "report", 10)
        serving = {one["service"] for one in told if one["event"] == "worker" and one["state"] == "serving"}
        assert serving == {"status", "events", "custody", "tftp", "ftp"}

        (recorder,) = running.pids("events")
        os.kill(recorder, signal.SIGKILL)
        assert tftp_read(address, b"hello.txt") == b"hello, network\n"  # nobody waits for it
        until(lambda: running.pids("events") not in (set(), {recorder}), 20, "it is back")
        before = len(told)

        def again() -> bool:
            tftp_read(address, b"sub/deep.txt")
            return any(one.get("path") == "sub/deep.txt" for one in kept(running)[before:])

        until(again, 20, "the workers have found its successor")
        died = [one for one in kept(running) if one["event"] == "worker" and one["state"] == "died"]
        assert [(one["service"], one["pid"], one["why"]) for one in died] == [("events", recorder, "signal SIGKILL")]
        assert kept(running)[-1]["n"] > told[-1]["n"]


def test_a_broken_worker_is_told_with_what_it_took_along_and_so_is_a_reload(tmp_path: Path) -> None:
    with appliance(tmp_path) as running:
        client = running.ftp()
        (victim,) = until(lambda: [one["pid"] for one in running.workers("ftp") if one["active"]], 10, "it is counted")
        os.kill(victim, signal.SIGKILL)
        until(lambda: [one for one in kept(running) if one.get("state") == "died"], 20, "it is told")
        (died,) = (one for one in kept(running) if one.get("state") == "died")
        assert (died["service"], died["pid"], died["lost"]) == ("ftp", victim, 1)
        client.close()
        running.write(running.config.read_text().replace("sessions: 900", "sessions: nine"))
        assert running.verb("reload").returncode == 2
        until(lambda: [one for one in kept(running) if one["event"] == "reload"], 20, "it is told")
        (reload,) = (one for one in kept(running) if one["event"] == "reload")
        assert reload["done"] is False
        assert "sessions" in reload["text"]
