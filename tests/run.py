"""What `make test` runs: every test once, and each that failed once more by itself.

On a busy machine a test of real processes can fail for want of time. Failing twice is a fault of the code; failing once
is a fault of the test, which the run names at its end and does not hide. See docs/decisions/0069.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

CACHE = Path(".pytest_cache/v/cache/lastfailed")
COVERAGE = ["--cov", "--cov-report=xml:.coverage.xml"]
FAILED = 1  # pytest's exit status when tests failed; all others mean that the run itself is broken
MOST = 5


def pytest(*words: str) -> int:
    return subprocess.run([sys.executable, "-m", "pytest", *COVERAGE, *words], check=False).returncode


def verdict(status: int, failed: list[str]) -> bool:
    """Whether another try is worth it: a few tests failed, and nothing else did."""
    return status == FAILED and 0 < len(failed) <= MOST


def main(words: list[str]) -> int:
    status = pytest("--cache-clear", "--cov-report=term-missing:skip-covered", *words)
    failed = sorted(json.loads(CACHE.read_text())) if CACHE.exists() else []
    if not verdict(status, failed):
        return status
    print(f"\n{len(failed)} failed; each is run once more by itself", flush=True)
    for test in failed:
        if again := pytest("--cov-append", "--cov-report=", "-p", "no:cacheprovider", test):
            return again
    print("\nUNSTEADY, passed only at the second try; mend them:", *failed, sep="\n  ", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
