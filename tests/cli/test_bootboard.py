"""`appliance board password` prints what the page later asks for."""

from __future__ import annotations

import io
import sys

import pytest

from appliance.board import guard
from appliance.cli.main import main


def typed(monkeypatch: pytest.MonkeyPatch, text: str) -> int:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    return main(["board", "password", "--stdin"])


def test_what_is_printed_matches_the_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed(monkeypatch, "correct horse battery\n") == 0
    stored = capsys.readouterr().out.strip()
    assert guard.matches(b"correct horse battery", stored)
    assert "horse" not in stored


@pytest.mark.parametrize(("text", "code"), [("x" * 11, 2), ("x" * 12, 0), ("x" * 256, 0), ("x" * 257, 2), ("", 2)])
def test_a_password_that_is_too_short_or_too_long_is_refused(
    monkeypatch: pytest.MonkeyPatch, text: str, code: int
) -> None:
    assert typed(monkeypatch, text + "\n") == code
