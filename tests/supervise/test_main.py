"""supervise.main: what is printed once everything serves."""

from __future__ import annotations

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
