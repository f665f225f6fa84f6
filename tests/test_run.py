"""The runner of the tests: a failed one gets one more try, and what is broken stays red."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import run

ONCE = """from pathlib import Path

def test_racy():
    mark = Path("mark")
    seen = mark.exists()
    mark.touch()
    assert seen
"""


def tried(folder: Path, content: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_it.py").write_text(content)
    (folder / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, str(Path(run.__file__).resolve()), "-q", "test_it.py"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


def test_a_test_that_fails_once_passes_and_is_named(tmp_path: Path) -> None:
    done = tried(tmp_path, ONCE)
    assert done.returncode == 0, done.stdout
    assert done.stdout.rstrip().endswith("UNSTEADY, passed only at the second try; mend them:\n  test_it.py::test_racy")


def test_a_test_that_fails_twice_fails_the_run(tmp_path: Path) -> None:
    done = tried(tmp_path, "def test_broken():\n    assert False\n")
    assert done.returncode == 1
    assert "UNSTEADY" not in done.stdout


def test_a_file_that_cannot_be_read_is_not_tried_again(tmp_path: Path) -> None:
    done = tried(tmp_path, "import nothing_of_this_name\n")
    assert done.returncode == 2
    assert "once more" not in done.stdout


@pytest.mark.parametrize(
    ("status", "failed", "again"),
    [(1, 1, True), (1, 5, True), (1, 6, False), (1, 0, False), (2, 1, False), (0, 0, False)],
)
def test_only_a_few_failures_and_nothing_else_are_worth_another_try(status: int, failed: int, again: bool) -> None:
    assert run.verdict(status, ["a"] * failed) is again
