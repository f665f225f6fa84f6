"""A tree to serve, and a worker over it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ftp.serving import Server, server, settings

BIG = 3_000_001
_NOISE = os.urandom(BIG)  # made once: the kernel takes as long for it as the rest of the tree does


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The root of a server: a text, a big file, a folder, hidden names, and a name that is not UTF-8."""
    root = tmp_path / "root"
    (root / "pub" / "deep").mkdir(parents=True)
    (root / "a.txt").write_bytes(b"one\ntwo\r\nthree\n")
    (root / "big").write_bytes(_NOISE)
    (root / "empty").touch()
    (root / "pub" / "b.txt").write_bytes(b"b\n")
    (root / "pub" / "c.iso").write_bytes(b"c" * 5000)
    (root / ".treeinfo").write_bytes(b"[general]\n")
    (root / ".git").mkdir()
    (root / ".git" / "config").write_bytes(b"secret\n")
    (root / ".htaccess").write_bytes(b"secret\n")
    with open(os.fsencode(root) + b"/caf\xe9", "wb") as file:
        file.write(b"latin\n")
    return root


@pytest.fixture
def served(tree: Path) -> Iterator[Server]:
    """A worker without a drop box."""
    with server(tree) as running:
        yield running
        assert running.worker.counters()["crashes"] == 0, running.worker.log_text()


@pytest.fixture
def boxed(tree: Path) -> Iterator[Server]:
    """A worker and a custodian."""
    with server(tree, settings(incoming={"enabled": True})) as running:
        yield running
        assert running.worker.counters()["crashes"] == 0, running.worker.log_text()
        assert running.custodian is not None
        assert running.custodian.counters()["crashes"] == 0, running.custodian.log_text()


@pytest.fixture
def inside(tree: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tree)
    return tree
