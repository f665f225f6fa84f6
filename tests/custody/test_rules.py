"""custody.rules: the names that the drop box takes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.custody.rules import NameRules
from appliance.custody.wire import Reason

OPEN = NameRules(())


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "report (1).pdf",
        "grün.txt",
        "日本語",
        "a" * 255,
        "x-y.z",
        "~",
        "a..b",
        "👩‍🚀.png",
        "❤️.txt",
        "می‌خواهم",
        "a b.",
    ],
)
def test_an_honest_name_is_taken(name: str) -> None:
    assert OPEN.judge(name.encode()) is None


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (b"", Reason.NAME_LENGTH),
        (b"a" * 256, Reason.NAME_LENGTH),
        (b"caf\xe9", Reason.NAME_TEXT),
        (b"\xed\xa0\x80", Reason.NAME_TEXT),
        (b".profile", Reason.NAME_START),
        (b"..", Reason.NAME_START),
        (b"-rf", Reason.NAME_START),
        (b"a/b", Reason.NAME_CHARACTER),
        (b"a\x00", Reason.NAME_CHARACTER),
        (b"a\x7fb", Reason.NAME_CHARACTER),
        (b"a\nb", Reason.NAME_CHARACTER),
        ("a\u0085b".encode(), Reason.NAME_CHARACTER),
        ("gpj.\u202eexe".encode(), Reason.NAME_CHARACTER),
        ("a\u2066b".encode(), Reason.NAME_CHARACTER),
        ("a\u2028b".encode(), Reason.NAME_CHARACTER),
        ("\ufeffa".encode(), Reason.NAME_CHARACTER),
        ("re\u00adport".encode(), Reason.NAME_CHARACTER),
        ("\u3164".encode(), Reason.NAME_CHARACTER),
        ("a\U000e0041".encode(), Reason.NAME_CHARACTER),
        (b"report.pdf ", Reason.NAME_SPACE),
        (b" report.pdf", Reason.NAME_SPACE),
        (b"   ", Reason.NAME_SPACE),
        ("a\u00a0".encode(), Reason.NAME_SPACE),
    ],
)
def test_a_deceptive_name_is_refused_with_its_reason(name: bytes, reason: Reason) -> None:
    assert OPEN.judge(name) is reason


def test_the_operators_patterns_are_matched_without_regard_to_case() -> None:
    rules = NameRules(("*.EXE", "core"))
    assert rules.judge(b"a.exe") is Reason.NAME_DENIED
    assert rules.judge(b"Core") is Reason.NAME_DENIED
    assert rules.judge(b"a.exe.txt") is None


@pytest.mark.parametrize("name", ["virus.exe.", "virus.exe. . .", "virus.EXE..", "cafe\u0301.doc", "CAF\u00c9.doc"])
def test_no_dot_at_the_end_and_no_other_form_of_an_accent_gets_round_a_pattern(name: str) -> None:
    """Windows drops dots and spaces at the end of a name: `virus.exe.` is downloaded as virus.exe."""
    assert NameRules(("*.exe", "caf\u00e9*")).judge(name.encode()) is Reason.NAME_DENIED


@given(st.binary(max_size=30))
def test_a_name_that_is_taken_is_one_visible_component(name: bytes) -> None:
    if OPEN.judge(name) is None:
        assert name and b"/" not in name and b"\x00" not in name
        assert name[:1] not in (b".", b"-")
        assert name.decode("utf-8").strip() == name.decode("utf-8")
        assert name.decode("utf-8").isprintable() or any(ord(c) > 0x7F for c in name.decode("utf-8"))
