from __future__ import annotations

import pytest

from appliance.cli import output
from appliance.errors import Problem


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1024, "1.0 KiB"),
        (1024**2 - 1, "1024.0 KiB"),
        (1024**2, "1.0 MiB"),
        (64 << 20, "64.0 MiB"),
        (3 << 30, "3.0 GiB"),
        (5 << 50, "5120.0 TiB"),
    ],
)
def test_sizes_are_told_in_the_largest_unit_that_fits(count: int, text: str) -> None:
    assert output.size(count) == text


def test_a_problem_keeps_every_field_in_json() -> None:
    (plain,) = output.problems([Problem("warning", "what", "remedy", "key", "file", 1, 2)])
    assert plain == {
        "severity": "warning",
        "what": "what",
        "remedy": "remedy",
        "key": "key",
        "file": "file",
        "line": 1,
        "column": 2,
    }


def test_a_remark_leaves_standard_output_clean(capsys: pytest.CaptureFixture[str]) -> None:
    output.remark("for you")
    output.document({"a": 1})
    said = capsys.readouterr()
    assert (said.out, said.err) == ('{\n  "a": 1\n}\n', "for you\n")
