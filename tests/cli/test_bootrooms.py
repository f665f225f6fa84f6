"""cli.bootrooms: what is kept for clients, told by the services or not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from appliance.cli import bootrooms, control

LINES: dict[str, tuple[list[str] | Exception, tuple[str, ...] | None]] = {
    "none": (["ok"], ()),
    "two": (["20260101-000000-00000001 20260101-000000-00000002", "ok"],
            ("20260101-000000-00000001", "20260101-000000-00000002")),
    "an older build": (["unknown word", "failed"], None),
    "nobody who may": (["only root, the account of the appliance and observe.act_group may do this", "failed"], None),
    "not running": (control.NotRunning("not running"), ()),
    "no answer": (control.NoAnswer("late"), None),
}  # fmt: skip


@pytest.mark.parametrize("case", LINES)
def test_what_cannot_be_told_counts_as_everything(monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    said, expected = LINES[case]

    def order(run_dir: str, word: str, _timeout: float) -> Iterator[str]:
        assert (run_dir, word) == ("/run/x", "pinned")
        if isinstance(said, Exception):
            raise said
        yield from said

    monkeypatch.setattr(control, "order", order)
    assert bootrooms._held("/run/x") == expected
