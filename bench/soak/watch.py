"""Sampling: memory, descriptors and mappings of every process each few seconds, zombies, strangers, metrics."""

from __future__ import annotations

import os
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

from bench.soak.house import House
from bench.soak.judge import Sample

_LINGERS_S = 15.0
_PROCESSES = 64  # more than there are at once
_METRICS = "http://127.0.0.1:9069/metrics"


class Watch:
    """A thread that looks every `every_s`; `samples`, `zombies` and `last` (the status) are for the report."""

    def __init__(self, house: House, every_s: float) -> None:
        self._house, self._every_s = house, every_s
        self.samples: list[Sample] = []
        self.zombies: list[str] = []
        self.last: dict[str, Any] = {}
        self.most: dict[str, int] = {}  # service counter -> the largest seen over all generations
        self.scraped = self.unscraped = 0
        self._since: dict[int, float] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            self.look()

    def look(self) -> None:
        """One round of samples."""
        document = self._house.status()
        now = time.monotonic()
        if document:
            self.last = document
            known = {document["pid"]: ("supervisor", 0)}
            for name, service in document["services"].items():
                known |= {one["pid"]: (name, one["index"]) for one in service["workers"] if one["pid"]}
                for key, value in service.get("totals", {}).items():
                    self.most[f"{name} {key}"] = max(self.most.get(f"{name} {key}", 0), value)
            for pid, (name, index) in known.items():
                if (sample := _sample(now, (name, index, pid))) is not None:
                    self.samples.append(sample)
            self._strangers(set(known), now)
        self._scrape()

    def levels(self) -> dict[tuple[str, int, int], int]:
        """Descriptors of each process that lived when we looked last."""
        last = self.samples[-1].t if self.samples else 0.0
        return {sample.who: sample.fds for sample in self.samples[-_PROCESSES:] if sample.t == last}

    def fresh(self) -> dict[str, int]:
        """Service -> the most descriptors of a process of it, before anybody has come. Not kept among the samples."""
        self.look()
        levels = self.levels()
        self.samples.clear()
        return {service: max(fds for who, fds in levels.items() if who[0] == service) for service, _i, _p in levels}

    def _strangers(self, known: set[int], now: float) -> None:
        """Processes that nobody knows, and children that nobody has reaped, for longer than a start or an end takes."""
        supervisor = self._house.server._process.pid
        odd = set(self._house.server.pids()) - known
        try:
            children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
        except OSError:
            children = []
        odd |= {int(pid) for pid in children if _state(int(pid)) == "Z"}
        self._since = {pid: self._since.get(pid, now) for pid in odd}
        for pid, since in self._since.items():
            if now - since > _LINGERS_S + 20:  # a worker that drains has drain_timeout
                self.zombies.append(f"{pid} ({_state(pid) or 'gone'})")
                self._since[pid] = now + 1e9

    def _scrape(self) -> None:
        try:
            with urllib.request.urlopen(_METRICS, timeout=5) as answer:
                good = answer.read().endswith(b"# EOF\n")
        except OSError:
            good = False
        self.scraped += good
        self.unscraped += not good


def _sample(now: float, who: tuple[str, int, int]) -> Sample | None:
    folder = f"/proc/{who[2]}"
    try:
        with open(f"{folder}/smaps_rollup") as file:
            fields = {line.split(":")[0]: int(line.split()[1]) for line in file if line.endswith("kB\n")}
        with open(f"{folder}/maps") as file:
            maps = sum(1 for _line in file)
        fds = len(os.listdir(f"{folder}/fd"))
    except (OSError, ValueError, IndexError):
        return None  # it has just died
    return Sample(now, who, fields["Anonymous"], fields["Pss"], fields["Rss"], fds, maps)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""
