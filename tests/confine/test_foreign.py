"""A program of others that is locked in: what it may do works, and everything else is refused, each by its layer."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from appliance.confine import foreign
from appliance.confine.foreign import CAP_NET_BIND_SERVICE, Foreign
from appliance.errors import ConfinementError
from tests.support import needs_root

BUSYBOX = shutil.which("busybox") or ""
pytestmark = [*needs_root, pytest.mark.skipif(not BUSYBOX, reason="needs busybox")]
UID = 64626


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for above in (*tmp_path.parents[:2], tmp_path):
        above.chmod(0o755)
    own = tmp_path / "own"
    own.mkdir()
    os.chown(own, UID, UID)
    (tmp_path / "open").mkdir(mode=0o777)
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "open" / "readable").write_text("everybody may read this\n")
    return own


def run(folder: Path, *arguments: str, uid: int = UID) -> tuple[int, str]:
    """Exit status and output of busybox as it is locked in."""
    reads, writes = os.pipe()
    pid = os.fork()
    if not pid:
        code = 99
        try:
            os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
            os.dup2(writes, 1)
            os.dup2(writes, 2)
            program = Foreign(BUSYBOX, arguments, str(folder), uid, UID, (CAP_NET_BIND_SERVICE,), "dnsmasq")
            foreign.lock(program)
            foreign.become(program)
        except ConfinementError as error:
            os.write(2, str(error).encode())
            code = 98
        finally:
            os._exit(code)
    os.close(writes)
    with os.fdopen(reads) as said:
        text = said.read()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), text


def test_it_runs_and_writes_in_its_own_folder(folder: Path) -> None:
    assert run(folder, "dd", "if=/etc/passwd", f"of={folder}/made")[0] == 0
    assert (folder / "made").stat().st_uid == UID
    assert run(folder, "cat", "/etc/passwd")[0] == 0


def test_files_that_everybody_may_read_or_write_are_out_of_reach(folder: Path) -> None:
    code, text = run(folder, "cat", f"{folder.parent}/open/readable")
    assert (code, "Permission denied" in text) == (1, True)
    code, text = run(folder, "dd", "if=/etc/passwd", f"of={folder.parent}/open/made")
    assert code != 0 and "Permission denied" in text
    assert not (folder.parent / "open" / "made").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("sh", "-c", "busybox true & wait; echo forked"),
        ("ls", "/proc/1"),
        ("ping", "-c1", "-W1", "127.0.0.1"),
        ("nc", "-l", "-p", "7777"),
        ("hostname", "other"),
        ("kill", "-0", "1"),
        ("chmod", "777", "."),
        ("mkdir", "sub"),
        ("ln", "-s", "a", "b"),
        ("env", "/bin/true"),
    ],
)
def test_processes_other_programs_raw_and_tcp_sockets_and_signals_are_refused(
    folder: Path, words: tuple[str, ...]
) -> None:
    code, text = run(folder, *words)
    assert code != 0, text
    assert "forked" not in text
    assert "denied" in text or "not permitted" in text, text


def test_nothing_of_others_runs_as_root(folder: Path) -> None:
    assert run(folder, "true", uid=0) == (98, "no program of others runs as root")


def test_a_kernel_without_landlock_runs_nothing_of_others(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign.landlock, "abi", lambda: 0)
    code, text = run(folder, "true")
    assert code == 98 and "Landlock" in text
