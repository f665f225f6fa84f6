"""Each finished transfer is one event with the fields that docs/EVENTS.md names, written by the whole program."""

from __future__ import annotations

import io
import json
import re
import subprocess
from pathlib import Path
from typing import Any

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
        until(lambda: events(running, "tftp", "upload") and events(running, "ftp", "session"), 20, "the last events")
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
