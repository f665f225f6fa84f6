"""published.current: the one line that says what is in force, read as something that anybody could have written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from appliance.published import current
from appliance.published.current import Unusable
from tests.published import trees


def test_what_was_committed_is_read(tmp_path: Path) -> None:
    assert current.read(str(tmp_path)) is None
    trees.commit(tmp_path, trees.name(1), 7)
    assert current.read(str(tmp_path)) == (trees.name(1), 7)
    trees.commit(tmp_path, trees.name(2), 2**31 - 1)
    assert current.read(str(tmp_path)) == (trees.name(2), 2**31 - 1)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "\n",
        f"{trees.name(1)}\n",
        f"{trees.name(1)} 1",
        f"{trees.name(1)} 1\n\n",
        f"{trees.name(1)} -1\n",
        f"{trees.name(1)} {2**31}\n",
        f"{trees.name(1)} 12345678901\n",
        "../../../../../etc/passwd 1\n",
        f"{'x' * 24} 1\n",
        "1" * 24 + " 1\n",
        f"{trees.name(1)} ٣\n",
        f"{trees.name(1)} 1\n{'x' * 100_000}",
    ],
)
def test_a_line_of_another_form_is_refused(tmp_path: Path, line: str) -> None:
    trees.commit(tmp_path, trees.name(1), 1)
    (tmp_path / "boot" / "current").write_text(line)
    with pytest.raises(Unusable, match="does not name a release"):
        current.read(str(tmp_path))


def test_what_is_no_file_is_refused_and_never_waited_for(tmp_path: Path) -> None:
    trees.commit(tmp_path, trees.name(1), 1)
    place = tmp_path / "boot" / "current"
    place.rename(place.with_name("else"))
    place.symlink_to("else")
    with pytest.raises(Unusable, match="cannot be read"):
        current.read(str(tmp_path))
    place.unlink()
    os.mkfifo(place)
    with pytest.raises(Unusable, match="is no file"):
        current.read(str(tmp_path))
    place.unlink()
    place.mkdir()
    with pytest.raises(Unusable, match="is no file"):
        current.read(str(tmp_path))


def test_a_state_of_another_version_is_refused(tmp_path: Path) -> None:
    trees.commit(tmp_path, trees.name(1), 1)
    (tmp_path / "boot" / "format").write_text("2\n")
    with pytest.raises(Unusable, match="another version of the appliance"):
        current.read(str(tmp_path))


def test_both_folders_of_a_release_have_to_be_there(tmp_path: Path) -> None:
    root = str(tmp_path)
    assert current.missing(root, trees.name(1), 4) == f"{root}/.releases/{trees.name(1)}"
    trees.release(tmp_path, 1, {"a": b"a"})
    assert current.missing(root, trees.name(1), 4) == f"{root}/.releases/overlay-4"
    (tmp_path / ".releases" / "overlay-4").symlink_to(trees.name(1))
    assert current.missing(root, trees.name(1), 4) == f"{root}/.releases/overlay-4"
    (tmp_path / ".releases" / "overlay-4").unlink()
    trees.overlay(tmp_path, 4, {})
    assert current.missing(root, trees.name(1), 4) == ""
