"""Rows for spreadsheets: what a stranger chose is never a formula, and a row is one row."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.cli import output


def read(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", '=cmd|"/C calc"!A0', "  =1", "\t=1", "\r=1"])
def test_a_text_that_would_be_a_formula_stands_behind_an_apostrophe(text: str) -> None:
    ((cell,),) = read(output.csv([text]))
    assert cell.startswith("'") or cell.startswith("?")
    assert not cell.lstrip().startswith(("=", "+", "-", "@"))


def test_numbers_stay_numbers_and_what_is_not_known_is_empty() -> None:
    assert output.csv([-1, 2.5, None, True, "x", 'a "b", c']) == '-1,2.5,,true,x,"a ""b"", c"'


@given(st.lists(st.text(max_size=30), min_size=2, max_size=5))
def test_a_row_is_one_row_with_as_many_cells_and_no_formula(texts: list[str]) -> None:
    (row,) = read(output.csv(texts))
    assert len(row) == len(texts)
    assert not [cell for cell in row if cell.lstrip()[:1] in ("=", "+", "-", "@")]
