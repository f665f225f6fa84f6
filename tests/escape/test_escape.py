"""Every kind of child tries to get out, by everything we can think of. None may succeed."""

from __future__ import annotations

import json
import os
import pwd
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from appliance.confine.report import Layer, Report
from tests.escape.attempts import ATTEMPTS, BOX_ONLY, HISTORY_ONLY, NR, STATE_ONLY
from tests.support import ROOT, born, spec

pytestmark = pytest.mark.skipif(not NR, reason="the attempts are written for x86_64")
KINDS = ("tftp", "ftp", "custody", "events", "metrics", "keeper", "status", "board", "reader", "resolver", "ftp-thread")
KINDS += ("unpacker", "publisher", "fetcher", "hooks")  # those of boot files
FETCHER_ONLY = {"connect_by_tcp"}  # what it is for; its spool is its jail
SECRET = b"if you can read this, the jail leaks"


def make_world(folder: Path) -> Path:
    """A jail with inviting things in it, and a secret beside it."""
    jail = folder / "jail"
    jail.mkdir()
    jail.chmod(0o777)  # so that it is not the folder's mode that refuses
    (folder / "secret").write_bytes(SECRET)
    (folder / "secret").chmod(0o644)
    (jail / "writable").write_bytes(b"x")
    (jail / "writable").chmod(0o666)
    (jail / "link-out").symlink_to(folder / "secret")
    (jail / "program").write_bytes(Path("/bin/true").read_bytes())
    (jail / "program").chmod(0o755)
    return jail


def attack(folder: Path, kind: str) -> tuple[dict[str, str], Report]:
    """Run all attempts inside a child of `kind`; what happened to each, and what the child had reported."""
    jail = make_world(folder)
    promise, _dash, threads = kind.partition("-")
    bind = (41000, 41010) if promise == "ftp" else None
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        settings: dict[str, Any] = {
            "victim": os.getpid(),
            "outside": str(folder / "secret"),
            "tcp_port": server.getsockname()[1],
        }
        settings["threads"] = bool(threads)
        writes = kind in ("custody", "events", "keeper", "unpacker", "fetcher")
        confinement = spec(str(jail), promise, writes=writes, bind_tcp=bind, connect_tcp=kind == "fetcher")
        with born("tests.escape.attempts:prepare", confinement, settings, (listener,)) as made:
            assert made.ready is not None, "the child did not become ready"
            report = Report(Layer(made.ready.layers), made.ready.landlock_abi, made.ready.syscalls)
            return made.answer, report


def escaped(results: dict[str, str], kind: str) -> set[str]:
    own = {"custody": BOX_ONLY, "events": HISTORY_ONLY, "keeper": STATE_ONLY, "unpacker": BOX_ONLY}
    own["fetcher"] = BOX_ONLY | FETCHER_ONLY
    return {name for name, result in results.items() if result == "ESCAPED"} - own.get(kind, frozenset())


def test_there_are_at_least_thirty_attempts() -> None:
    assert len(ATTEMPTS) >= 60


@pytest.mark.root
@pytest.mark.skipif(not ROOT, reason="needs root")
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_escapes_from_a_child_of_root(tmp_path: Path, kind: str) -> None:
    results, report = attack(tmp_path, kind)
    assert set(results) == set(ATTEMPTS)
    assert escaped(results, kind) == set()
    assert report.level == "full"
    assert (tmp_path / "secret").read_bytes() == SECRET


@pytest.fixture(scope="module")
def ordinary() -> tuple[int, int]:
    """uid and gid of an ordinary user."""
    entry = pwd.getpwnam("nobody") if ROOT else pwd.getpwuid(os.getuid())
    return entry.pw_uid, entry.pw_gid


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_escapes_from_a_child_of_an_ordinary_user(tmp_path_factory: Any, kind: str, ordinary: Any) -> None:
    """The same in a process that gave root up first, because a test that runs as root cannot come back."""
    uid, gid = ordinary
    folder = tmp_path_factory.mktemp(f"user-{kind}")
    for place in (folder, folder.parent, folder.parent.parent):
        place.chmod(0o755)
    if ROOT:
        os.chown(folder, uid, gid)
    code = (
        f"import os, sys, json; sys.path[:0] = {sys.path!r}\n"
        + (f"os.setgroups([]); os.setresgid({gid},{gid},{gid}); os.setresuid({uid},{uid},{uid})\n" if ROOT else "")
        + "from pathlib import Path; from tests.escape.test_escape import attack\n"
        f"results, report = attack(Path({str(folder)!r}), {kind!r}); print(json.dumps([results, report.plain()]))"
    )
    # an interpreter that the other user can reach; the one of a private virtual environment may be out of its reach
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/", timeout=60)
    assert done.returncode == 0, done.stderr
    results, report = json.loads(done.stdout)
    assert escaped(results, kind) == set()
    assert report["level"] in ("user", "partial")
    assert report["no_new_privs"]
    assert report["seccomp"]


HARMLESS = (
    "read_a_secret_by_absolute_path", "read_a_secret_by_climbing", "read_the_password_file",
    "read_through_any_descriptor", "read_through_a_planted_link", "make_a_memory_file", "make_memory_executable",
    "map_executable_memory", "connect_by_tcp", "connect_by_fast_open", "connect_by_fast_open_of_a_message",
    "have_the_kernel_signal_another_process", "make_a_unix_socket", "make_a_netlink_socket",
    "signal_another_process", "watch_files", "open_a_file_for_writing_by_openat2", "create_a_file",
    "open_a_served_file_for_writing", "open_a_served_file_for_both", "truncate_a_served_file", "make_a_folder",
    "say_that_somebody_else_uploaded_a_file",
    "make_a_link", "make_a_hard_link", "make_a_fifo", "change_times", "rename_a_served_file",
    "listen_on_a_port_that_was_not_granted", "open_the_jail_by_an_access_list",
    "open_the_jail_by_an_access_list_that_is_a_mode", "make_a_thread",
)  # fmt: skip


def test_the_attempts_are_real_because_an_unconfined_process_succeeds(tmp_path: Path) -> None:
    jail = make_world(tmp_path)
    code = (
        f"import os, sys, json; sys.path[:0] = {sys.path!r}; os.chdir({str(jail)!r})\n"
        "from tests.escape.attempts import ATTEMPTS, Scene, outcome\n"
        "scene = Scene(os.getpid(), sys.argv[1], int(sys.argv[2]), None); here = os.open('.', os.O_RDONLY)\n"
        f"print(json.dumps({{n: outcome(ATTEMPTS[n], scene) for n in {HARMLESS!r}}}))"
    )
    with socket.create_server(("127.0.0.1", 0)) as server:
        arguments = [sys.executable, "-c", code, str(tmp_path / "secret"), str(server.getsockname()[1])]
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert {name for name, result in json.loads(done.stdout).items() if result != "ESCAPED"} == set()
