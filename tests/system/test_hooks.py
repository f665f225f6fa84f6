"""Hooks inside the whole appliance: what happens, the operator's program hears of; what it does disturbs nobody."""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support import ROOT, until
from tests.system.running import Appliance, tftp_read

UID = 64625
MAC = "52:54:00:12:34:56"
WEBHOOK = Path(__file__).parents[2] / "config/hooks/webhook"
FILES = ("pxelinux.0", "pxelinux.cfg/01-52-54-00-12-34-56", "vmlinuz", "initrd.gz")
pytestmark = pytest.mark.slow


def hooked(home: Path, hooks: list[dict[str, Any]], more: str = "", **changes: Any) -> Appliance:
    """An appliance with these hooks, and something to boot."""
    for folder in (*home.parents[:2], home):
        folder.chmod(0o755)
    made = Appliance(home, **changes)
    (made.tree / "pxelinux.cfg").mkdir()
    for name in FILES:
        (made.tree / name).write_bytes(os.urandom(3000))
    text = f"observe: {{log: text{more}, hooks: {json.dumps(hooks)}}}"
    made.write(made.config.read_text().replace("observe: {log: text}", text))
    return made


@contextmanager
def started(made: Appliance) -> Iterator[Appliance]:
    try:
        yield made.start()
    finally:
        made.stop()


def writes(name: str) -> list[str]:
    """A program that adds the event to a file in its folder."""
    return ["/bin/sh", "-c", f"cat >> {name}"]


def told(running: Appliance, name: str = "told") -> list[dict[str, Any]]:
    """What was told so far."""
    path = running.home / "state/hooks" / name
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def worker(running: Appliance) -> dict[str, Any]:
    found = running.workers("hooks")
    return found[0] if found else {}


def boot(running: Appliance) -> None:
    for name in FILES:
        assert tftp_read(running.address("tftp"), name.encode(), 60)


def test_uploads_machines_and_workers_are_told_without_a_board(tmp_path: Path) -> None:
    on = ["upload-complete", "machine-booted", "worker-died", "worker-restarted", "reload"]
    with started(hooked(tmp_path, [{"on": on, "run": writes("told")}])) as running:
        with running.ftp() as client:
            client.storbinary("STOR incoming/report.txt", io.BytesIO(b"x" * 700))
        until(lambda: [one for one in told(running) if one["hook"] == "upload-complete"], 60, "an upload is told")
        boot(running)
        until(lambda: [one for one in told(running) if one["hook"] == "machine-booted"], 60, "a boot is told")
        victim = sorted(running.pids("ftp"))[0]
        os.kill(victim, signal.SIGKILL)
        until(lambda: {"worker-died", "worker-restarted"} <= {one["hook"] for one in told(running)}, 60, "its end")
        assert running.verb("reload").returncode == 0
        until(lambda: [one for one in told(running) if one["hook"] == "reload"], 60, "a reload is told")
        by_hook = {one["hook"]: one for one in told(running)}
        assert (by_hook["upload-complete"]["name"], by_hook["upload-complete"]["bytes"]) == ("report.txt", 700)
        machine = by_hook["machine-booted"]
        assert (machine["mac"], machine["client"], machine["bytes"]) == (MAC, "127.0.0.1", 12000)
        assert (by_hook["worker-died"]["service"], by_hook["worker-died"]["pid"]) == ("ftp", victim)
        assert by_hook["worker-restarted"]["restarts"] == 1
        until(lambda: worker(running)["transfers"] >= 5, 60, "all are counted")
        assert worker(running)["failed"] == worker(running)["dropped"] == 0
        log = running.verb("log", "--event", "machine", "--json").stdout
        assert [json.loads(line)["state"] for line in log.splitlines()] == ["booted"]
        if ROOT:
            assert (worker(running)["uid"], worker(running)["confinement"]["level"]) == (UID, "full")
            assert (running.home / "state/hooks/told").stat().st_uid == UID


def test_a_machine_that_stops_is_told_with_the_remedy_and_once_where_there_is_a_board_too(tmp_path: Path) -> None:
    hooks = [{"on": ["machine-stalled", "machine-failed", "machine-booted"], "run": writes("told")}]
    with started(hooked(tmp_path, hooks, ", board_listen: '127.0.0.1:0'")) as running:
        tftp_read(running.address("tftp"), b"pxelinux.0", 60)
        until(lambda: told(running), 120, "a stall is told")
        (stalled,) = told(running)
        assert (stalled["hook"], stalled["state"], stalled["file"]) == ("machine-stalled", "stalled", "pxelinux.0")
        assert stalled["detail"] and stalled["remedy"] and stalled["room"] == "hooks"
        log = running.verb("log", "--event", "machine", "--json").stdout
        assert len(log.splitlines()) == 1


def test_without_hooks_the_board_tells_how_machines_are(tmp_path: Path) -> None:
    with started(hooked(tmp_path, [], ", board_listen: '127.0.0.1:0'")) as running:
        assert "hooks" not in running.status()["services"]
        boot(running)
        until(lambda: '"booted"' in running.verb("log", "--event", "machine", "--json").stdout, 60, "a boot is told")


def test_programs_that_fail_hang_or_flood_disturb_nobody_and_are_shown_until_it_is_over(tmp_path: Path) -> None:
    on = ["upload-complete"]
    hooks = [
        {"on": on, "run": ["/bin/sh", "-c", "sleep 600 & sleep 600"], "timeout": "5s", "queue": 1},
        {"on": on, "run": ["/bin/sh", "-c", "printf '\\033[31mred\\n' >&2; test -e fine"]},
        {"on": on, "run": writes("told")},
    ]
    with started(hooked(tmp_path, hooks)) as running:
        with running.ftp() as client:
            for number in range(12):
                client.storbinary(f"STOR incoming/{number}", io.BytesIO(b"x"))
        until(lambda: len(told(running)) == 12, 120, "every event reached the program that works")
        running.said("hook dropped", 60)
        running.said("exit status 1", 60)
        log = running.said("ended after 5 s, with all that it had started", 60)
        assert "hook failed run=/bin/sh" in log
        assert "\\x1b[31mred\\x0a" in log and "\x1b[31m" not in log
        until(lambda: worker(running)["dropped"] > 0 and worker(running)["failed"] > 12, 60, "counted")
        problems = running.status()["problems"]
        assert any(one["what"].startswith("hooks: a program failed") for one in problems), problems
        assert tftp_read(running.address("tftp"), b"hello.txt", 60) == b"hello, network\n"
        fine = running.home / "state/hooks/fine"
        fine.touch()
        running.config.write_text(running.config.read_text().replace("sleep 600 & sleep 600", "exit 0"))
        assert running.verb("reload").returncode == 0
        until(lambda: not [one for one in running.status()["problems"] if "hooks" in one["what"]], 60, "no problem")
        with running.ftp() as client:
            client.storbinary("STOR incoming/last", io.BytesIO(b"x"))
        until(lambda: worker(running).get("transfers", 0) >= 3, 60, "all three did what they were to do")


@pytest.mark.root
@pytest.mark.skipif(not ROOT, reason="needs root")
@pytest.mark.parametrize("victim", ["the worker", "the runner"])
def test_whichever_process_is_killed_hooks_come_back_and_nothing_is_left(tmp_path: Path, victim: str) -> None:
    hooks = [
        {"on": ["upload-complete"], "run": ["/bin/sh", "-c", "echo $$ > now; mv now pid; sleep 600"], "timeout": "10m"},
        {"on": ["upload-complete"], "run": writes("told")},
    ]
    with started(hooked(tmp_path, hooks)) as running:
        with running.ftp() as client:
            client.storbinary("STOR incoming/a", io.BytesIO(b"x"))
            pid_file = running.home / "state/hooks/pid"
            until(pid_file.exists, 60, "a program runs")
            pid, before = int(pid_file.read_text()), worker(running)["pid"]
            children = [int(word) for word in Path(f"/proc/{before}/task/{before}/children").read_text().split()]
            os.kill(before if victim == "the worker" else children[0], signal.SIGKILL)
            until(lambda: not Path(f"/proc/{pid}").exists(), 60, "its program has ended")
            until(lambda: worker(running).get("pid") not in (None, before), 60, "another worker")
            (before_told,) = [len(told(running))]
            client.storbinary("STOR incoming/b", io.BytesIO(b"x"))
            until(lambda: len(told(running)) > before_told, 60, "events are heard again")
        assert {one["restarts"] for one in running.workers("ftp") + running.workers("tftp")} == {0}


class _Catcher(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        server: Any = self.server
        server.caught.append((dict(self.headers), body))
        code = server.answers.pop(0) if server.answers else 204
        self.send_response(code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        """Nothing."""


@contextmanager
def web(*answers: int) -> Iterator[tuple[str, list[tuple[dict[str, str], bytes]]]]:
    """A web server that answers so, and then 204; what it caught."""
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), _Catcher)
    server.caught, server.answers = [], list(answers)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/appliance", server.caught
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.skipif(not Path("/usr/bin/python3").exists(), reason="needs the system's python3")
def test_the_webhook_example_posts_signed_events_and_tries_again(tmp_path: Path) -> None:
    script, secret = tmp_path / "webhook", tmp_path / "secret"
    shutil.copy(WEBHOOK, script)
    secret.write_text("not so secret\n")
    secret.chmod(0o644)
    with web(503) as (url, caught):
        run = [str(script), url, str(secret)]
        hooks = [
            {"on": ["upload-complete"], "run": run, "network": True},
            {"on": ["reload"], "run": [str(script), url]},  # without network
        ]
        with started(hooked(tmp_path, hooks)) as running:
            with running.ftp() as client:
                client.storbinary("STOR incoming/x.txt", io.BytesIO(b"x"))
            until(lambda: len(caught) == 2, 60, "the event, and once more after a 503")
            headers, body = caught[1]
            assert caught[0][1] == body and json.loads(body)["name"] == "x.txt"
            signed = hmac.new(b"not so secret", body, hashlib.sha256).hexdigest()
            assert headers["X-Signature-256"] == f"sha256={signed}"
            assert headers["Content-Type"] == "application/json"
            until(lambda: worker(running)["transfers"] == 1, 60, "it did what it was to do")
            assert running.verb("reload").returncode == 0
            assert "cannot be reached" in running.said("hook failed", 60)
            assert len(caught) == 2
