"""The appliance under soak: the real program, its tree, its disks (small ones, that can be filled), its log."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from appliance.cli import control
from appliance.errors import ApplianceError
from bench.processes import Server

TFTP, FTP = ("127.0.0.1", 69), ("127.0.0.1", 21)
WORKERS = 3
DISK_MIB = 96
CACHE_KIB = 2560  # what a TFTP worker keeps of files: its part of tftp.limits.memory, an eighth and half of the rest
SPARE_PORTS = 64  # sockets that it keeps when many transfers at once are over, as when the bad clients came ...
KEPT_S = 240.0  # ... and that are gone by then, between two bursts of them
STAYING_PORTS = 64  # sockets that it never lets go: 16 ports of each family, each with its watch
DRAIN_S = 20.0
_READY_S = 60.0
_ROOT = Path(__file__).parents[2]
_PROGRAM = (
    "import sys; sys.path[:0] = sys.argv.pop(1).split(':'); from appliance.cli.main import main; sys.exit(main())"
)
_CONFIG = """\
state_dir: {home}/state
run_dir: {home}/run
confinement: required
drain_timeout: {drain:.0f}s
tftp:
  listen: ["127.0.0.1:69"]
  root: {home}/tftp
  workers: {workers}
  windowsize_max: {window}
  give_up_after: 10s
  uploads: {{mode: create, path: uploads, max_size: 8MiB, quota: 64MiB, per_client_quota: 64MiB}}
  limits: {{memory: 12MiB}}
ftp:
  listen: ["127.0.0.1:21"]
  root: {home}/ftp
  workers: {workers}
  banner: "{banner}"
  passive_ports: "40000-43999"
  incoming: {{enabled: true, max_size: 8MiB, quota: 64MiB, per_client_quota: 64MiB, resume: 5s}}
  limits: {{sessions: 900, login_timeout: 10s, idle_timeout: 1m, stall_timeout: 20s}}
boot: {{enabled: true, manifest: {home}/boot.yaml, pin: 30s, keep_releases: 3}}
observe: {{log: json, history: 4MiB, metrics_listen: "127.0.0.1:9069"}}
"""
_MANIFEST = """\
sources: {{kit: {{dir: {home}/kit, unverified: true}}}}
tree: [{{from: kit, take: "/", to: "kit/", in: both}}]
"""
KIT = ("kit/kernel", "kit/initrd")
LOADER = "kit/boot.ipxe"  # which every boot begins with, and so with the release in force
# name -> (bytes, how often it is asked for)
_FILES = {f"static/f{n:03d}": (200 + n * n * 97, 1.0) for n in range(24)} | {
    "middle.img": (300_000, 8.0), "large.img": (4 << 20, 2.0), "huge.img": (24 << 20, 0.15), "empty": (0, 0.5),
}  # fmt: skip


class House:
    """One appliance; `start` it, `stop` it."""

    def __init__(self, home: Path, seed: int) -> None:
        self.home, self.seed = home, seed
        self.config = home / "appliance.yaml"
        self.values: dict[str, Any] = {
            "home": home,
            "drain": DRAIN_S,
            "workers": WORKERS,
            "window": 64,
            "banner": "Soak.",
        }
        self.releases: dict[str, int] = {}  # digest -> number of the release that it was published in
        self.ids: list[str] = []
        self.log = LogEye(home / "log")
        self._number = 0
        self._server: Server | None = None
        self.files: dict[str, tuple[str, float]] = {}

    # -- making it

    def prepare(self) -> None:
        """Tree, disks, configuration."""
        chance = random.Random(f"tree {self.seed}")
        for root in ("tftp", "ftp"):
            (self.home / root / "static").mkdir(parents=True)
        for name, (size, weight) in _FILES.items():
            data = chance.randbytes(size)
            for root in ("tftp", "ftp"):
                (self.home / root / name).write_bytes(data)
            self.files[name] = (hashlib.sha256(data).hexdigest(), weight)
        for place, mib in zip(self.disks, (DISK_MIB, DISK_MIB, 12), strict=True):
            place.mkdir(parents=True)
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mib}m,mode=0755", "soak", place], check=True)
        (self.home / "kit").mkdir()
        (self.home / "boot.yaml").write_text(_MANIFEST.format(home=self.home))
        self.write()

    @property
    def disks(self) -> tuple[Path, Path, Path]:
        """Where FTP's uploads, TFTP's uploads and the history lie."""
        return self.home / "ftp/incoming", self.home / "tftp/uploads", self.home / "state/events"

    def write(self, **changes: Any) -> None:
        """Write the configuration."""
        self.values.update(changes)
        self.config.write_text(_CONFIG.format(**self.values))

    def start(self) -> None:
        """Start it and wait until it serves. Raises OSError when it does not."""
        self.log.start()
        argv = [*_program(), "run", "-c", str(self.config)]
        self._server = Server("soak", argv, self.log.pipe)
        deadline = time.monotonic() + _READY_S
        while not self.status().get("ready"):
            if time.monotonic() > deadline or not self._server.running():
                raise OSError(f"the appliance does not serve: {self.log.last}")
            time.sleep(0.1)

    @property
    def server(self) -> Server:
        """Its processes."""
        assert self._server is not None
        return self._server

    def stop(self) -> int:
        """End it gently; its exit code."""
        process = self.server._process
        process.terminate()
        try:
            code = process.wait(60)
        except subprocess.TimeoutExpired:
            code = -1
        self.server.stop()
        self.log.stop()
        return code

    # -- asking it

    def status(self) -> dict[str, Any]:
        """What `status --json` shows; empty when nobody answers."""
        try:
            document: dict[str, Any] = json.loads(control.status(f"{self.home}/run", 5))
        except (ApplianceError, OSError, ValueError):
            return {}
        return document

    def pids(self, service: str) -> dict[int, int]:
        """index -> pid of the workers that serve."""
        workers = self.status().get("services", {}).get(service, {}).get("workers", [])
        return {one["index"]: one["pid"] for one in workers if one["state"] == "serving"}

    def whole(self) -> bool:
        """Every worker of every service serves."""
        document = self.status()
        return bool(document.get("ready")) and all(one["state"] != "degraded" for one in document["services"].values())

    def verb(self, *words: str) -> subprocess.CompletedProcess[str]:
        """`appliance VERB ... -c CONFIG`."""
        argv = [*_program(), *words, "-c", str(self.config)]
        return subprocess.run(argv, capture_output=True, text=True, timeout=180)

    # -- publishing

    def publish(self) -> None:
        """A new release of kernel and initrd. Raises OSError."""
        self._number += 1
        for path in KIT:
            data = random.Random(f"{self.seed} {path} {self._number}").randbytes(
                90_000 if "kernel" in path else 350_000
            )
            (self.home / path).write_bytes(data)
            (self.home / LOADER).write_text(f"#!ipxe\n# {self._number}\nkernel kernel\ninitrd initrd\nboot\n")
            self.releases[hashlib.sha256(data).hexdigest()] = self._number
        self._done("boot", "fetch")
        self.ids.append(json.loads(self._done("boot", "publish", "--json"))["id"])

    def rollback(self) -> None:
        """Back to the release before. Raises OSError."""
        self.ids.append(self.ids[-2])
        self._done("boot", "rollback", self.ids[-1])

    def _done(self, *words: str) -> str:
        done = self.verb(*words)
        if done.returncode:
            raise OSError(f"{' '.join(words)}: {done.returncode} {done.stdout[-300:]} {done.stderr[-300:]}")
        return done.stdout

    # -- looking at what it leaves

    def leftovers(self) -> list[str]:
        """Files that nobody needs any more: unfinished uploads, parts of releases."""
        found = [
            str(path.relative_to(self.home))
            for box in self.disks[:2]
            for path in box.iterdir()
            if path.name.startswith(".up-")
        ]
        known = re.compile(r"\d{8}-\d{6}-[0-9a-f]{8}(\.sums)?|overlay-\d+")
        for root in ("tftp", "ftp"):
            entries = os.listdir(self.home / root / ".releases")
            found += [f"{root}/.releases/{name}" for name in entries if not known.fullmatch(name)]
        found += [f"boot-spool/{path.name}" for path in (self.home / "state/boot-spool").glob("*")]
        return found


def _program() -> list[str]:
    paths = ":".join([str(_ROOT), *[path for path in sys.path if path]])
    return [sys.executable, "-I", "-c", _PROGRAM, paths]


class LogEye:
    """Reads the log through a pipe as journald would, and keeps what is above info."""

    def __init__(self, pipe: Path) -> None:
        self.pipe, self.last = pipe, ""
        self.counts: Counter[str] = Counter()  # room event -> lines
        self.notable: list[dict[str, Any]] = []  # the first 50 of each kind
        self.exceptions: list[str] = []
        self._fd = -1
        self._thread = threading.Thread(target=self._read, daemon=True)

    def start(self) -> None:
        """Make the pipe; whoever starts writes into it."""
        os.mkfifo(self.pipe)
        self._fd = os.open(self.pipe, os.O_RDWR)
        self._thread.start()

    def stop(self) -> None:
        """Read what is left."""
        os.write(self._fd, b"\0end\n")
        self._thread.join(30)
        os.close(self._fd)

    def _read(self) -> None:
        left = b""
        while True:
            *lines, left = (left + os.read(self._fd, 1 << 16)).split(b"\n")
            for line in lines:
                if line == b"\0end":
                    return
                self._line(line.decode(errors="replace"))

    def _line(self, line: str) -> None:
        self.last = line
        try:
            entry = json.loads(line)
            kind = f"{entry['level']} {entry['room']} {entry['event']}"
        except (ValueError, KeyError, TypeError):
            kind, entry = "not JSON", {"level": "error", "event": line}
        if "traceback" in line.lower():
            self.exceptions.append(line[:1500])
        self.counts[kind] += 1
        if entry["level"] in ("warning", "error") and self.counts[kind] <= 50:
            self.notable.append(entry)
