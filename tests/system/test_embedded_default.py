"""`appliance run` with nothing but an empty HOME: what the README's first command starts, for root and for anybody."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import ROOT, until
from tests.system.running import PROGRAM
from tests.system.test_confined import reachable_python

ORDINARY = 12345
SCRIPT = 'ip link set lo up; exec "$@"'  # a network of its own: the default ports may be in use here


@contextmanager
def started(home: Path, uid: int) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process and its output up to the last line of the banner."""
    become = [] if uid == 0 else ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
    argv = ["unshare", "--net", "sh", "-c", SCRIPT, "sh", *become, *PROGRAM, "run"]
    output = home / "output"
    with output.open("w") as out:
        environment = {"HOME": str(home), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        process = subprocess.Popen(argv, stdout=out, stderr=out, stdin=subprocess.DEVNULL, env=environment, text=True)
    try:
        until(lambda: "Ctrl-C ends it." in output.read_text() or process.poll() is not None, 60, "the banner")
        yield process, output.read_text()
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


@pytest.mark.root
@pytest.mark.skipif(not ROOT, reason="needs root for a network namespace")
@pytest.mark.parametrize("uid", [0, ORDINARY])
def test_it_serves_says_so_in_under_ten_lines_and_ends_cleanly(tmp_path: Path, uid: int) -> None:
    if uid and not reachable_python():
        pytest.skip("the interpreter is in a folder that only root can enter")
    for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        folder.chmod(0o755)
    os.chown(tmp_path, uid, uid)
    with started(tmp_path, uid) as (process, output):
        lines = [line for line in output.splitlines() if not re.match(r"(INFO|WARNING) ", line)]
        assert len(lines) < 10, output
        assert "Confinement " + ("user" if uid else "full") in output
        inside = ["nsenter", "--net", "--target", str(process.pid)]
        commands = [line.split("(")[0].split() for line in lines if line.startswith("  curl")]
        assert len(commands) == 3
        for command in commands:  # exactly what it told us to type
            subprocess.run([*inside, *command, "-sS"], check=True, timeout=60, cwd=tmp_path, capture_output=True)
        tree = tmp_path / ".local/state/appliance/tree"
        assert (tmp_path / "big.bin").read_bytes() == (tree / "big.bin").read_bytes()
        assert (tree / "big.bin").stat().st_size == 64 << 20
        assert (tree / "incoming" / "hello.txt").read_bytes() == (tree / "hello.txt").read_bytes()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
