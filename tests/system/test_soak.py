"""A short soak: the whole appliance under load, each kind of fault at least once, and every bar of bench.soak held."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.soak.schedule import KINDS, REPLACING
from tests.support import needs_root

pytestmark = needs_root
TREE = Path(__file__).parents[2]


@pytest.mark.skipif(not shutil.which("unshare") and "CI" not in os.environ, reason="needs unshare (util-linux)")
def test_nothing_fails_grows_or_stays_behind_whatever_dies_or_fills_up(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    command = [sys.executable, "-m", "bench.soak", "--minutes", "1", "--share", "0.3", "--clients", "16", "--json"]
    done = subprocess.run(
        [*command, "--seed", os.environ.get("SOAK_SEED", "1")],
        cwd=TREE,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.stdout, done.stderr
    facts = json.loads(done.stdout)
    assert [one for one in facts["bars"] if not one["holds"]] == []
    assert done.returncode == 0
    assert set(facts["faults"]) == {*KINDS, *REPLACING}
    assert sum(facts["good"].values()) > 50
