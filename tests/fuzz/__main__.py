"""`make fuzz`: a million mutated datagrams through the parser and at running workers, long walks of the session, and
100,000 FTP sessions that say anything.

Exit code 0 when nothing was found; else 1, with the regression test printed and saved.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from appliance.settings.ftp import FtpSettings
from tests.ftp.serving import server
from tests.ftp.serving import settings as ftp_settings
from tests.ftp.tlskit import certificate, secured
from tests.fuzz import ftp, pure, wire
from tests.fuzz.machine import SessionMachine
from tests.fuzz.pure import FoundError
from tests.tftp.server import SETTINGS

_MIB = 1 << 20
_MODES = {
    "many ports": SETTINGS,
    "single port": replace(SETTINGS, single_port=True, allow=("127.0.0.0/8", "::1")),
}
_FTP_MODES: dict[str, Callable[[Path], FtpSettings]] = {
    "FTP sessions": lambda _folder: ftp_settings(incoming={"enabled": True}),
    "FTP sessions, TLS offered": lambda folder: secured(certificate(folder), incoming={"enabled": True}),
}


def main() -> int:
    options = _options()
    print(f"seed {options.seed}", flush=True)
    try:
        for number, title in enumerate(_FTP_MODES if options.sessions else ()):  # forks too
            _ftp(title, options.sessions // len(_FTP_MODES), options.seed + number)
        for number, mode in enumerate(
            _MODES if options.datagrams else ()
        ):  # first: workers are forks, and begin with the memory of this process
            _wire(mode, options.datagrams // len(_MODES), options.seed + number)
        if options.datagrams:
            _pure(options.datagrams, options.seed)
            _machine(options.datagrams // 500, options.seed)
    except FoundError as found:
        print(f"\nFOUND: {found}\n\n{found.test}")
        print(f"saved as {_saved(options.save, options.seed, found.test)}")
        return 1
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    parser.add_argument("--datagrams", type=int, default=1_000_000, help="of each kind; 1000 or more, or 0")
    parser.add_argument("--sessions", type=int, default=100_000, help="of FTP; 2000 or more, or 0")
    parser.add_argument("--save", type=Path, default=Path(".fuzz"), help="folder for what is found")
    options = parser.parse_args()
    if 0 < options.datagrams < 1000 or 0 < options.sessions < 2000:
        parser.error("fewer show nothing")
    return options


def _ftp(title: str, count: int, seed_: int) -> None:
    with tempfile.TemporaryDirectory() as folder, _Line(title, count) as line:
        root = ftp.tree(Path(folder) / "root")
        with server(root, _FTP_MODES[title](Path(folder))) as running:
            bench = ftp.Bench(running, seed_)
            line.note = lambda: f", {ftp.memory(running.worker.pid) // _MIB} MiB"
            line.last = bench.run(count, line)


def _pure(count: int, seed_: int) -> None:
    with _Line("parser, options, session", count) as line:
        pure.run(count, seed_, line)


def _machine(examples: int, seed_: int) -> None:
    started = time.monotonic()
    budget = settings(
        max_examples=examples,
        stateful_step_count=100,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    try:
        run_state_machine_as_test(seed(seed_)(SessionMachine), settings=budget)
    except Exception as error:
        raise FoundError(repr(error), "\n".join(getattr(error, "__notes__", [])) + "\n") from error
    print(f"session against a model client: {examples} walks of 100 steps, {time.monotonic() - started:.0f} s")


def _wire(mode: str, count: int, seed_: int) -> None:
    with tempfile.TemporaryDirectory() as folder, _Line(f"worker, {mode}", count) as line:
        bench = wire.Bench(Path(folder), _MODES[mode], random.Random(seed_))
        try:
            line.note = lambda: f", {bench.rss() // _MIB} MiB, {bench.server.counters['active']} transfers"
            warm, end = wire.run(bench, count, line)
            counters = bench.server.counters
            told = {name: counters[name] for name in ("transfers", "failed", "refused", "dropped", "crashes")}
            line.last = f"memory {warm / _MIB:.1f} MiB after a tenth, {end / _MIB:.1f} MiB at the end; "
            line.last += f"{bench.lost()} lost at the listener; {told}"
        finally:
            bench.close()


class _Line:
    """One line that tells how far it is, once a second; every ten seconds where nobody watches."""

    def __init__(self, title: str, total: int) -> None:
        self.note: Callable[[], str] = str
        self.last = ""
        self._title, self._total = title, total
        self._started = self._told = time.monotonic()
        self._every = 1.0 if sys.stdout.isatty() else 10.0

    def __call__(self, done: int) -> None:
        now = time.monotonic()
        if now - self._told < self._every:
            return
        self._told = now
        text = f"{self._title}: {done:,} of {self._total:,}, {done / (now - self._started):,.0f}/s{self.note()}"
        print(f"\r\33[K{text}" if sys.stdout.isatty() else text, end="" if sys.stdout.isatty() else "\n", flush=True)

    def __enter__(self) -> _Line:
        return self

    def __exit__(self, kind: object, *_rest: object) -> None:
        if kind is None:
            clear = "\r\33[K" if sys.stdout.isatty() else ""
            print(f"{clear}{self._title}: {self._total:,}, {time.monotonic() - self._started:.0f} s. {self.last}")


def _saved(folder: Path, seed_: int, test: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"found_{seed_}.py"
    path.write_text(test)
    return path


if __name__ == "__main__":
    sys.exit(main())
