"""Workers that die, supervisors that die, second instances: what the outside sees of each."""

from __future__ import annotations

import contextlib
import ftplib
import io
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.supervise.spawn import python_argv
from tests.support import until
from tests.system.running import PROGRAM, Appliance, appliance, tftp_read

BIG = bytes(range(256)) * 4096 * 8


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Appliance]:
    with appliance(tmp_path) as made:
        yield made


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_a_killed_worker_is_back_and_nothing_else_was_disturbed(running: Appliance) -> None:
    ftp_before = running.pids("ftp")
    first, second = sorted(running.pids("tftp"))
    os.kill(first, signal.SIGKILL)
    until(lambda: len(running.pids("tftp") - {first}) == 2, 10)
    assert second in running.pids("tftp")
    assert running.pids("ftp") == ftp_before
    assert [w["restarts"] for w in running.workers("tftp")].count(1) == 1
    assert {w["last_exit"] for w in running.workers("tftp")} == {None, "signal SIGKILL"}
    for _ in range(16):  # the kernel spreads by source port: both workers are asked
        assert tftp_read(running.address("tftp"), b"hello.txt") == b"hello, network\n"


def test_a_transfer_on_another_worker_lives_on_when_one_is_killed(running: Appliance) -> None:
    client = running.ftp()
    client.voidcmd("TYPE I")
    data = client.transfercmd("RETR big.bin")
    got = data.recv(1000)
    (serving,) = until(lambda: {w["pid"] for w in running.workers("ftp") if w["active"]}, 10)
    for pid in running.pids("ftp") - {serving} | running.pids("tftp"):
        os.kill(pid, signal.SIGKILL)
    got += b"".join(iter(lambda: data.recv(1 << 16), b""))
    data.close()
    assert client.voidresp().startswith("226")
    assert got == BIG
    client.close()


def test_a_worker_that_dies_again_and_again_backs_off_and_its_sibling_serves(running: Appliance) -> None:
    def failing() -> list[dict[str, object]]:
        return [w for w in running.status()["services"]["tftp"]["workers"] if w["state"] == "backoff"]

    def kill_the_first() -> bool:
        for worker in running.workers("tftp"):
            if worker["index"] == 0:
                with contextlib.suppress(ProcessLookupError):  # it was killed the time before
                    os.kill(worker["pid"], signal.SIGKILL)
        return any(p for p in running.status()["problems"] if "died 4 times" in p["what"])

    until(kill_the_first, 30, "four deaths")
    status = running.status()
    assert status["ready"]
    assert status["services"]["tftp"]["state"] == "degraded"
    assert status["services"]["ftp"]["state"] == "ok"
    assert failing()
    for _ in range(16):
        assert tftp_read(running.address("tftp"), b"hello.txt") == b"hello, network\n"
    until(lambda: running.status()["services"]["tftp"]["state"] == "ok", 30, "the worker comes back")
    for _ in range(16):
        assert tftp_read(running.address("tftp"), b"hello.txt") == b"hello, network\n"


def test_the_custodian_is_replaced_and_uploads_go_on(running: Appliance) -> None:
    (custodian,) = running.pids("custody")
    client = running.ftp()
    os.kill(custodian, signal.SIGKILL)
    until(lambda: running.pids("custody") - {custodian}, 10)

    def stored() -> bool:
        try:
            with (running.tree / "hello.txt").open("rb") as file:
                return client.storbinary("STOR incoming/after.txt", file).startswith("226")
        except OSError:
            return False
        except ftplib.error_temp:  # 450 or 451, until the worker has its new channel
            return False

    until(stored, 10, "an upload after the custodian came back")
    assert (running.tree / "incoming" / "after.txt").read_bytes() == b"hello, network\n"
    client.close()


def test_children_die_with_the_supervisor_and_a_new_one_starts_over_the_leftovers(running: Appliance) -> None:
    children = running.pids("tftp") | running.pids("ftp") | running.pids("custody") | running.pids("status")
    assert len(children) == 6
    running.signal(signal.SIGKILL)
    running.wait()
    until(lambda: not any(alive(pid) for pid in children), 10, "the children end")
    assert (running.home / "run" / "status.sock").exists()
    running.start()
    assert tftp_read(running.address("tftp"), b"hello.txt") == b"hello, network\n"


def test_a_fixed_port_is_taken_again_at_once_after_the_supervisor_was_killed(running: Appliance) -> None:
    port = running.address("ftp")[1]
    running.write(ftp=port)
    client = running.ftp()
    running.signal(signal.SIGKILL)
    running.wait()
    client.close()
    running.start()
    assert running.address("ftp")[1] == port


def test_a_second_instance_on_the_same_run_dir_is_refused_and_the_first_is_unharmed(running: Appliance) -> None:
    before = running.pids("tftp") | running.pids("ftp")
    second = Appliance(running.home)
    second.log = running.home / "log2"
    second.start(wait=False)
    assert second.wait() == 1
    assert f"another appliance (pid {running.pid}) runs on {running.home}/run" in second.log.read_text()
    assert running.pids("tftp") | running.pids("ftp") == before
    assert tftp_read(running.address("tftp"), b"hello.txt") == b"hello, network\n"


def test_a_port_that_another_program_has_is_named_and_nothing_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        made = Appliance(tmp_path, ftp=other.getsockname()[1])
        made.start(wait=False)
        assert made.wait() == 1
        assert (
            f"cannot listen on tcp 127.0.0.1:{other.getsockname()[1]}: Address already in use" in made.log.read_text()
        )


def test_a_root_that_vanishes_is_reported_and_followed_when_it_comes_back(running: Appliance) -> None:
    running.tree.rename(running.home / "elsewhere")
    until(lambda: any("is gone" in p["what"] for p in running.status()["problems"]), 10, "the problem is shown")
    with pytest.raises(OSError, match="File not found"):
        tftp_read(running.address("tftp"), b"new.txt")
    running.tree.mkdir()
    (running.tree / "new.txt").write_bytes(b"new tree\n")
    address = running.address("tftp")

    def served() -> bool:
        try:
            return tftp_read(address, b"new.txt") == b"new tree\n"
        except OSError:
            return False

    until(served, 20, "the new tree is served")
    until(lambda: (running.tree / "incoming").is_dir(), 20, "its drop box is made")
    until(lambda: not running.status()["problems"], 20, "nothing is wrong any more")
    client = running.ftp()  # seen: 226 for uploads into the tree that was moved away, and `is gone` for ever
    client.storbinary("STOR incoming/new", io.BytesIO(b"here"))
    client.close()
    assert (running.tree / "incoming" / "new").read_bytes() == b"here"
    assert running.ready()


def test_files_copied_edited_or_removed_under_the_root_are_right_on_the_next_request(running: Appliance) -> None:
    address = running.address("tftp")
    client = running.ftp()
    for content in (b"first", b"second, longer", b"3"):
        (running.tree / "changing.txt").write_bytes(content)
        for _ in range(3):
            assert tftp_read(address, b"changing.txt") == content
            got: list[bytes] = []
            client.retrbinary("RETR changing.txt", got.append)
            assert b"".join(got) == content
    (running.tree / "changing.txt").unlink()
    with pytest.raises(OSError, match="File not found"):
        tftp_read(address, b"changing.txt")
    assert "changing.txt" not in client.nlst()
    client.close()


def test_it_starts_and_serves_without_any_standard_descriptor(tmp_path: Path) -> None:
    """As from a script that has closed them: no log line may go into what was opened with that number."""
    made = Appliance(tmp_path, incoming="false")
    argv = ["sh", "-c", 'exec "$@" >&- 2>&- <&-', "sh", *PROGRAM, "run", "-c", str(made.config)]
    made.process = subprocess.Popen(argv)
    try:
        until(lambda: made.ready() or made.ended(), 30, "ready")
        assert tftp_read(made.address("tftp"), b"hello.txt") == b"hello, network\n"
        for pid in (made.pid, *made.pids("tftp"), *made.pids("ftp")):
            assert {os.readlink(f"/proc/{pid}/fd/{number}") for number in (0, 1, 2)} == {"/dev/null"}
    finally:
        made.stop()


def test_a_hanging_worker_is_replaced(running: Appliance) -> None:
    """That systemd gets no WATCHDOG=1 meanwhile is shown in test_systemd."""
    victim = min(running.pids("tftp"))
    os.kill(victim, signal.SIGSTOP)
    until(lambda: len(running.pids("tftp") - {victim}) == 2, 30, "it is replaced")
    assert "worker hangs" in running.log.read_text()
    for _ in range(16):
        assert tftp_read(running.address("tftp"), b"hello.txt") == b"hello, network\n"


def test_the_exit_of_a_stopped_appliance_is_clean(running: Appliance) -> None:
    running.signal(signal.SIGTERM)
    assert running.wait() == 0
    assert not (running.home / "run" / "status.sock").exists()
    assert not (running.home / "run" / "act.sock").exists()


def test_a_descriptor_that_the_supervisor_was_started_with_reaches_no_child(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    made = Appliance(tmp_path)
    leaked = os.open(tmp_path / "secret", os.O_RDONLY)
    try:
        made.start(pass_fds=(leaked,))
        for pid in made.pids("tftp") | made.pids("ftp") | made.pids("status"):
            held = [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()]
            assert str(tmp_path / "secret") not in held
    finally:
        os.close(leaked)
        made.stop()


def test_a_child_cannot_write_over_what_the_log_says(tmp_path: Path) -> None:
    made = Appliance(tmp_path)
    try:
        with made.log.open("wb") as log:  # not opened for appending, as by `2>log`
            argv = [*PROGRAM, "run", "-c", str(made.config)]
            made.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until(lambda: made.ready() or made.ended(), 30, "ready")
        for pid in (made.pid, *made.pids("tftp")):
            flags = Path(f"/proc/{pid}/fdinfo/2").read_text().split("flags:")[1].split()[0]
            assert int(flags, 8) & os.O_APPEND
    finally:
        made.stop()


def test_a_supervisor_that_is_stopped_while_it_reads_leaves_nothing_behind(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "endless.yaml")  # a configuration that never ends: the reader waits for it
    writer = os.open(tmp_path / "endless.yaml", os.O_RDWR)
    (tmp_path / "tmp").mkdir()
    argv = python_argv("appliance.supervise.main", "--config", str(tmp_path / "endless.yaml"))
    process = subprocess.Popen(argv, env={**os.environ, "TMPDIR": str(tmp_path / "tmp")})
    try:
        (jail,) = until(lambda: list((tmp_path / "tmp").glob("appliance-reader-*")), 20, "it reads")
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert not jail.exists()
    finally:
        os.close(writer)
        process.kill()
        process.wait()


def cpu_ticks(pid: int) -> int:
    """User and system time that a process has used, in clock ticks."""
    return sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))


def test_a_supervisor_with_nothing_to_do_sleeps(tmp_path: Path) -> None:
    """Without a watchdog nothing was ever due, and it turned as fast as it could: one processor, for good."""
    with appliance(tmp_path) as running:
        used, since = cpu_ticks(running.pid), running.status()["uptime_s"]
        until(lambda: running.status()["uptime_s"] >= since + 3, 30, "three seconds")
        assert cpu_ticks(running.pid) - used < os.sysconf("SC_CLK_TCK") // 2
