"""Which files a release has, once it is known what the sources hold."""

from __future__ import annotations

import pytest

from appliance.boot.layout import Placed, layout
from appliance.boot.model import Take
from appliance.errors import ConfigError

BOTH = ("tftp", "ftp")


def said(*takes: Take, **listings: dict[str, int]) -> list[str]:
    try:
        layout(takes, listings)
    except ConfigError as error:
        return [str(problem) for problem in error.problems]
    return []


def test_files_and_folders_are_spread_over_both_roots() -> None:
    takes = (
        Take("s", "usr/x", "x", ("tftp",)),
        Take("s", "usr/lib/", "lib/", BOTH),
        Take("one", "", "iso", ("ftp",)),
    )
    placed, left = layout(
        takes, {"s": {"usr/x": 1, "usr/lib/a": 2, "usr/lib/b/c": 3, "usr/library": 4}, "one": {"": 5}}
    )
    assert set(placed) == {
        Placed("tftp", "x", "s", "usr/x", 1),
        *(Placed(root, "lib/a", "s", "usr/lib/a", 2) for root in ("tftp", "ftp")),
        *(Placed(root, "lib/b/c", "s", "usr/lib/b/c", 3) for root in ("tftp", "ftp")),
        Placed("ftp", "iso", "one", "", 5),
    }
    assert left == ()


def test_a_whole_source_can_be_the_tree() -> None:
    placed, _ = layout((Take("s", "/", "/", ("ftp",)), Take("s", "/", "x/", ("tftp",))), {"s": {"a/b": 1}})
    assert {(one.root, one.path) for one in placed} == {("ftp", "a/b"), ("tftp", "x/a/b")}


def test_a_file_taken_by_name_wins_over_a_folder_wherever_it_stands() -> None:
    takes = (Take("s", "mine", "lib/a", ("tftp",)), Take("s", "lib/", "lib/", ("tftp",)))
    placed, _ = layout(takes, {"s": {"mine": 1, "lib/a": 2}})
    assert [(one.path, one.member) for one in placed] == [("lib/a", "mine")]


def test_names_that_nobody_can_ask_for_are_left_out_and_told() -> None:
    placed, left = layout((Take("s", "d/", "d/", BOTH),), {"s": {"d/a": 1, "d/../b": 1, "d/new\nline": 1, "d/": 0}})
    assert {one.path for one in placed} == {"d/a"}
    assert left == ("s: d/../b", "s: d/new\\nline")


def test_the_releases_cannot_be_written_into() -> None:
    placed, left = layout((Take("s", "/", "/", ("tftp",)),), {"s": {".releases/x": 1, "y": 1}})
    assert ([one.path for one in placed], left) == (["y"], ("s: .releases/x",))


def test_what_is_missing_is_told_with_what_is_there() -> None:
    found = said(Take("s", "usr/x", "x", ("tftp",)), Take("t", "", "y", ("tftp",)), s={"lib/x": 1}, t={})
    assert found == [
        "tree: x: s has no usr/x (there is lib/x)",
        "tree: y: t was not fetched (run appliance boot fetch)",
    ]
    assert said(Take("s", "usr/", "x/", ("tftp",)), s={"lib/x": 1}) == [
        "tree: x/: s has no usr/ (look into the source, and mend take:)"
    ]
    assert said(Take("s", "usr/x", "x", ("tftp",), optional=True), Take("s", "d/", "d/", BOTH, optional=True)) == []


@pytest.mark.parametrize("listing", [{"a": 1, "b/c": 1}])
def test_a_file_cannot_be_a_folder_too(listing: dict[str, int]) -> None:
    found = said(Take("s", "a", "x", ("tftp",)), Take("s", "b/", "x/", ("tftp",)), s=listing)
    assert found == ["tree: x/c: x is a file, and x/c would lie below it (give one of them another path)"]
    assert said(Take("s", "a", "x", ("tftp",)), Take("s", "b/", "x/", ("ftp",)), s=listing) == []
