"""SIGHUP, SIGTERM and their verbs, with transfers under way."""

from __future__ import annotations

import ftplib
import io
import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import until
from tests.system.running import Appliance, appliance, tftp_read

BIG = bytes(range(256)) * 4096 * 8


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Appliance]:
    with appliance(tmp_path) as made:
        yield made


def begin(client: ftplib.FTP) -> tuple[socket.socket, bytes]:
    """A download that has begun and cannot finish by itself: nobody reads on."""
    client.voidcmd("TYPE I")
    data = client.transfercmd("RETR big.bin")
    return data, data.recv(1000)


def finish(client: ftplib.FTP, data: socket.socket, got: bytes) -> None:
    got += b"".join(iter(lambda: data.recv(1 << 16), b""))
    data.close()
    assert client.voidresp().startswith("226")
    assert got == BIG


def begin_tftp(address: tuple[str, int]) -> tuple[socket.socket, tuple[str, int], bytes]:
    """A TFTP read whose first block is acknowledged, so that it is waited for, and the second is not."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(60)
    sock.sendto(b"\0\1sub/long.bin\0octet\0", address)
    packet, peer = sock.recvfrom(1000)
    assert packet[:4] == b"\0\3\0\1"
    sock.sendto(b"\0\4\0\1", peer)
    while (second := sock.recv(1000))[:4] != b"\0\3\0\2":
        pass
    return sock, peer, packet[4:] + second[4:]


def finish_tftp(sock: socket.socket, peer: tuple[str, int], data: bytes) -> bytes:
    block = 2
    while True:
        sock.sendto(b"\0\4" + block.to_bytes(2, "big"), peer)
        block += 1
        packet = sock.recv(1000)
        while packet[:4] != b"\0\3" + block.to_bytes(2, "big"):
            packet = sock.recv(1000)
        data += packet[4:]
        if len(packet) < 516:
            sock.sendto(b"\0\4" + block.to_bytes(2, "big"), peer)
            sock.close()
            return data


def test_a_bad_configuration_changes_nothing_and_says_where(running: Appliance) -> None:
    before = {s: running.pids(s) for s in ("tftp", "ftp", "custody", "status")}
    good = running.config.read_text()
    running.write(good.replace("workers: 2", "workerz: 2", 1))
    done = running.verb("reload")
    assert done.returncode == 2
    line = next(n for n, text in enumerate(running.config.read_text().splitlines(), 1) if "workerz" in text)
    assert f"{running.config}:{line}:3: tftp.workerz: unknown key" in done.stdout + done.stderr
    assert "did you mean workers" in done.stdout + done.stderr
    assert {s: running.pids(s) for s in before} == before
    running.signal(signal.SIGHUP)
    running.said("nothing was changed")
    assert {s: running.pids(s) for s in before} == before
    assert running.ready()


def test_the_same_configuration_is_no_change(running: Appliance) -> None:
    before = running.pids("tftp") | running.pids("ftp")
    done = running.verb("reload")
    assert done.returncode == 0
    assert "nothing changed" in done.stdout
    assert running.pids("tftp") | running.pids("ftp") == before


def test_the_supervisor_writes_its_own_lines_in_the_form_of_a_reload_too(running: Appliance) -> None:
    """Seen: with `log: json` by a reload `worker died` was still a line of text among the objects."""
    running.write(running.config.read_text().replace("log: text", "log: json"))
    assert running.verb("reload").returncode == 0
    (pid,) = running.pids("custody")
    os.kill(pid, signal.SIGKILL)
    text = running.said("worker died")
    (line,) = [line for line in text.splitlines() if "worker died" in line]
    assert json.loads(line)["service"] == "custody"


def test_only_what_changed_is_replaced_and_its_port_stays(running: Appliance) -> None:
    before, address = {s: running.pids(s) for s in ("tftp", "ftp", "custody", "status")}, running.address("tftp")
    running.write(running.config.read_text().replace("workers: 2", "workers: 3\n  windowsize_max: 8", 1))
    done = running.verb("reload")
    assert (done.returncode, "tftp replaced" in done.stdout) == (0, True)
    assert len(running.pids("tftp")) == 3
    assert not running.pids("tftp") & before["tftp"]
    assert {s: running.pids(s) for s in ("ftp", "custody", "status")} == {
        s: before[s] for s in ("ftp", "custody", "status")
    }
    assert running.address("tftp") == address
    for _ in range(20):
        assert tftp_read(address, b"hello.txt") == b"hello, network\n"


def test_transfers_under_way_finish_on_the_old_workers(running: Appliance) -> None:
    (running.tree / "sub" / "long.bin").write_bytes(BIG[:20000])
    old = running.pids("tftp") | running.pids("ftp")
    client = running.ftp()
    data, got = begin(client)
    sock, peer, first = begin_tftp(running.address("tftp"))
    text = running.config.read_text().replace("workers: 2", "workers: 1").replace("max_size: 64MiB", "max_size: 32MiB")
    running.write(text)
    assert running.verb("reload").returncode == 0
    assert len(running.pids("tftp")) == len(running.pids("ftp")) == 1
    assert not (running.pids("tftp") | running.pids("ftp")) & old
    assert running.workers("ftp", "draining")
    assert tftp_read(running.address("tftp"), b"hello.txt") == b"hello, network\n"
    assert finish_tftp(sock, peer, first) == BIG[:20000]
    finish(client, data, got)
    client.close()
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in old), 25, "the old workers leave")


def test_an_upload_under_way_finishes_on_the_old_workers_and_the_old_custodian(running: Appliance) -> None:
    client = running.ftp()
    client.voidcmd("TYPE I")
    data = client.transfercmd("STOR incoming/slow.bin")
    data.sendall(BIG[:100_000])
    until(lambda: any(n.startswith(".up-") for n in os.listdir(running.tree / "incoming")), 10, "it has begun")
    old = running.pids("custody")
    running.write(running.config.read_text().replace("quota: 128MiB", "quota: 100MiB"))
    assert running.verb("reload").returncode == 0
    assert not running.pids("custody") & old
    fresh = running.ftp()  # seen: the new workers were linked to the old custodian, and refused every upload with 450
    assert fresh.storbinary("STOR incoming/new.bin", io.BytesIO(b"new")).startswith("226")
    fresh.close()
    data.sendall(BIG[100_000:200_000])
    data.close()
    assert client.voidresp().startswith("226")
    assert (running.tree / "incoming" / "slow.bin").read_bytes() == BIG[:200_000]
    client.close()


def test_what_old_workers_finish_after_a_reload_is_told_to_the_new_events_service(running: Appliance) -> None:
    """Seen: a reload that replaced that service left old workers without: uploads and boots that finished then were in
    no history, and no hook and no one-shot boot heard of them."""
    (running.tree / "sub" / "long.bin").write_bytes(BIG[:20000])
    client, uploader = running.ftp(), running.ftp()
    data, got = begin(client)
    uploader.voidcmd("TYPE I")
    upload = uploader.transfercmd("STOR incoming/slow.bin")
    sock, peer, first = begin_tftp(running.address("tftp"))
    old = running.pids("events")
    running.write(running.config.read_text().replace("log: text", "log: json"))
    assert running.verb("reload").returncode == 0
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in old), 25, "the old events service leaves")
    assert finish_tftp(sock, peer, first) == BIG[:20000]
    finish(client, data, got)
    upload.sendall(b"whole")
    upload.close()
    assert uploader.voidresp().startswith("226")
    wanted = {("tftp", "transfer"), ("ftp", "transfer"), ("custody", "stored")}

    def told() -> bool:
        lines = map(json.loads, running.verb("log", "--json").stdout.splitlines())
        return wanted <= {(one["room"], one["event"]) for one in lines}

    until(told, 25, "all of it is in the history")
    client.close()
    uploader.close()


def test_an_address_is_added_and_taken_away(running: Appliance) -> None:
    text = running.config.read_text()
    running.write(text.replace('["127.0.0.1:0", "[::1]:0"]', '["127.0.0.1:0", "[::1]:0", "127.0.0.2:0"]', 1))
    assert running.verb("reload").returncode == 0
    address = running.address("tftp", 2)
    assert address[0] == "127.0.0.2"
    assert tftp_read(address, b"hello.txt") == b"hello, network\n"
    running.write(text)
    assert running.verb("reload").returncode == 0
    assert len(running.status()["services"]["tftp"]["listen"]) == 2


def test_an_address_that_cannot_be_bound_refuses_the_reload(running: Appliance) -> None:
    before = running.pids("tftp") | running.pids("ftp")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        running.write(running.config.read_text().replace('"127.0.0.1:0", "[::1]:0"', f'"127.0.0.1:{port}"'))
        check = running.verb("check")
        done = running.verb("reload")
    assert (check.returncode, "ftp.listen[0]: " in check.stdout) == (2, True)
    assert done.returncode == 1
    assert f"cannot listen on tcp 127.0.0.1:{port}" in done.stdout + done.stderr
    assert running.pids("tftp") | running.pids("ftp") == before
    assert running.ready()


def test_a_service_is_switched_off_and_on(running: Appliance) -> None:
    text = running.config.read_text()
    running.write(
        text.replace("ftp:\n  listen", "ftp:\n  enabled: false\n  listen").replace("tftp:\n  enabled: false", "tftp:")
    )
    assert running.verb("reload").returncode == 0
    assert set(running.status()["services"]) >= {"tftp"}
    until(lambda: "ftp" not in running.status()["services"], 25, "the old FTP workers leave")
    running.write(text)
    assert running.verb("reload").returncode == 0
    running.ftp().close()


def test_a_folder_that_is_missing_refuses_the_reload_and_the_next_one_works(running: Appliance) -> None:
    text = running.config.read_text()
    before = running.pids("ftp")
    head, _, tail = text.partition("\nftp:\n")
    running.write(f"{head}\nftp:\n{tail.replace(f'{running.home}/tree', f'{running.home}/nowhere')}")
    running.signal(signal.SIGHUP)
    running.said("nothing was changed")
    assert running.ready()
    assert running.pids("ftp") == before
    running.write(text)
    assert running.verb("reload").returncode == 0


def test_run_dir_cannot_change_while_running(running: Appliance) -> None:
    text = running.config.read_text()
    running.write(text.replace(f"{running.home}/run", f"{running.home}/other"))
    running.signal(signal.SIGHUP)
    running.said("run_dir cannot change while running")
    running.write(text)


def test_a_reload_in_single_port_mode_lets_transfers_finish_on_the_port_that_is_served_on(tmp_path: Path) -> None:
    made = Appliance(tmp_path, drain="120s")  # the transfer is to end by itself, on a busy machine too
    single = f"  root: {tmp_path}/tree\n  single_port: true\n  allow: [127.0.0.0/8]\n"
    made.write(made.config.read_text().replace(f"  root: {tmp_path}/tree\n", single, 1))
    try:
        made.start()
        (made.tree / "sub" / "long.bin").write_bytes(BIG[:20000])
        address, old = made.address("tftp"), made.pids("tftp")
        sock, peer, first = begin_tftp(address)
        assert peer == address
        made.write(made.config.read_text().replace("  single_port", "  windowsize_max: 8\n  single_port"))
        assert made.verb("reload").returncode == 0
        assert made.workers("tftp", "draining")
        assert not made.pids("tftp") & old
        for _ in range(10):
            assert tftp_read(address, b"hello.txt") == b"hello, network\n"
        assert finish_tftp(sock, peer, first) == BIG[:20000]
        until(lambda: not made.workers("tftp", "draining"), 10)
        assert made.address("tftp") == address
    finally:
        made.stop()


def test_term_refuses_new_clients_and_lets_transfers_finish(running: Appliance) -> None:
    (running.tree / "sub" / "long.bin").write_bytes(BIG[:20000])
    tftp, ftp = running.address("tftp"), running.address("ftp")
    client, idle = running.ftp(), running.ftp()
    data, got = begin(client)
    sock, peer, first = begin_tftp(tftp)
    running.signal(signal.SIGTERM)
    until(lambda: running.status().get("state") == "draining", 10)

    def refused() -> bool:
        try:
            socket.create_connection(ftp, timeout=1).close()
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
        return False

    until(refused, 10, "new connections are refused")
    with pytest.raises((EOFError, ftplib.error_temp, OSError)):
        [idle.voidcmd("NOOP") for _ in range(2)]
    with pytest.raises(OSError):  # noqa: PT011  a timeout or a port unreachable, by kernel and moment
        tftp_read(tftp, b"hello.txt", timeout=0.5)
    assert finish_tftp(sock, peer, first) == BIG[:20000]
    finish(client, data, got)
    client.close()
    idle.close()
    assert running.wait() == 0


def test_a_transfer_that_does_not_finish_is_cut_after_the_drain_time(tmp_path: Path) -> None:
    with appliance(tmp_path, drain="1s") as running:
        client = running.ftp()
        data, _ = begin(client)
        running.signal(signal.SIGTERM)
        assert running.wait(15) == 0
        data.close()
        client.close()


def test_a_second_term_stops_now(running: Appliance) -> None:
    client = running.ftp()
    data, _ = begin(client)
    running.signal(signal.SIGTERM)
    until(lambda: running.status().get("state") == "draining", 10)
    running.signal(signal.SIGTERM)
    assert running.wait(10) == 0
    data.close()
    client.close()


def test_drain_is_term_by_word(running: Appliance) -> None:
    assert running.verb("drain").returncode == 0
    assert running.wait() == 0


def test_control_c_ends_it_cleanly(running: Appliance) -> None:
    running.signal(signal.SIGINT)
    assert running.wait() == 0


def test_verbs_say_so_when_nothing_runs(tmp_path: Path) -> None:
    made = Appliance(tmp_path)
    for verb in ("status", "reload", "drain"):
        done = made.verb(verb)
        assert done.returncode == 1
        assert "not running" in done.stdout + done.stderr


def test_a_stranger_cannot_act(running: Appliance) -> None:
    """The socket is private, and the supervisor asks the kernel who speaks."""
    if os.geteuid() != 0:
        pytest.skip("needs root to become somebody else")
    place = running.home / "run" / "act.sock"
    assert place.stat().st_mode & 0o777 == 0o600
    place.chmod(0o666)
    for folder in (running.home, running.home.parent, running.home.parent.parent):
        folder.chmod(0o755)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
                sock.settimeout(10)
                sock.connect(str(place))
                answer = sock.recv(1000)
                code = 0 if answer.startswith(b"only root") and sock.recv(100) == b"failed" else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert running.ready()


def test_garbage_on_the_act_socket_is_answered_and_harms_nothing(running: Appliance) -> None:
    for word in (b"reboot", b"\xff" * 5000, b"reload\n"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
            sock.settimeout(10)
            sock.connect(str(running.home / "run" / "act.sock"))
            sock.send(word)
            assert sock.recv(1000) == b"unknown word"
            assert sock.recv(1000) == b"failed"
    assert running.ready()


def test_each_custodian_has_its_own_folder_and_is_replaced_alone(running: Appliance) -> None:
    text = running.config.read_text()
    on = text.replace("tftp:\n  listen", "tftp:\n  uploads: {mode: replace, path: up, keep_versions: 2}\n  listen", 1)
    running.write(on)
    assert running.verb("reload").returncode == 0
    boxes = {"custody": running.tree / "incoming", "tftp-custody": running.tree / "up"}
    for name, folder in boxes.items():
        (worker,) = running.workers(name)
        assert (folder.stat().st_mode & 0o777, folder.stat().st_uid) == (0o700, worker["uid"])
        assert os.path.samefile(f"/proc/{worker['pid']}/cwd", folder)
    before = {name: running.pids(name) for name in boxes}
    running.write(on.replace("keep_versions: 2", "keep_versions: 3"))
    assert running.verb("reload").returncode == 0
    assert running.pids("custody") == before["custody"]
    assert not running.pids("tftp-custody") & before["tftp-custody"]
    (pid,) = running.pids("tftp-custody")
    os.kill(pid, signal.SIGKILL)
    until(lambda: running.pids("tftp-custody") not in (set(), {pid}), 10, "it is back")
    running.write(text)
    assert running.verb("reload").returncode == 0
    until(lambda: "tftp-custody" not in running.status()["services"], 25, "it leaves")
    assert running.ready()


def test_the_threads_of_an_ftp_worker_end_without_a_library_that_the_jail_lacks(tmp_path: Path) -> None:
    with appliance(tmp_path) as running:
        running.ftp().close()
        assert running.verb("drain").returncode == 0
        assert running.wait() == 0
        assert "must be installed" not in running.log.read_text()
