"""Figures of the whole: start to READY, memory, kill -9 to serving again, system calls kept, size of the code.

python -m bench.foundation [rounds]     prints a Markdown section for bench/RESULTS.md
"""

from __future__ import annotations

import ast
import os
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

from appliance.confine.promises import PROMISES
from bench import results
from tests.support import until
from tests.system.running import Appliance, tftp_read

ROOT = Path(__file__).parents[1]


def pss(pid: int) -> float:
    """Proportional memory of a process in MiB."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"no Pss of {pid}")


def measure_start(home: Path) -> tuple[Appliance, float]:
    made = Appliance(home)
    began = time.monotonic()
    made.start()
    return made, time.monotonic() - began


def measure_recovery(made: Appliance, service: str) -> float:
    """Seconds from kill -9 of a worker to its replacement saying READY."""
    victim = min(made.pids(service))
    count = len(made.pids(service))
    began = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    until(lambda: len(made.pids(service) - {victim}) == count, 20)
    return time.monotonic() - began


def measure_gap(made: Appliance) -> float:
    """Seconds from kill -9 of a TFTP worker to the next file served by the address, worst of 16 source ports."""
    address = made.address("tftp")
    os.kill(min(made.pids("tftp")), signal.SIGKILL)
    worst = 0.0
    for _ in range(16):
        began = time.monotonic()
        tftp_read(address, b"hello.txt", timeout=20)
        worst = max(worst, time.monotonic() - began)
    return worst


def code_size() -> tuple[int, int, str]:
    files, lines, longest = 0, 0, (0, "")
    for path in sorted((ROOT / "appliance").rglob("*.py")):
        text = path.read_text()
        files, lines = files + 1, lines + text.count("\n")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                size = (node.end_lineno or 0) - node.lineno + 1
                longest = max(longest, (size, f"{path.relative_to(ROOT)}:{node.name}"))
    return files, lines, f"{longest[0]} lines ({longest[1]})"


def measure(rounds: int) -> list[tuple[str, str]]:
    """Rows of the table: a figure, and its median with the smallest and largest."""
    starts, recoveries, gaps = [], [], []
    memory: dict[str, list[float]] = {}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            made, seconds = measure_start(Path(folder))
            try:
                starts.append(seconds)
                time.sleep(1.5)  # let start-up memory settle; a figure, not a proof
                memory.setdefault("the supervisor", []).append(pss(made.pid))
                for service in ("tftp", "ftp", "custody", "status"):
                    memory.setdefault(f"each {service} process", []).extend(pss(pid) for pid in made.pids(service))
                recoveries.append(measure_recovery(made, "ftp"))
                gaps.append(measure_gap(made))
            finally:
                made.stop()
    rows = [
        ("`appliance run` to ready, s", shown(starts)),
        ("kill -9 of a worker to its replacement serving, s", shown(recoveries)),
        ("kill -9 of a TFTP worker: longest wait of a client, s", shown(gaps)),
    ]
    return rows + [(f"idle memory (PSS) of {who}, MiB", shown(values)) for who, values in memory.items()]


def shown(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f}..{max(values):.2f})"


def main() -> int:
    words = [word for word in sys.argv[1:] if word != "--write"]
    rounds = int(words[0]) if words else 5
    files, lines, longest = code_size()
    calls = ", ".join(f"{kind} {len(rules)}" for kind, rules in PROMISES.items())
    rows = [*measure(rounds), ("system calls kept", calls)]
    rows.append(("code", f"{files} files, {lines} lines, longest function {longest}"))
    body = (
        f"`python -m bench.foundation {rounds}` on {results.machine()}.\n\n| figure | median (min..max) |\n|---|---|\n"
    )
    body += "\n".join(f"| {name} | {value} |" for name, value in rows)
    print(body)
    if "--write" in sys.argv:
        results.write_section("Foundation", body)
    return 0


if __name__ == "__main__":
    sys.exit(main())
