"""The boot board inside the whole appliance: a machine boots by TFTP, and the page knows."""

from __future__ import annotations

import base64
import ftplib
import io
import json
import os
import signal
import socket
import ssl
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from appliance.board import guard
from appliance.board.story import AGAIN_S
from tests.ftp.tlskit import certificate
from tests.support import until
from tests.system.running import Appliance, tftp_read

MAC = "52:54:00:12:34:56"
FILES = ("pxelinux.0", "pxelinux.cfg/01-52-54-00-12-34-56", "vmlinuz", "initrd.gz")


def lit(home: Path, more: str = "", incoming: str = "false") -> Appliance:
    """An appliance with a board and something to boot."""
    made = Appliance(home, incoming=incoming)
    (made.tree / "pxelinux.cfg").mkdir()
    for name in FILES:
        (made.tree / name).write_bytes(os.urandom(3000))
    made.write(
        made.config.read_text().replace(
            "observe: {log: text}", f"observe: {{log: text, board_listen: '127.0.0.1:0'{more}}}"
        )
    )
    return made


def page(running: Appliance, path: str = "/board.json", **more: Any) -> Any:
    port = running.address("board")[1]
    scheme = "https" if "context" in more else "http"
    request = urllib.request.Request(f"{scheme}://localhost:{port}{path}", headers=more.pop("headers", {}))
    with urllib.request.urlopen(request, timeout=20, **more) as answer:
        return json.load(answer) if path.endswith(".json") or "json" in path else answer.read()


def boot(running: Appliance) -> None:
    for name in FILES:
        tftp_read(running.address("tftp"), name.encode())


def again(running: Appliance) -> bool:
    """Boot after the while that a machine takes to start anew."""
    time.sleep(2 * AGAIN_S)
    boot(running)
    return True


def booted(running: Appliance, times: int = 1) -> bool:
    rows = page(running)["rows"]
    return bool(rows) and (rows[0]["key"], rows[0]["state"], rows[0]["boot"]) == (MAC, "booted", times)


def test_a_machine_that_boots_is_on_the_board_and_stays_there_through_deaths(tmp_path: Path) -> None:
    running = lit(tmp_path)
    try:
        running.start()
        assert b"Boot board" in page(running, "/")
        boot(running)
        until(lambda: booted(running), 20, "a booted machine")
        story = page(running, f"/machine.json?key={MAC}")
        shown = [step["file"] for step in story["steps"]]  # the first two may be told late, each by its own worker
        assert (sorted(shown[:2]), shown[2:]) == (sorted(FILES[:2]), list(FILES[2:]))
        assert {step["state"] for step in story["steps"]} == {"done"}
        (recorder,) = running.pids("events")
        os.kill(recorder, signal.SIGKILL)
        until(lambda: running.pids("events") - {recorder}, 20, "another events service")
        until(lambda: again(running) and not booted(running), 60, "another boot of it is heard of")
        (board,) = running.pids("board")
        os.kill(board, signal.SIGKILL)
        until(lambda: running.pids("board") - {board}, 20, "another board")
        boot(running)
        until(lambda: booted(running), 20, "a machine on the new board")
    finally:
        running.stop()


def test_a_machine_in_the_middle_of_a_file_is_seen_there(tmp_path: Path) -> None:
    running = lit(tmp_path)
    try:
        running.start()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as machine:
            machine.settimeout(20)
            machine.sendto(b"\0\1big.bin\0octet\0tsize\0000\0blksize\0001024\0", running.address("tftp"))
            _oack, peer = machine.recvfrom(2000)
            for block in range(4097):  # 4 MiB of 8
                machine.sendto(b"\0\4" + block.to_bytes(2, "big"), peer)
                machine.recvfrom(2000)
            until(lambda: [row["percent"] for row in page(running)["rows"]] == [50], 20, "half of it")
            (row,) = page(running)["rows"]
            assert (row["state"], row["file"]) == ("booting", "big.bin")
    finally:
        running.stop()


def test_the_page_listens_and_is_told_how_the_services_are(tmp_path: Path) -> None:
    running = lit(tmp_path)
    try:
        running.start()
        host, port = running.address("board")
        with socket.create_connection((host, port), 20) as sock:
            sock.sendall(f"GET /events HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
            assert _read(sock, b'"tftp":"ok"')
    finally:
        running.stop()


def test_the_page_is_told_how_many_uploads_wait_for_an_operator(tmp_path: Path) -> None:
    running = lit(tmp_path, incoming="true")
    try:
        running.start()
        with ftplib.FTP(timeout=60) as client:
            client.connect(*running.address("ftp"))
            client.login()
            for name in ("one", "two"):
                assert client.storbinary(f"STOR /incoming/{name}", io.BytesIO(b"x")).startswith("226")
        host, port = running.address("board")
        with socket.create_connection((host, port), 60) as sock:
            sock.sendall(f"GET /events HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
            assert _read(sock, b'"waiting":2')
    finally:
        running.stop()


def _read(sock: socket.socket, mark: bytes) -> bool:
    got = b""
    while mark not in got:
        piece = sock.recv(65536)
        assert piece
        got += piece
    return True


def test_off_loopback_it_needs_tls_and_a_password_and_asks_for_both(tmp_path: Path) -> None:
    crt, key = certificate(tmp_path)
    stored = guard.store("correct horse battery", b"0" * 16)
    running = lit(tmp_path, f", board: {{certificate: {crt}, key: {key}, password: '{stored}'}}")
    try:
        open_to_all = running.config.read_text().replace("'127.0.0.1:0'", "'0.0.0.0:0'")
        bare = open_to_all.replace(f"certificate: {crt}, key: {key}, password: '{stored}'", "")
        (tmp_path / "bare.yaml").write_text(bare)
        refused = running.verb("check", "-c", str(tmp_path / "bare.yaml"))
        assert refused.returncode == 2
        assert "there is no TLS" in refused.stderr + refused.stdout
        assert "no password is asked for" in refused.stderr + refused.stdout
        running.start()
        trusting = ssl.create_default_context(cafile=str(crt))
        trusting.check_hostname = False
        with pytest.raises(urllib.error.HTTPError) as denied:
            page(running, context=trusting)
        assert denied.value.code == 401
        denied.value.close()
        word = base64.b64encode(b"anyone:correct horse battery").decode()
        assert page(running, context=trusting, headers={"Authorization": f"Basic {word}"})["rows"] == []
    finally:
        running.stop()
