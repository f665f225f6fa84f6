"""published.sums: a digest is found in a file of any length, and what is not told is not made up."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.published import sums


def digest(path: str) -> str:
    return hashlib.sha256(path.encode("utf-8", "surrogateescape")).hexdigest()


def opened(content: bytes) -> int:
    descriptor = os.memfd_create("sums")
    os.write(descriptor, content)
    return descriptor


@given(st.sets(st.text("ab/\xff", min_size=1, max_size=6), max_size=40), st.text("ab/\xff", min_size=1, max_size=6))
def test_every_path_is_found_and_no_other(paths: set[str], other: str) -> None:
    descriptor = opened(sums.text((path, digest(path)) for path in paths))
    try:
        for path in paths:
            assert sums.find(descriptor, path.encode()) == digest(path)
        assert sums.find(descriptor, other.encode()) == (digest(other) if other in paths else None)
    finally:
        os.close(descriptor)


def test_long_paths_and_many_of_them() -> None:
    paths = [f"{'x' * (number % 1018)}/{number:05}" for number in range(0, 20_000, 7)]
    descriptor = opened(sums.text((path, digest(path)) for path in paths))
    try:
        assert [sums.find(descriptor, path.encode()) for path in paths] == [digest(path) for path in paths]
        assert sums.find(descriptor, b"x") is None and sums.find(descriptor, b"~") is None
        assert sums.find(descriptor, b"x" * 5000) is None and sums.find(descriptor, b"") is None
    finally:
        os.close(descriptor)


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"\n\n\n", b"a", b"x" * 100_000, b"\n" * 10_000, b"0" * 64 + b"  p", b"0" * 63 + b"g  p\n"]
)
def test_a_file_that_is_none_tells_nothing(content: bytes) -> None:
    descriptor = opened(content)
    try:
        assert sums.find(descriptor, b"p") is None
    finally:
        os.close(descriptor)


@given(st.binary(max_size=300))
def test_whatever_the_file_is_the_search_ends(content: bytes) -> None:
    descriptor = opened(content)
    try:
        assert sums.find(descriptor, b"p") is None or b"p" in content
    finally:
        os.close(descriptor)


@pytest.mark.parametrize(
    ("path", "value"), [("a\nb", "0" * 64), ("", "0" * 64), ("a", "0" * 63), ("a" * 1025, "0" * 64)]
)
def test_what_cannot_be_told_is_refused(path: str, value: str) -> None:
    with pytest.raises(ValueError, match="cannot be told"):
        sums.text([(path, value)])


def test_sha256sum_reads_it(tmp_path: Path) -> None:
    tool = shutil.which("sha256sum")
    assert tool is not None
    tree = tmp_path / "R"
    tree.mkdir()
    files = {"b": b"2", "a": b"1"}
    for name, content in files.items():
        (tree / name).write_bytes(content)
    named = [(name, hashlib.sha256(content).hexdigest()) for name, content in files.items()]
    (tmp_path / sums.file_of("R")).write_bytes(sums.text(named))
    assert subprocess.run([tool, "--check", "--quiet", "../R.sums"], cwd=tree).returncode == 0
