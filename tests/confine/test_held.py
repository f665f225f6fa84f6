"""confine.held and program: what a program of others that starts others can do, and what each step shows of itself."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.boot import programs
from appliance.confine import held, landlock, libc
from appliance.errors import ConfinementError
from tests.support import ROOT, needs_root

ACCOUNT = (64623, 64623) if ROOT else (os.geteuid(), os.getegid())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for above in (*tmp_path.parents[:2], tmp_path):
        above.chmod(0o755)
    own = tmp_path / "own"
    own.mkdir()
    (tmp_path / "open").mkdir(mode=0o777)
    (tmp_path / "open").chmod(0o777)
    if ROOT:
        os.chown(own, *ACCOUNT)
    return own


def run(folder: Path, script: str, **more: bool) -> programs.Said:
    network = more.get("network", False)
    return programs.run(["/bin/sh", "-c", script], ACCOUNT, str(folder), network=network, seconds=60.0)


def test_it_starts_programs_and_writes_in_its_folder(folder: Path) -> None:
    said = run(folder, "mkdir d && cp /etc/passwd d/f && ln -s f d/l && mkfifo d/p && pwd && id -u && id -G")
    assert (said.code, said.err) == (0, b"")
    if ROOT:  # an ordinary user is nobody in the namespace that holds him
        assert said.out.decode().split() == [str(folder), *map(str, ACCOUNT)]
    assert (folder / "d" / "f").read_bytes() == Path("/etc/passwd").read_bytes()


@pytest.mark.parametrize(
    "script",
    [
        "cp /etc/passwd ../open/f",
        "ln /etc/passwd hard",
        "echo x > /dev/shm/appliance-test",
        "echo x > /tmp/appliance-test",
        "mv ../open ../other",
        "kill -0 1",
        "chown 0 .",
        "mount -t tmpfs none .",
    ],
)
def test_everything_else_is_refused(folder: Path, script: str) -> None:
    said = run(folder, script)
    assert said.code != 0 and said.err
    assert os.listdir(folder.parent / "open") == []


def test_without_network_it_sees_no_interface_but_its_own_loopback(folder: Path) -> None:
    assert run(folder, "tail -n +3 /proc/net/dev | wc -l").out.strip() == b"1"


def test_its_exit_code_and_its_signal_are_told(folder: Path) -> None:
    assert run(folder, "exit 3").code == 3
    assert run(folder, "kill -9 $$").code == -9
    said = programs.run(["/nowhere"], ACCOUNT, str(folder), network=False, seconds=60.0)
    assert said.code == 126 and b"/nowhere cannot be started" in said.err


def forked(action: Callable[[], object]) -> str:
    """What an action in a process of its own says."""
    reads, writes = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.write(writes, f"{action()}".encode())
        except (ConfinementError, OSError) as error:
            os.write(writes, str(error).encode())
        finally:
            os._exit(0)
    os.close(writes)
    with os.fdopen(reads) as said:
        text = said.read()
    os.waitpid(pid, 0)
    return text


@pytest.mark.parametrize("account", [(0, 1), (1, 0), (-1, -1)])
def test_no_program_of_others_runs_as_root(account: tuple[int, int]) -> None:
    assert forked(lambda: held.account(*account)) == "no program of others runs as root"


@pytest.mark.root
@needs_root[1]
def test_the_account_has_what_is_kept_and_no_way_to_more() -> None:
    def bounding() -> str:
        held.account(64623, 64623, (10,))
        status = Path("/proc/self/status").read_text()
        return " ".join(line.split()[1].lstrip("0") for line in status.splitlines() if line.startswith("Cap"))

    assert forked(bounding) == " ".join(["400"] * 5)  # inheritable, permitted, effective, bounding, ambient


@pytest.mark.root
@needs_root[1]
def test_an_account_that_was_not_changed_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "setresuid", lambda *_: None)
    assert "ids are" in forked(lambda: held.account(64623, 64623, (10,)))
    monkeypatch.setattr(libc, "capset", lambda *_, **__: None)
    assert "capabilities are" in forked(lambda: held.account(64623, 64623))


def test_a_limit_is_never_raised() -> None:
    def limits() -> str:
        held.limit({resource.RLIMIT_FSIZE: 1000})
        held.limit({resource.RLIMIT_FSIZE: 2000, resource.RLIMIT_CORE: 0})
        return f"{resource.getrlimit(resource.RLIMIT_FSIZE)} {resource.getrlimit(resource.RLIMIT_CORE)}"

    assert forked(limits) == "(1000, 1000) (0, 0)"


def test_landlock_that_does_not_hold_is_found_out_and_none_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def only_here() -> object:
        libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)
        return held.write_only_in(os.open("/tmp", os.O_PATH), network=False)

    assert forked(only_here) == str(landlock.abi() > 0)
    monkeypatch.setattr(landlock, "restrict_to", lambda *_, **__: None)
    monkeypatch.setattr(landlock, "abi", lambda: 1)
    assert forked(only_here) == "still possible after confinement: write elsewhere"
    monkeypatch.setattr(landlock, "abi", lambda: 0)
    assert forked(only_here) == "False"
