"""What `status --json` says of the confinement is what the kernel says, for every process, as root and as anybody."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import pwd
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.confine import seccomp
from tests.support import ROOT, until
from tests.system.running import PROGRAM, Appliance, tftp_read

KINDS = ("tftp", "ftp", "custody", "events", "status", "board", "hooks")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    home = tmp_path_factory.mktemp("confined")
    made = Appliance(home, confinement="required" if ROOT else "best-effort")
    made.write(
        made.config.read_text().replace(
            "{log: text}", "{log: text, board_listen: '127.0.0.1:0', hooks: [{on: [fault], run: [/bin/true]}]}"
        )
    )
    try:
        yield made.start()
    finally:
        made.stop()


def proc(pid: int) -> dict[str, str]:
    return dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)


def every_worker(running: Appliance) -> list[tuple[str, dict[str, Any]]]:
    services = running.status()["services"]
    return [(name, worker) for name, entry in services.items() for worker in entry["workers"]]


@pytest.mark.root
@pytest.mark.skipif(not ROOT, reason="needs root")
@pytest.mark.parametrize("kind", KINDS)
def test_the_kernel_agrees_with_the_status(running: Appliance, kind: str) -> None:
    workers = [worker for name, worker in every_worker(running) if name == kind]
    assert workers
    for worker in workers:
        said, confinement = proc(worker["pid"]), worker["confinement"]
        assert confinement["level"] == "full"
        assert said["Uid"].split() == [str(worker["uid"])] * 4
        assert said["Gid"].split() == [str(worker["gid"])] * 4
        assert worker["uid"] > 0
        assert said["Groups"].strip() == ""
        assert {int(said[k], 16) for k in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
        filters = "2" if kind == "ftp" else "1"  # the second one ends the making of threads (decision 0013)
        found = tuple(said[name].strip() for name in ("NoNewPrivs", "Seccomp", "Seccomp_filters"))
        assert found == ("1", "2", filters)
        assert os.path.samefile(f"/proc/{worker['pid']}/root", worker["jail"])
        limits = Path(f"/proc/{worker['pid']}/limits").read_text()
        assert "Max core file size        0                    0" in limits


@pytest.mark.root
@pytest.mark.skipif(not ROOT, reason="needs root")
def test_no_process_holds_a_directory_or_a_file_that_it_could_write(running: Appliance) -> None:
    for name, worker in every_worker(running):
        folder = Path(f"/proc/{worker['pid']}/fd")
        for entry in folder.iterdir():
            target = os.readlink(entry)
            if target.startswith("/") and "memfd:" not in target and target != "/dev/null":
                if name == "events" and target.startswith(f"{running.home}/state/events/"):
                    continue  # its own history, to append to
                if name in ("events", "status") and target.endswith("/net/arp"):
                    flags = (folder.parent / "fdinfo" / entry.name).read_text().split("flags:")[1].split()[0]
                    assert int(flags, 8) & os.O_ACCMODE == os.O_RDONLY  # the neighbours
                    continue
                assert target == str(running.log), (name, target)


def test_each_service_has_its_own_uid(running: Appliance) -> None:
    by_service: dict[str, set[int]] = {}
    for name, worker in every_worker(running):
        by_service.setdefault(name, set()).add(worker["uid"])
    if ROOT:
        assert len({uid for uids in by_service.values() for uid in uids}) == len(KINDS)
    assert all(len(uids) == 1 for uids in by_service.values())


def test_the_supervisor_parses_no_yaml_and_loads_no_validator(running: Appliance) -> None:
    maps = Path(f"/proc/{running.pid}/maps").read_text()
    for foreign in ("pydantic", "_yaml", "_ssl", "_ctypes"):
        assert foreign not in maps


def test_the_custodian_alone_can_write_the_drop_box(running: Appliance) -> None:
    found = (running.tree / "incoming").stat()
    assert found.st_mode & 0o777 == 0o700
    if ROOT:
        assert found.st_uid == running.workers("custody")[0]["uid"]


def user_script(home: Path, body: str) -> list[str]:
    """Python that becomes an ordinary user first (when we are root) and then runs `body`."""
    entry = pwd.getpwnam("nobody") if ROOT else pwd.getpwuid(os.getuid())
    if ROOT:
        for folder in (home, home.parent, home.parent.parent):
            folder.chmod(0o755)
        for place in [home, *home.rglob("*")]:
            os.chown(place, entry.pw_uid, entry.pw_gid)
    become = (
        f"os.setgroups([]); os.setresgid(*[{entry.pw_gid}] * 3); os.setresuid(*[{entry.pw_uid}] * 3)\n" if ROOT else ""
    )
    return [sys.executable, "-c", "import os, sys, json\n" + become + body]


def run_as_user(home: Path, before: str = "") -> subprocess.Popen[bytes]:
    """`appliance run` as an ordinary user; `before` is Python run just before."""
    program = [*PROGRAM, "run", "-c", str(home / "appliance.yaml")]
    body = f"{before}\nos.execv({program[0]!r}, {program!r})"
    with (home / "log").open("ab") as log:
        return subprocess.Popen(user_script(home, body), stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd="/")


def reachable_python() -> bool:
    """An interpreter in root's own home cannot be started by anybody else."""
    argv = user_script(Path("/tmp/none/none/none"), "") if not ROOT else None
    return argv is not None or subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", sys.executable, "-c", ""], capture_output=True
    ).returncode == 0  # fmt: skip


def test_as_an_ordinary_user_each_process_has_its_own_namespace_and_jail(tmp_path: Path) -> None:
    if not reachable_python():
        pytest.skip("the interpreter is in a folder that only root can enter")
    made = Appliance(tmp_path, confinement="required")
    made.process = run_as_user(tmp_path)
    try:
        until(lambda: made.ready() or made.ended(), 30, "ready")
        assert tftp_read(made.address("tftp"), b"hello.txt") == b"hello, network\n"
        namespaces = set()
        for _name, worker in every_worker(made):
            assert worker["confinement"]["level"] == "user"
            assert worker["confinement"]["jail"] == "userns"
            said = proc(worker["pid"])
            assert {int(said[k], 16) for k in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
            assert (said["NoNewPrivs"].strip(), said["Seccomp"].strip()) == ("1", "2")
            if ROOT:
                assert os.path.samefile(f"/proc/{worker['pid']}/root", worker["jail"])
                namespaces.add(os.readlink(f"/proc/{worker['pid']}/ns/user"))
        assert not ROOT or len(namespaces) == len(every_worker(made))
        client = made.ftp()
        with (made.tree / "big.bin").open("rb") as file:
            assert client.storbinary("STOR incoming/up.bin", file).startswith("226")
        client.close()
        assert (made.tree / "incoming" / "up.bin").read_bytes() == (made.tree / "big.bin").read_bytes()
    finally:
        made.stop()


NO_NAMESPACES = f"""
sys.path[:0] = {sys.path!r}
from tests.system.test_confined import refuse_namespaces
refuse_namespaces()
"""


def refuse_namespaces() -> None:
    """Be a kernel without user namespaces: a filter that is inherited answers unshare with EPERM."""
    from appliance.confine import libc

    number = {"x86_64": 272, "aarch64": 97}[os.uname().machine]
    libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)
    seccomp.load(
        [
            (seccomp.LOAD, 0, 0, 0),
            (seccomp.EQUAL, 0, 1, number),
            (seccomp.RETURN, 0, 0, seccomp.ERRNO | errno.EPERM),
            (seccomp.RETURN, 0, 0, seccomp.ALLOW),
        ]
    )
    assert ctypes.get_errno() == 0


def test_required_refuses_to_start_below_its_level_and_names_what_is_missing(tmp_path: Path) -> None:
    if not reachable_python():
        pytest.skip("the interpreter is in a folder that only root can enter")
    made = Appliance(tmp_path, confinement="required")
    made.process = run_as_user(tmp_path, NO_NAMESPACES)
    assert made.wait() == 1
    log = made.log.read_text()
    assert "user namespace: unshare: Operation not permitted" in log
    assert "sysctl -w user.max_user_namespaces" in log


def test_best_effort_serves_with_landlock_and_seccomp_where_there_is_no_namespace(tmp_path: Path) -> None:
    if not reachable_python():
        pytest.skip("the interpreter is in a folder that only root can enter")
    made = Appliance(tmp_path, confinement="best-effort")
    (made.tree / "escape").symlink_to("/etc/passwd")
    made.process = run_as_user(tmp_path, NO_NAMESPACES)
    try:
        until(lambda: made.ready() or made.ended(), 30, "ready")
        status = made.status()
        assert {w["confinement"]["level"] for _, w in every_worker(made)} == {"partial"}
        assert any("confined only partly" in problem["what"] for problem in status["problems"])
        assert all(w["confinement"]["seccomp"] for _, w in every_worker(made))
        assert tftp_read(made.address("tftp"), b"hello.txt") == b"hello, network\n"
        for name in (b"escape", b"/etc/passwd", b"../../../../etc/passwd"):
            with pytest.raises(OSError, match=r"\w"):
                tftp_read(made.address("tftp"), name)
    finally:
        made.stop()


def test_the_status_document_is_json_that_the_verb_passes_on(running: Appliance) -> None:
    done = running.verb("status", "--json", "--wait", "10")
    assert done.returncode == 0
    document = json.loads(done.stdout)
    assert document["ready"] is True
    assert set(document["services"]) == set(KINDS)
    assert document["config"] == str(running.config)
