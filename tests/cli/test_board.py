from __future__ import annotations

import pytest

from appliance.cli import board
from tests.cli.conftest import facts


def test_a_ready_appliance_is_told_in_aligned_lines() -> None:
    lines = board.lines(facts())
    assert lines == [
        "ready: appliance 0.1.0, pid 4200, up 1d 2h, configuration /etc/appliance/appliance.yaml",
        "tftp: ok, listens on 127.0.0.1:6969 [::]:6969",
        "worker  pid   state    restarts  uid    confinement     now  done  bytes",
        "tftp/0  4242  serving  1         64610  full, 61 calls  2    7     3.0 MiB",
    ]


def test_what_is_wrong_stands_at_the_end_with_its_remedy() -> None:
    problem = {"severity": "error", "what": "ftp worker 0 died 3 times", "remedy": "see the log"}
    lines = board.lines(facts(ready=False, state="starting", problems=[problem]))
    assert lines[0].startswith("NOT READY (starting): ")
    assert lines[-1] == "error: ftp worker 0 died 3 times (see the log)"


def test_layers_that_are_missing_are_named() -> None:
    layers = {"level": "partial", "jail": "none", "capabilities": True, "seccomp": 40}
    assert board.confinement(layers) == "partial, 40 calls, no jail, no_new_privs, landlock"
    assert board.confinement({}) == "-"


def test_a_document_with_the_promised_keys_alone_can_be_shown() -> None:
    assert board.lines({"ready": False, "services": {"ftp": {}}, "problems": []})[1] == "ftp: ?, listens on -"


@pytest.mark.parametrize(("seconds", "text"), [(0, "0s"), (59.9, "59s"), (60, "1m"), (3700, "1h 1m"), (172800, "2d")])
def test_a_span_has_its_two_largest_units(seconds: float, text: str) -> None:
    assert f", up {text}, " in board.headline(facts(uptime_s=seconds))


def test_a_terminal_of_80_columns_gets_the_same_facts_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    board.draw(facts(problems=[{"severity": "warning", "what": "[bold]x", "remedy": ""}]))
    shown = capsys.readouterr().out
    for word in (
        "ready: appliance 0.1.0",
        "127.0.0.1:6969 [::]:6969",
        "4242",
        "full, 61 calls",
        "3.0 MiB",
        "warning: [bold]x",
    ):
        assert word in shown
