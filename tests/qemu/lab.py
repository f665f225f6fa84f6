"""A room of machines for a test: a network namespace with a bridge, in it an appliance, DHCP servers, QEMU machines.

Nothing of it touches the network of the machine it runs on. Everything is made for one test process (its pid is in the
name of the namespace) and is gone afterwards.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.qemu.machine import Machine
from tests.support import needs_root, until
from tests.system.running import PROGRAM, Appliance

SERVER, ROUTER = "192.0.2.1", "192.0.2.2"
needs_lab = [
    *needs_root,
    pytest.mark.skipif(
        not all(map(shutil.which, ("ip", "dnsmasq", "qemu-system-x86_64"))), reason="needs ip, dnsmasq and QEMU"
    ),
]
CONFIG = """\
state_dir: {home}/state
run_dir: {home}/run
confinement: required
tftp:
  listen: ["192.0.2.1:69"]
  root: {home}/tree
  workers: 1
ftp:
  listen: ["192.0.2.1:21"]
  root: {home}/pub
  workers: 1
observe: {{log: json}}
"""


class Lab:
    """The namespace and everything in it. `home` holds trees, logs and state; others can read it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.name, self.elsewhere = f"appl-b-{os.getpid()}", f"appl-r-{os.getpid()}"
        self.bridge = "br0"
        self._taps = 0
        self._machines: list[Machine] = []
        self._others: list[subprocess.Popen[bytes]] = []
        self._appliance: Appliance | None = None

    def ip(self, *words: str) -> None:
        """ip(8) in the namespace."""
        _run("ip", "-n", self.name, *words)

    def enter(self, *argv: str, elsewhere: bool = False) -> list[str]:
        """The same command in the namespace, or in that of the other host."""
        return ["ip", "netns", "exec", self.elsewhere if elsewhere else self.name, *argv]

    def build(self) -> None:
        """The namespace, with one bridge and the server's address on it; and another host on that bridge."""
        _run("ip", "netns", "add", self.name)
        self.ip("link", "set", "lo", "up")
        self.ip("link", "add", self.bridge, "type", "bridge", "forward_delay", "0")
        self.ip("address", "add", f"{SERVER}/24", "dev", self.bridge)
        self.ip("link", "set", self.bridge, "up")
        _run("ip", "netns", "add", self.elsewhere)
        self.ip("link", "add", "far", "type", "veth", "peer", "name", "wire", "netns", self.elsewhere)
        self.ip("link", "set", "far", "master", self.bridge, "up")
        _run("ip", "-n", self.elsewhere, "address", "add", f"{ROUTER}/24", "dev", "wire")
        _run("ip", "-n", self.elsewhere, "link", "set", "wire", "up")

    def appliance(self, text: str = CONFIG) -> Appliance:
        """The real program on ports 69 and 21 of the namespace, fully confined."""
        made = Appliance(self.home)
        (self.home / "pub").mkdir(exist_ok=True)
        made.write(text.format(home=self.home))
        with made.log.open("ab") as log:
            argv = self.enter(*PROGRAM, "run", "-c", str(made.config))
            made.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._appliance = made
        until(lambda: made.ready() or made.ended(), 40, "ready")
        return made

    def dnsmasq(self, *lines: str, elsewhere: bool = False) -> Path:
        """A DHCP server, beside the appliance or on the other host, with these lines to its configuration; its log."""
        name = f"dnsmasq{len(self._others)}"
        config, log = self.home / f"{name}.conf", self.home / f"{name}.log"
        where = "wire" if elsewhere else self.bridge
        config.write_text("\n".join(("port=0", f"interface={where}", "bind-dynamic", "log-dhcp", *lines, "")))
        argv = ["dnsmasq", "--keep-in-foreground", "--user=root", "--log-facility=-", f"--conf-file={config}",
                f"--dhcp-leasefile={self.home}/{name}.leases", f"--pid-file={self.home}/{name}.pid"]  # fmt: skip
        self._run_server(log, b"DHCP", self.enter(*argv, elsewhere=elsewhere))
        return log

    def serve(self, *argv: str, says: str) -> Path:
        """Another server beside the appliance, which tells in its log that it serves; the log."""
        log = self.home / f"server{len(self._others)}.log"
        self._run_server(log, says.encode(), self.enter(*argv))
        return log

    def _run_server(self, log: Path, says: bytes, argv: list[str]) -> None:
        with log.open("ab") as out:
            server = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        self._others.append(server)
        until(lambda: says in log.read_bytes() or server.poll() is not None, 20, argv[0])
        assert server.poll() is None, log.read_text()

    def end_servers(self) -> None:
        """End the servers that were started beside the appliance."""
        while self._others:
            _end(self._others.pop())

    def tap(self) -> str:
        """One more port of the bridge."""
        name = f"tap{self._taps}"
        self._taps += 1
        self.ip("tuntap", "add", "dev", name, "mode", "tap")
        self.ip("link", "set", name, "master", self.bridge, "up")
        return name

    def machine(
        self, kind: str, mac: str, *more: str, memory: int = 1024, name: str = "", reboots: bool = False
    ) -> Machine:
        """Power a QEMU machine on; `kind` is one of machine.KINDS."""
        made = Machine(self.home, name or f"machine{len(self._machines)}", kind, mac, memory)
        self._machines.append(made)
        made.power_on(self.enter, self.tap(), more, reboots=reboots)
        return made

    def close(self) -> None:
        """End everything, newest first, and take the namespace away."""
        for machine in self._machines:
            machine.power_off()
        self.end_servers()
        if self._appliance is not None:
            self._appliance.stop()
        for name in (self.name, self.elsewhere):
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True, timeout=20)


@contextmanager
def lab(home: Path) -> Iterator[Lab]:
    """A lab that is taken down at the end."""
    made = Lab(home)
    try:
        made.build()
        yield made
    finally:
        made.close()


def boot(made: Appliance, *words: str) -> str:
    """`appliance boot VERB ...`; what it wrote."""
    argv = [*PROGRAM, "boot", *words[:1], *(words[1:2] if words[0] == "host" else ()), "-c", str(made.config)]
    argv += words[2:] if words[0] == "host" else words[1:]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True, capture_output=True, timeout=20)


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Lab]:
    """A lab of one test, in folders that every account may enter."""
    for folder in (*tmp_path.parents[:2], tmp_path):
        folder.chmod(0o755)
    with lab(tmp_path) as made:
        yield made
