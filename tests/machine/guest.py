"""A Debian machine under systemd (systemd-nspawn) and a client beside it, each in a network namespace of its own.

The tree is not touched: what the machine writes goes to an overlay that is removed at the end.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.machine.trees import tree
from tests.support import until

HERE, CLIENT = "192.0.2.1", "192.0.2.2"
HERE6 = "2001:db8::1"
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8", "TERM": "dumb",
                "DEBIAN_FRONTEND": "noninteractive"}  # fmt: skip
_LANDLOCK = "landlock_create_ruleset landlock_add_rule landlock_restrict_self"
_numbers = iter(range(1000))


class Guest:
    """One machine. `boot()` it; `close()` removes every trace."""

    def __init__(self, release: str) -> None:
        self.release = release
        self.name = f"am{os.getpid()}x{next(_numbers)}"
        self.home = Path(tempfile.mkdtemp(prefix="machine-"))
        self.root = self.home / "root"
        self.log = self.home / "console"
        self.installed = ""  # what the first installation said
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._mount(tree(release))
            self._wire()
        except BaseException:
            self.close()
            raise

    # -- making and removing

    def _mount(self, lower: Path) -> None:
        for name in ("upper", "work", "root"):
            (self.home / name).mkdir(mode=0o755)
        options = f"lowerdir={lower},upperdir={self.home}/upper,workdir={self.home}/work"
        _host("mount", "-t", "overlay", "overlay", "-o", options, str(self.root))

    def _wire(self) -> None:
        inside, client = f"{self.name}g", f"{self.name}c"
        for space in (inside, client):
            _host("ip", "netns", "add", space)
            _host("ip", "-n", space, "link", "set", "lo", "up")
        _host("ip", "-n", inside, "link", "add", "host0", "type", "veth", "peer", "name", "lan0", "netns", client)
        for space, link, last in ((inside, "host0", 1), (client, "lan0", 2)):
            _host("ip", "-n", space, "link", "set", link, "up")
            _host("ip", "-n", space, "address", "add", f"192.0.2.{last}/24", "dev", link)
            _host("ip", "-n", space, "address", "add", f"2001:db8::{last}/64", "dev", link, "nodad")
        for last in range(3, 67):  # more clients
            _host("ip", "-n", client, "address", "add", f"192.0.2.{last}/24", "dev", "lan0")

    def boot(self, *more: str) -> None:
        """Start it, with more options of systemd-nspawn, and wait until systemd says that it is up."""
        argv = ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--boot", "--console=pipe",
                f"--directory={self.root}", f"--network-namespace-path=/run/netns/{self.name}g",
                f"--system-call-filter={_LANDLOCK}", "--link-journal=no", "--resolv-conf=off",
                "--capability=CAP_NET_ADMIN", *more]  # fmt: skip
        with self.log.open("ab") as log:
            environment = {**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"}
            self._process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
            )
        until(self._up, 90, f"{self.release} boots: {self.log.read_text(errors='replace')[-2000:]}")

    def _up(self) -> bool:
        if not self._leader():
            return False
        said = self.run("systemctl", "is-system-running", check=False).stdout.strip()
        return said in {"running", "degraded"}

    def _leader(self) -> int:
        assert self._process is not None
        pid = self._process.pid
        if self._process.poll() is not None:
            raise AssertionError(f"nspawn ended: {self.log.read_text(errors='replace')[-2000:]}")
        try:
            return int((Path(f"/proc/{pid}/task/{pid}/children").read_text().split() or ["0"])[-1])
        except OSError:
            return 0

    def reboot(self, *more: str) -> None:
        """As a person types it; nspawn ends, and is started again (with more options)."""
        assert self._process is not None
        self.run("systemctl", "reboot", check=False)
        self._process.wait(120)
        self.boot(*more)

    def close(self) -> None:
        """End it and remove everything."""
        if self._process is not None and self._process.poll() is None:
            leader = self._leader()
            if leader:
                os.kill(leader, signal.SIGKILL)  # its first process: the guest ends with it, and not with nspawn alone
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(30)
        for space in (f"{self.name}g", f"{self.name}c"):
            subprocess.run(["ip", "netns", "delete", space], capture_output=True)
        until(lambda: not self.root.is_mount() or _quietly("umount", str(self.root)), 30, "unmounted")
        shutil.rmtree(self.home, ignore_errors=True)

    # -- inside

    def run(self, *argv: str, check: bool = True, timeout: float = 240) -> subprocess.CompletedProcess[str]:
        """Run a program in it, as root."""
        words = [f"{name}={value}" for name, value in _ENVIRONMENT.items()]
        enter = ["nsenter", "--target", str(self._leader()), "--all", "--root", "--wd", "env", "-i", *words]
        done = subprocess.run(
            [*enter, *argv], capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL, errors="replace"
        )
        if check and done.returncode:
            raise AssertionError(f"{argv} ended with {done.returncode}: {done.stdout[-3000:]}\n{done.stderr[-3000:]}")
        return done

    def shell(self, text: str, *, check: bool = True) -> str:
        """Run a line of shell in it; what it printed."""
        return self.run("/bin/sh", "-c", text, check=check).stdout

    def file(self, path: str) -> Path:
        """A file of it, seen from here."""
        return self.root / path.lstrip("/")

    def install(self, package: Path) -> str:
        """`apt-get install ./package`: what it said."""
        place = f"/root/{package.name}"
        shutil.copy(package, self.file(place))
        options = ["-o", "Dpkg::Options::=--force-confdef", "--allow-downgrades", "-y"]
        done = self.run("apt-get", "install", *options, place)
        self.installed = self.installed or done.stdout + done.stderr
        return done.stdout + done.stderr

    def status(self) -> dict[str, Any]:
        """`appliance status --json`; empty when nobody answers."""
        return dict(json.loads(self.run("appliance", "status", "--json", check=False).stdout or "{}"))

    def serves(self) -> None:
        """Wait until everything serves."""
        done = self.run("appliance", "status", "--wait", "60", check=False)
        assert done.returncode == 0, done.stdout + done.stderr + self.journal()

    def journal(self) -> str:
        """What the unit said."""
        return self.run("journalctl", "--no-pager", "-u", "appliance", "-n", "200", "-o", "cat").stdout

    def since(self, unit: str = "appliance") -> Callable[[], str]:
        """Reads what the unit says from now on."""
        cursor = self.run("journalctl", "-n", "0", "--show-cursor").stdout.rpartition("cursor: ")[2].strip()
        words = ["journalctl", "--no-pager", "-u", unit, "-o", "cat", f"--after-cursor={cursor}"]
        return lambda: self.run(*words).stdout

    def pids(self, service: str) -> set[int]:
        """The workers of a service, as numbers in the machine."""
        return {worker["pid"] for worker in self.status()["services"][service]["workers"] if worker["pid"]}

    # -- from outside

    def outside(self, *argv: str, timeout: float = 120) -> subprocess.CompletedProcess[bytes]:
        """Run a program of this machine as the client."""
        return subprocess.run(
            ["ip", "netns", "exec", f"{self.name}c", *argv],
            capture_output=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )

    def fetch(self, url: str, *options: str) -> bytes:
        """By curl; raises AssertionError when that fails."""
        done = self.outside("curl", "-sS", "--max-time", "60", *options, url)
        assert done.returncode == 0, (url, done.stderr)
        return done.stdout

    def storm(self, *words: str) -> subprocess.Popen[str]:
        """Start tests/machine/storm.py as the client."""
        argv = [
            "ip",
            "netns",
            "exec",
            f"{self.name}c",
            sys.executable,
            str(Path(__file__).with_name("storm.py")),
            *words,
        ]
        return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)


def _host(*argv: str) -> None:
    subprocess.run(argv, check=True, capture_output=True)


def _quietly(*argv: str) -> bool:
    return subprocess.run(argv, capture_output=True).returncode == 0
