"""Packages for tests: built by deb/build.py, uncompressed because that takes a second."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).parents[2]


def build(out: Path, *more: str) -> Path:
    """Build into a folder; the path of the package."""
    argv = [sys.executable, str(TOP / "deb/build.py"), "--out", str(out), "--compression", "none", *more]
    return Path(subprocess.run(argv, check=True, capture_output=True, text=True, timeout=600).stdout.strip())
