"""The runner runs what it was told at its birth, holds it, ends it in time, and leaves nothing of it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appliance.confine.hook import Hold
from appliance.errors import StartError
from appliance.hooks import orders, runner
from appliance.hooks.orders import End, Order, Result
from appliance.settings.hooks import Hook
from tests.support import ROOT, needs_root, until

UID = 64625
SH = "/bin/sh"


def sh(script: str, **more: object) -> Hook:
    return Hook(on=("fault",), run=(SH, "-c", script), **more)  # type: ignore[arg-type]


def python(script: str, **more: object) -> Hook:
    """With the interpreter of the system: the one of a virtual environment may be out of the account's reach."""
    program = "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable
    return Hook(on=("fault",), run=(program, "-I", "-c", script), **more)  # type: ignore[arg-type]


Start = Callable[..., socket.socket]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for above in (*tmp_path.parents[:2], tmp_path):
        above.chmod(0o755)
    own = tmp_path / "hooks"
    own.mkdir(mode=0o700)
    if ROOT:
        os.chown(own, UID, UID)
    return own


@pytest.fixture
def begin(folder: Path) -> Iterator[Start]:
    """Starts runners; they end with the test."""
    socks: list[socket.socket] = []

    def start(*hooks: Hook) -> socket.socket:
        held = Hold(str(folder), UID if ROOT else os.getuid(), UID if ROOT else os.getgid(), required=False)
        sock = runner.start(runner.Programs(hooks, held))
        socks.append(sock)
        return sock

    yield start
    for sock in socks:
        sock.close()
    for _ in socks:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, 0)


def give(sock: socket.socket, hook: int = 0, document: bytes = b"{}\n", run: int = 1) -> None:
    sock.send(orders.pack_order(Order(run, hook, document)))


def result(sock: socket.socket, seconds: float = 60) -> Result:
    assert select.select([sock], [], [], seconds)[0], "no result"
    return orders.result_of(sock.recv(orders.MESSAGE_MAX))


def test_the_event_is_on_standard_input_and_in_no_argument_and_no_variable(begin: Start) -> None:
    script = "import json, os, sys; print(json.dumps([sys.stdin.read(), sys.argv, dict(os.environ), os.getcwd()]))"
    sock = begin(python(script))
    give(sock, document=b'{"name":"hostile $(reboot)"}\n')
    found = result(sock)
    assert (found.end, found.value, found.run) == (End.EXITED, 0, 1), found
    told, argv, environment, here = json.loads(found.output)
    assert told == '{"name":"hostile $(reboot)"}\n'
    assert argv == ["-c"]
    assert set(environment) - {"LC_CTYPE"} == {"PATH", "LC_ALL", "HOME", "TMPDIR"}
    assert here == environment["HOME"] == environment["TMPDIR"]


@pytest.mark.parametrize(
    ("hook", "end", "value"),
    [
        (sh("exit 3"), End.EXITED, 3),
        (sh("kill -9 $$"), End.SIGNALLED, 9),
        (sh("kill -13 $$"), End.SIGNALLED, 13),
        (Hook(on=("fault",), run=("/nonexistent/program",)), End.NOT_STARTED, 2),
        (Hook(on=("fault",), run=("/etc/passwd",)), End.NOT_STARTED, 13),
    ],
)
def test_how_it_ended_is_told(begin: Start, hook: Hook, end: End, value: int) -> None:
    sock = begin(hook)
    give(sock)
    found = result(sock)
    assert (found.end, found.value) == (end, value)


def test_what_it_says_is_kept_up_to_a_bound_and_the_rest_is_read(begin: Start) -> None:
    sock = begin(sh("head -c 1000000 /dev/zero | tr '\\0' 'x'; echo end >&2"))
    give(sock)
    found = result(sock)
    assert (found.end, found.value, found.output) == (End.EXITED, 0, b"x" * orders.OUTPUT_MAX)


def alive(pid: int) -> bool:
    try:
        return not Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0].startswith("Z")
    except OSError:
        return False


FLEES = "import os, time\nfor _ in range(2):\n  if os.fork(): os._exit(0)\n  os.setsid()\n"


@pytest.mark.parametrize("how", ["the program hangs", "the program has ended"])
def test_nothing_that_it_started_outlives_it_not_even_a_daemon(begin: Start, folder: Path, how: str) -> None:
    stays = "time.sleep(600)"
    flees = f"{FLEES}open('pid', 'w').write(str(os.getpid()))\n{stays}"
    wait = stays if how == "the program hangs" else "exec('while not os.path.exists(\"pid\"): time.sleep(0.01)')"
    script = f"import os, time\nif not os.fork():\n  exec({flees!r})\n{wait}"
    sock = begin(python(script, timeout=8.0 if how == "the program hangs" else 60.0))
    give(sock)
    found = result(sock)
    assert found.end is (End.TIME_LIMIT if how == "the program hangs" else End.EXITED), found
    assert not alive(int((folder / "pid").read_text()))


def test_one_that_closed_its_output_is_ended_in_time_too(begin: Start) -> None:
    sock = begin(sh("exec >&- 2>&- ; sleep 600", timeout=1.0))
    give(sock)
    found = result(sock)
    assert found.end is End.TIME_LIMIT
    assert found.ms >= 1000


def test_programs_run_beside_each_other_and_a_slow_one_holds_up_no_other(begin: Start, folder: Path) -> None:
    sock = begin(sh("until test -e go; do sleep 0.1; done", timeout=300.0), sh("exit 0"))
    give(sock, 0, run=1)
    for run in range(2, 12):
        give(sock, 1, run=run)
    found = [result(sock) for _ in range(10)]
    assert {one.run for one in found if one.well} == set(range(2, 12))
    (folder / "go").touch()
    slow = result(sock)
    assert (slow.run, slow.well) == (1, True)


def test_when_the_socket_is_closed_the_programs_end(begin: Start, folder: Path) -> None:
    sock = begin(sh("echo $$ > started; mv started pid; sleep 600", timeout=600.0))
    give(sock)
    until(lambda: (folder / "pid").exists(), 60, "the program has begun")
    pid = int((folder / "pid").read_text())
    assert alive(pid)
    sock.close()
    until(lambda: not alive(pid), 60, "it ended")


@pytest.mark.parametrize("message", [b"x", orders.pack_order(Order(1, 7, b""))[:4]])
def test_what_is_no_order_ends_the_runner(begin: Start, message: bytes) -> None:
    sock = begin(sh("exit 0"))
    sock.send(message)
    assert select.select([sock], [], [], 60)[0]
    with contextlib.suppress(ConnectionResetError):
        assert sock.recv(100) == b""


def test_a_program_that_does_not_exist_in_the_list_is_lost_and_the_next_one_runs(begin: Start) -> None:
    sock = begin(sh("exit 0"))
    give(sock, 9, run=1)
    assert result(sock).end is End.LOST
    give(sock, 0, run=2)
    assert result(sock).well


@pytest.mark.root
@pytest.mark.skipif(not ROOT, reason="needs root")
def test_a_watcher_that_is_killed_is_told_and_its_program_does_not_stay(begin: Start, folder: Path) -> None:
    sock = begin(sh("echo $PPID $$ > started; mv started pid; sleep 600", timeout=600.0))
    give(sock)
    until(lambda: (folder / "pid").exists(), 60, "the program has begun")
    watcher, program = map(int, (folder / "pid").read_text().split())
    os.kill(watcher, signal.SIGKILL)
    assert result(sock).end is End.LOST
    until(lambda: not alive(program), 60, "it ended")


def test_a_folder_that_is_not_there_is_told_at_the_birth(folder: Path) -> None:
    held = Hold(f"{folder}/none", UID if ROOT else os.getuid(), UID if ROOT else os.getgid(), required=False)
    with pytest.raises(StartError, match=r"observe\.hooks: .*No such file"):
        runner.start(runner.Programs((sh("exit 0"),), held))
    os.waitpid(-1, 0)


# --- how it is held

ASK = """
import ctypes, errno, json, os, socket, sys
found = {}
def tried(name, action):
    try:
        action(); found[name] = "done"
    except OSError as error:
        found[name] = errno.errorcode[error.errno]
status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines() if ":" in line)
found["status"] = {name: status[name].strip() for name in
                   ("Uid", "Gid", "Groups", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")}
found["descriptors"] = [name for name in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd/" + name)]
tried("write home", lambda: open("made", "w").write("x"))
tried("make a folder", lambda: os.makedirs("a/b"))
tried("write /tmp", lambda: open("/tmp/appliance-hook-test", "w").write("x"))
tried("write beside", lambda: open("../beside", "w").write("x"))
tried("read passwd", lambda: open("/etc/passwd").read())
tried("read shadow", lambda: open("/etc/shadow").read())
tried("discard", lambda: open("/dev/null", "w").write("x"))
tried("unix", lambda: socket.socket(socket.AF_UNIX).close())
tried("tcp", lambda: socket.create_connection(("127.0.0.1", PORT), 5).close())
tried("udp", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close())
tried("raw", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1).close())
tried("packet", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM).close())
tried("listen", lambda: socket.create_server(("127.0.0.1", 0)).close())
tried("signal the test", lambda: os.kill(VICTIM, 0))
tried("signal the watcher", lambda: os.kill(os.getppid(), 0))
tried("become root", lambda: os.setresuid(0, 0, 0))
libc = ctypes.CDLL(None, use_errno=True)
def call(*arguments):
    if libc.syscall(*arguments) < 0:
        raise OSError(ctypes.get_errno(), "")
tried("new user namespace", lambda: call(272, 0x10000000))
tried("clone a user namespace", lambda: call(56, 0x10000000 | 17, 0, 0, 0, 0))
tried("clone3", lambda: call(435, 0, 0))
tried("ptrace", lambda: call(101, 0, 0, 0, 0))
tried("io_uring", lambda: call(425, 1, 0))
tried("mount", lambda: call(165, 0, 0, 0, 0, 0))
tried("bpf", lambda: call(321, 0, 0, 0))
print(json.dumps(found))
"""


@pytest.mark.parametrize("network", [False, True])
@needs_root[0]
@needs_root[1]
def test_it_has_an_account_one_folder_no_rights_and_a_network_only_where_it_may(
    begin: Start, folder: Path, network: bool
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        script = ASK.replace("PORT", str(server.getsockname()[1])).replace("VICTIM", str(os.getpid()))
        (folder / "ask.py").write_text(script)
        (folder / "ask.py").chmod(0o644)
        os.chown(folder / "ask.py", UID, UID)
        program = Hook(on=("fault",), run=("/usr/bin/python3", "-I", "ask.py"), network=network)
        sock = begin(program)
        give(sock)
        answer = result(sock)
    assert answer.well, answer
    found = json.loads(answer.output)
    status = found.pop("status")
    assert status["Uid"].split() == status["Gid"].split() == [str(UID)] * 4
    assert (status["Groups"], status["NoNewPrivs"], status["Seccomp"]) == ("", "1", "2")
    assert {int(status[name], 16) for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    assert sorted(found.pop("descriptors")) == ["0", "1", "2"]
    reach = "done" if network else "EPERM"
    assert found == {
        "write home": "done", "make a folder": "done", "write /tmp": "EACCES", "write beside": "EACCES",
        "read passwd": "done", "read shadow": "EACCES", "discard": "done", "unix": "done",
        "tcp": reach, "udp": reach, "raw": "EPERM", "packet": "EPERM", "listen": "EACCES" if network else "EPERM",
        "signal the test": "EPERM", "signal the watcher": "EPERM", "become root": "EPERM",
        "new user namespace": "EPERM", "clone a user namespace": "EPERM", "clone3": "ENOSYS", "ptrace": "EPERM",
        "io_uring": "EPERM", "mount": "EPERM", "bpf": "EPERM",
    }  # fmt: skip
