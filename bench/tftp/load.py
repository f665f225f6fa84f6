"""The load generator: compiled once, run many times, its figures as a dictionary."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.processes import pinned

Figures = dict[str, float]
_SOURCE = Path(__file__).with_name("load.c")
_GRACE_S = 30.0


class LoadError(Exception):
    """The generator ended without figures."""


class Generator:
    """The compiled program."""

    def __init__(self, folder: Path, source: Path = _SOURCE) -> None:
        """Compile `source` into `folder`. Raises CalledProcessError."""
        self._program = folder / "load"
        subprocess.run(["cc", "-O2", "-Wall", "-pthread", "-o", self._program, source], check=True)

    def run(self, options: dict[str, object], *, cpus: set[int] | None = None) -> Figures:
        """Run with these options (load.c, `read_options`) to its end. Raises LoadError."""
        process = self._start(options, cpus)
        return _figures(process, float(str(options.get("limit", 30))) + _GRACE_S)

    @contextmanager
    def beside(self, options: dict[str, object], *, cpus: set[int] | None = None) -> Iterator[list[Figures]]:
        """Run it while the block runs, then end it; the yielded list holds its figures afterwards."""
        found: list[Figures] = []
        process = self._start(options, cpus)
        try:
            if options.get("mode") == "park" and (process.stderr is None or process.stderr.readline() != b"parked\n"):
                raise LoadError("the idle sessions could not be opened")
            yield found
        finally:
            process.terminate()
            found.append(_figures(process, _GRACE_S))

    def _start(self, options: dict[str, object], cpus: set[int] | None) -> subprocess.Popen[bytes]:
        argv = [str(self._program), *(f"--{name}={value}" for name, value in options.items())]
        return subprocess.Popen(
            pinned(argv, cpus), stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )


def _figures(process: subprocess.Popen[bytes], seconds: float) -> Figures:
    try:
        output, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise LoadError("the load generator does not end") from None
    if process.returncode != 0:
        raise LoadError(f"the load generator failed: {errors.decode()}")
    figures: Figures = json.loads(output)
    return figures
