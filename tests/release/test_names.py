"""release.names: what is shown can be typed, and no made-up name leaves its folder."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.observe.text import printable
from appliance.release.names import is_upload, target, typed


@given(st.binary(min_size=1, max_size=255))
def test_what_is_shown_can_be_typed_back(name: bytes) -> None:
    assert typed(printable(name)) == name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("caf\u00e9", "caf\u00e9".encode()),
        ("a\\b", b"a\\b"),
        ("\\xZZ", b"\\xZZ"),
        ("\udcff", b"\xff"),
        (r"\x0a", b"\n"),
    ],
)
def test_what_is_no_escape_stands_for_itself(text: str, name: bytes) -> None:
    assert typed(text) == name


@pytest.mark.parametrize("name", [b"", b".", b"..", b".up-1", b"a/b", b"../x", b"a\0b", b"x" * 256])
def test_no_upload_has_such_a_name(name: bytes) -> None:
    assert not is_upload(name)


def test_odd_names_can_be_those_of_uploads() -> None:
    assert all(is_upload(name) for name in (b"-rf", b"\xff\n", b"a b", b"x" * 255))


@pytest.mark.parametrize(
    "path", [b"", b"/etc/passwd", b"../x", b"a/../b", b"a//b", b"a/", b".ht", b"a/.x", b"-rf", b"\xff", b"a\nb", b"a\0"]
)
def test_a_target_that_leaves_the_tree_or_deceives_is_refused(path: bytes) -> None:
    assert target(path) == ()


def test_a_target_may_lie_in_folders() -> None:
    assert target(b"images/2026/a.iso") == (b"images", b"2026", b"a.iso")
