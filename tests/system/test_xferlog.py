"""The xferlog of the whole program: confined workers, their common file, its rotation."""

from __future__ import annotations

import ftplib
import os
import signal
import stat
import threading
from pathlib import Path

from tests.ftp.test_xferlog import WORDS
from tests.support import until
from tests.system.running import Appliance, appliance


def lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True) if path.exists() else []


def fetch(running: Appliance, times: int) -> None:
    for _ in range(times):
        client = running.ftp()
        client.retrbinary("RETR hello.txt", lambda _piece: None)
        client.quit()


def test_two_workers_write_one_file_and_follow_its_rotation_by_name(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "xferlog"
    log.parent.mkdir(mode=0o755)
    made = Appliance(tmp_path)
    made.write(made.config.read_text().replace("log: text", f"log: text, xferlog: {log}"))
    try:
        running = made.start()
        before = running.pids("ftp")
        threads = [threading.Thread(target=fetch, args=(running, 10)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        until(lambda: len(lines(log)) == 40, 20, "a line for each transfer")
        assert stat.S_IMODE(log.stat().st_mode) == 0o640
        assert all(WORDS.fullmatch(line) for line in lines(log))
        moved = {worker["transfers"] for worker in running.workers("ftp")}
        assert 0 not in moved  # both workers have written

        held = running.ftp()  # a session from before the rotation
        os.rename(log, f"{log}.1")
        assert running.verb("reload").returncode == 0
        held.retrbinary("RETR hello.txt", lambda _piece: None)
        held.close()
        fetch(running, 10)
        until(lambda: len(lines(log)) == 11, 20, "the new file gets the lines")
        assert len(lines(Path(f"{log}.1"))) == 40
        assert running.pids("ftp") == before  # nobody was replaced for it

        os.kill(min(before), signal.SIGKILL)  # its successor gets the file as it is now
        until(lambda: len(running.pids("ftp") - {min(before)}) == 2, 20, "a successor")
        fetch(running, 10)
        until(lambda: len(lines(log)) == 21, 20, "lines of the successor")
    finally:
        made.stop()


def test_a_file_that_cannot_be_opened_refuses_the_start_and_a_reload_with_the_remedy(tmp_path: Path) -> None:
    with appliance(tmp_path) as running:
        text = running.config.read_text()
        (tmp_path / "link.log").symlink_to(tmp_path / "elsewhere")
        running.write(text.replace("log: text", f"log: text, xferlog: {tmp_path}/link.log"))
        told = running.verb("reload")
        assert told.returncode != 0
        assert "observe.xferlog: cannot open" in told.stdout + told.stderr
        assert not (tmp_path / "elsewhere").exists()
        with running.ftp() as client:
            assert isinstance(client, ftplib.FTP)


def test_what_a_killed_worker_had_under_way_is_told_by_the_supervisor(tmp_path: Path) -> None:
    with appliance(tmp_path, workers=1) as running:
        idle, busy = running.ftp(), running.ftp()
        busy.voidcmd("TYPE I")
        data = busy.transfercmd("RETR big.bin")  # nobody reads it to its end
        (worker,) = until(lambda: [one for one in running.workers("ftp") if one["active"] == 2], 20, "two sessions")
        assert data.recv(1) == b"\0"
        os.kill(worker["pid"], signal.SIGKILL)
        text = running.said("worker died")
        (line,) = [line for line in text.splitlines() if "worker died" in line]
        assert f"pid={worker['pid']}" in line
        assert line.endswith("lost=2 lost_transfers=1")
        for one in (data, idle, busy):
            one.close()


def test_each_transfer_that_a_client_was_told_is_complete_has_its_line_whatever_becomes_of_the_worker(
    tmp_path: Path,
) -> None:
    """A line is written before the 226 leaves: a worker that is killed under load takes none of them along."""
    log = tmp_path / "xferlog"
    made = Appliance(tmp_path)
    made.write(made.config.read_text().replace("log: text", f"log: text, xferlog: {log}"))
    told: list[str] = []
    stop = threading.Event()

    def load(number: int) -> None:
        name = f"name-{number}"
        while not stop.is_set():
            try:
                with made.ftp() as client:
                    for _ in range(20):
                        client.retrbinary(f"RETR {name}", lambda _piece: None)
                        told.append(name)
            except (OSError, EOFError, ftplib.Error):
                stop.wait(0.01)  # its worker was killed

    for number in range(6):
        (made.tree / f"name-{number}").write_bytes(b"x" * 1000)
    threads = [threading.Thread(target=load, args=(number,)) for number in range(6)]
    try:
        made.start()
        for thread in threads:
            thread.start()
        for _ in range(3):
            seen = len(told)
            until(lambda seen=seen: len(told) > seen + 100, 30, "transfers")
            os.kill(min(made.pids("ftp")), signal.SIGKILL)
            until(lambda: len(made.pids("ftp")) == 2, 30, "a successor")
        stop.set()
        for thread in threads:
            thread.join(60)
        written = [line.split()[8].decode() for line in lines(log) if line.split()[-1] == b"c"]
    finally:
        stop.set()
        made.stop()
    assert len(told) > 300
    for number in range(6):
        assert written.count(f"/name-{number}") >= told.count(f"name-{number}")
    assert len(written) <= len(told) + 3 * 6  # those whose 226 was lost with their worker
    assert all(WORDS.fullmatch(line) for line in lines(log))
