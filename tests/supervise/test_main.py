"""supervise.main: what is printed once everything serves."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any, cast

import pytest

from appliance.cli.run import for_file
from appliance.supervise import main


def test_a_service_that_is_off_is_told_in_plain_words(capsys: pytest.CaptureFixture[str]) -> None:
    """Seen: `TFTP on off`."""
    ftp = SimpleNamespace(public=True, reachable=lambda: "192.0.2.1:21")
    snapshot = SimpleNamespace(level=lambda: next(iter(main.CONFINED)))
    supervisor: Any = SimpleNamespace(groups={"ftp": ftp}, snapshot=snapshot)
    main._Banner(for_file("/etc/a.yaml")).show(cast("Any", supervisor))
    assert capsys.readouterr().out.splitlines()[0] == "Serving by /etc/a.yaml: TFTP off, FTP on 192.0.2.1:21"


def test_a_reader_of_standard_output_that_has_left_is_no_failure() -> None:
    """Seen: `appliance run | head -1` served, and ended with exit code 120."""
    script = (
        "from types import SimpleNamespace as Some; from appliance.supervise import main;"
        "main._Banner('x').show(Some(groups={}, snapshot=Some(level=lambda: 'full')))"
    )
    reader, writer = os.pipe()
    os.close(reader)
    argv = [sys.executable, "-c", script]
    done = subprocess.run(argv, stdout=writer, stderr=subprocess.PIPE, timeout=60, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")
