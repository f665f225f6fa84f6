"""A service root with a drop box and room for a released tree."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.custody import marks
from appliance.release import folders
from appliance.release.box import Box


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The root of the service, with an empty box."""
    root = tmp_path / "tree"
    root.mkdir(mode=0o755)
    (root / "incoming").mkdir(mode=0o700)
    return root


@pytest.fixture
def root(home: Path) -> Iterator[int]:
    found = folders.root(str(home))
    yield found
    os.close(found)


@pytest.fixture
def box(root: int) -> Iterator[Box]:
    with Box(root, "incoming", {os.geteuid()}) as found:
        yield found


def put(home: Path, name: bytes | str, content: bytes, client: str = "192.0.2.7") -> Path:
    """An upload as the custodian leaves it."""
    path = home / "incoming" / os.fsdecode(name)
    path.write_bytes(content)
    with path.open("rb+") as file:
        marks.write(file.fileno(), client)
    path.chmod(0o640)
    return path
