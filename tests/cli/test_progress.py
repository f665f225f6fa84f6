from __future__ import annotations

import io

import pytest

from appliance.cli import progress


def test_a_pipe_sees_no_progress(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.progress("tftp://h/x") as moved:
        moved(1 << 20, 1 << 21)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_sees_title_and_amount(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with progress.progress("[x]") as moved:
        moved(100, 1 << 20)  # too small a step to draw
        moved(1 << 20, 1 << 20)
    assert "[x]" in terminal.getvalue()
    assert "1.0/1.0 MiB" in terminal.getvalue()
