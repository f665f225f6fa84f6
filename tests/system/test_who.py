"""who, top, kick and log of the whole program: confined workers, their shared tables, a real terminal."""

from __future__ import annotations

import csv
import ftplib
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from appliance.observe.control import WHO
from tests.support import until
from tests.system.running import PROGRAM, Appliance, appliance, tftp_read

PAGE = (Path(__file__).parents[2] / "docs/STATUS.md").read_text()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    folder = tmp_path_factory.mktemp("who")
    for place in (folder, folder.parent, folder.parent.parent):
        place.chmod(0o755)
    with appliance(folder) as made:
        yield made


class Slow:
    """A TFTP client that takes a block now and then; `ended` is set with what the server said at the end."""

    def __init__(self, address: tuple[str, int], name: bytes = b"big.bin", options: bytes = b"") -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.settimeout(0.05)
        self.error = b""
        self._port = 0
        self.leave = threading.Event()
        self.sock.sendto(b"\0\1" + name + b"\0octet\0" + options, address)
        self._port = int(self.sock.getsockname()[1])
        self.thread = threading.Thread(target=self._take)
        self.thread.start()

    def _take(self) -> None:
        while not self.leave.wait(0.02) and not self.error:
            try:
                packet, peer = self.sock.recvfrom(66000)
            except OSError:
                continue
            if packet[:2] == b"\0\5":
                self.error = packet
            else:
                self.sock.sendto(b"\0\4" + (packet[2:4] if packet[:2] == b"\0\3" else b"\0\0"), peer)

    @property
    def port(self) -> int:
        return self._port

    def close(self) -> None:
        self.leave.set()
        self.thread.join(10)
        self.sock.close()


@contextmanager
def slow(running: Appliance, **more: Any) -> Iterator[Slow]:
    client = Slow(running.address("tftp"), **more)
    try:
        yield client
    finally:
        client.close()


def who(running: Appliance) -> list[dict[str, Any]]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        folder = os.open(running.home / "run", os.O_PATH)
        try:
            sock.connect(f"/proc/self/fd/{folder}/{WHO}")
            text = b"".join(iter(lambda: sock.recv(65536), b""))
        finally:
            os.close(folder)
    found: list[dict[str, Any]] = json.loads(text)["live"]
    return found


def row(running: Appliance, port: int) -> dict[str, Any] | None:
    return next((one for one in who(running) if one["port"] == port), None)


def test_a_transfer_is_seen_with_progress_and_options_and_is_gone_when_it_is_over(running: Appliance) -> None:
    with slow(running, options=b"blksize\0001024\0windowsize\0004\0") as client:
        first = until(lambda: row(running, client.port), 10, "it is seen")
        assert (first["service"], first["verb"], first["file"], first["size"]) == ("tftp", "RRQ", "big.bin", 8 << 20)
        assert (first["blksize"], first["windowsize"], first["layer"]) == (1024, 4, "static")
        until(lambda: (row(running, client.port) or first)["bytes"] > first["bytes"], 10, "it moves")
    running.verb("kick", "127.0.0.1")
    assert until(lambda: row(running, client.port) is None, 10, "it is gone")


def test_every_field_of_who_is_documented(running: Appliance) -> None:
    with slow(running) as client:
        found = until(lambda: row(running, client.port), 10, "it is seen")
        part = PAGE[PAGE.index("## `appliance who`") :]
        assert all(f"`{name}`" in part for name in found)


def test_an_ftp_session_shows_what_it_does(running: Appliance) -> None:
    client = ftplib.FTP(timeout=60)
    client.connect(*running.address("ftp"))
    assert client.sock is not None
    port = client.sock.getsockname()[1]
    first = until(lambda: row(running, port), 60, "the session")
    assert (first["service"], first["verb"], first["note"]) == ("ftp", "", "not logged in")
    client.login()  # this was seen with the next transfer only
    until(lambda: (row(running, port) or first)["note"] == "idle", 60, "it is logged in")
    client.sendcmd("REIN")
    until(lambda: (row(running, port) or first)["note"] == "not logged in", 60, "it begins again")
    client.login()
    client.voidcmd("TYPE I")
    data = client.transfercmd("RETR big.bin")
    data.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 17)
    moving = until(lambda: (found := row(running, port)) and found["verb"] and found, 10, "the transfer")
    assert (moving["verb"], moving["file"], moving["size"]) == ("RETR", "/big.bin", 8 << 20)
    while data.recv(1 << 20):
        pass
    data.close()
    client.voidresp()
    until(lambda: (found := row(running, port)) and not found["verb"], 10, "it is idle again")
    client.quit()
    until(lambda: row(running, port) is None, 10, "it is gone")


def test_kick_ends_a_transfer_with_an_error_and_a_session_with_421(running: Appliance) -> None:
    client = running.ftp()
    assert client.sock is not None
    port = client.sock.getsockname()[1]
    with slow(running) as taking:
        until(lambda: row(running, port) and row(running, taking.port), 10, "both are on")
        done = running.verb("kick", "127.0.0.1", "--json")
        assert done.returncode == 0, done.stderr
        assert {one["port"] for one in json.loads(done.stdout)["kicked"]} >= {port, taking.port}
        assert until(lambda: taking.error, 10, "the ERROR")[4:] == b"Ended by the operator\0"
    with pytest.raises(ftplib.error_temp, match="421 The operator"):
        client.voidcmd("NOOP")
    client.close()
    again = running.verb("kick", "127.0.0.1")
    assert again.returncode == 1
    assert "nobody is on as 127.0.0.1" in again.stderr
    history = running.verb("log", "--json", "--event", "transfer", "--client", "127.0.0.0/8").stdout.splitlines()
    assert "kicked by the operator" in [json.loads(line)["outcome"] for line in history]


def test_the_rows_of_a_worker_that_died_are_gone_with_it(running: Appliance) -> None:
    with slow(running) as client:
        found = until(lambda: row(running, client.port), 10, "it is seen")
        victim = next(one["pid"] for one in running.workers("tftp") if one["index"] == found["worker"])
        os.kill(victim, signal.SIGKILL)
        until(lambda: row(running, client.port) is None, 10, "it is gone")
        until(lambda: len(running.workers("tftp")) == 2, 20, "the worker is back")
    with slow(running) as client:
        until(lambda: row(running, client.port), 10, "those of its successor are seen")


def test_the_status_child_that_died_sees_everything_again(running: Appliance) -> None:
    with slow(running) as client:
        until(lambda: row(running, client.port), 10, "it is seen")
        (child,) = running.pids("status")
        os.kill(child, signal.SIGKILL)
        until(lambda: running.ready() and running.pids("status") - {child}, 20, "it is back")
        until(lambda: row(running, client.port), 10, "it is seen again")


def test_garbage_and_a_thousand_connections_at_who_change_nothing(running: Appliance) -> None:
    (child,) = running.pids("status")
    socks = []
    folder = os.open(running.home / "run", os.O_PATH)
    for number in range(1000):
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(10)
        try:
            sock.connect(f"/proc/self/fd/{folder}/{WHO}")
            sock.send(os.urandom(100 + number))
        except OSError:
            pass
        socks.append(sock)
    assert isinstance(who(running), list)
    assert running.ready()
    for sock in socks:
        sock.close()
    os.close(folder)
    assert running.pids("status") == {child}


def test_log_filters_follows_and_reads_a_history_without_an_appliance(tmp_path: Path) -> None:
    with appliance(tmp_path) as running:
        tftp_read(running.address("tftp"), b"hello.txt")
        until(lambda: "hello.txt" in running.verb("log", "--event", "transfer").stdout, 20, "it is kept")
        argv = [*PROGRAM, "log", "-c", str(running.config), "--follow", "--event", "refused", "--json"]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as following:
            assert following.stdout is not None

            def missed() -> bool:
                with pytest.raises(OSError, match="File not found"):
                    tftp_read(running.address("tftp"), b"absent-%d" % len(asked))
                asked.append(1)
                return bool(select_readable(following.stdout))

            asked: list[int] = []
            until(missed, 30, "the follower hears of it")
            told = json.loads(following.stdout.readline())
            assert (told["event"], told["client"]) == ("refused", "127.0.0.1")
            following.send_signal(signal.SIGINT)
            assert following.wait(20) in (0, 130)
        assert "absent" not in running.verb("log", "--client", "192.0.2.9").stdout
        with pytest.raises(OSError, match="File not found"):
            tftp_read(running.address("tftp"), b'=cmd|"/C calc"!A0')
        until(lambda: "calc" in running.verb("log", "--event", "refused").stdout, 60, "it is kept")
        rows = list(csv.DictReader(running.verb("log", "--csv").stdout.splitlines()))
        assert [row["file"] for row in rows if "calc" in row["file"]] == ['\'=cmd|"/C calc"!A0']
        assert {row["outcome"] for row in rows if row["file"] == "hello.txt"} == {"done"}
        assert running.verb("who", "--csv").stdout.startswith("service,worker,number,client,port,mac,verb,file,")
        wrong = running.verb("log", "--since", "yesterday")
        assert (wrong.returncode, "no time" in wrong.stderr) == (1, True)
        (torn,) = (running.home / "state" / "events").glob("*.jsonl")
        with torn.open("ab") as file:
            file.write(os.urandom(300) + b'\n{"n": 1, "ti')
    past = running.verb("log", "--since", "1h", "--event", "transfer", "-n", "1")
    assert (past.returncode, "hello.txt" in past.stdout, len(past.stdout.splitlines())) == (0, True, 1)
    assert running.verb("log", "--follow").returncode == 1


def select_readable(stream: Any) -> bool:
    import select

    return bool(select.select([stream], [], [], 0.1)[0])


@pytest.mark.slow
def test_top_on_a_real_terminal_of_80_by_24(running: Appliance, tmp_path: Path) -> None:
    tmux = shutil.which("tmux")
    if tmux is None:
        pytest.skip("needs tmux")
    base = [tmux, "-S", str(tmp_path / "tmux"), "-f", "/dev/null"]

    def screen() -> str:
        return subprocess.run([*base, "capture-pane", "-p"], capture_output=True, text=True, timeout=20).stdout

    def press(*keys: str) -> None:
        subprocess.run([*base, "send-keys", *keys], check=True, timeout=20)

    argv = [*PROGRAM, "top", "-c", str(running.config), "--every", "0.3"]
    with slow(running) as client:
        other = running.ftp()
        try:
            subprocess.run([*base, "new-session", "-d", "-x", "80", "-y", "24", *argv], check=True, timeout=20)
            until(lambda: f"127.0.0.1:{client.port}" in screen() and "ftp" in screen(), 30, "both are shown")
            lines = screen().splitlines()
            assert len(lines) == 24
            assert all(len(line) <= 80 for line in lines)
            assert "sorted by rate" in lines[0]
            assert "q quit" in lines[-1]
            press("s")
            until(lambda: "sorted by client" in screen(), 10, "s sorts")
            press("/", "b", "i", "g", "Enter")
            until(lambda: "1 of 2 shown" in screen(), 10, "the filter")
            press("K")
            until(lambda: "(y/n)" in screen(), 10, "it asks")
            press("y")
            assert until(lambda: client.error, 10, "the transfer is ended")
            until(lambda: "0 of 1 shown" in screen(), 10, "it is gone")
            press("q")
            until(lambda: subprocess.run([*base, "has-session"], capture_output=True).returncode, 10, "q ends it")
        finally:
            subprocess.run([*base, "kill-server"], capture_output=True, timeout=20)
            other.close()


def test_top_without_a_terminal_says_what_to_use(running: Appliance) -> None:
    done = running.verb("top")
    assert (done.returncode, "appliance who" in done.stderr) == (1, True)
    told = running.verb("top", "--json", "--count", "2", "--every", "0.2").stdout.splitlines()
    assert [set(json.loads(line)) for line in told] == [{"time", "live"}] * 2
