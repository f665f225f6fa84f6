"""The client processes as the controller sees them: started, paced, heard, ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from bench.soak.house import FTP, KIT, LOADER, TFTP, House

_TICK = os.sysconf("SC_CLK_TCK")


class Process:
    """One process of clients; `records` grows while it runs."""

    def __init__(self, module: str, plan: Path) -> None:
        self.records: list[dict[str, Any]] = []
        pipe = subprocess.PIPE
        self._process = subprocess.Popen([sys.executable, "-m", module, str(plan)], stdin=pipe, stdout=pipe, text=True)
        self._thread = threading.Thread(target=self._hear, daemon=True)
        self._thread.start()

    def _hear(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.records.append(json.loads(line))

    def say(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()

    def cpu_s(self) -> float:
        try:
            fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / _TICK

    def kill(self) -> None:
        """End it now."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        """Let it finish what it does; its exit code."""
        self.say("stop")
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        try:
            code = self._process.wait(120)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._thread.join()
        self._process.stdout.close()
        return code


def start(house: House, seed: int, processes: int, clients: int) -> tuple[list[Process], Process]:
    """The good ones, and the bad ones."""
    incoming, uploads, _history = house.disks
    plan = {
        "seed": seed,
        "tftp": TFTP,
        "ftp": FTP,
        "files": house.files,
        "large": "large.img",
        "huge": "huge.img",
        "kit": KIT,
        "loader": LOADER,
        "folder": "static",
        "listed": sorted(name.removeprefix("static/") for name in house.files if name.startswith("static/")),
        "incoming": str(incoming),
        "incoming_name": "incoming",
        "uploads": str(uploads),
        "uploads_name": "uploads",
        "largest_upload": 2 << 20,
        "think_s": 0.5,
        "doze_s": 20.0,
        "clients": clients,
    }
    good = []
    for number in range(processes):
        place = house.home / f"plan-{number}.json"
        place.write_text(json.dumps({**plan, "number": number}))
        good.append(Process("bench.soak.load", place))
    return good, Process("bench.soak.hostile", place)
