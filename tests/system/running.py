"""A whole appliance for a test: a configuration, the real command line, real processes; waits are on facts."""

from __future__ import annotations

import ftplib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support import until

PROGRAM = [sys.executable, "-I", "-c", "import sys; sys.path[:0] = sys.argv.pop(1).split(':'); "
           "from appliance.cli.main import main; sys.exit(main())",
           ":".join([str(Path(__file__).parents[2]), *[p for p in sys.path if p]])]  # fmt: skip
DEFAULTS = """\
state_dir: {home}/state
run_dir: {home}/run
confinement: {confinement}
drain_timeout: {drain}
tftp:
  listen: ["127.0.0.1:{tftp}", "[::1]:{tftp}"]
  root: {home}/tree
  workers: {workers}
ftp:
  listen: ["127.0.0.1:{ftp}", "[::1]:{ftp}"]
  root: {home}/tree
  workers: {workers}
  passive_ports: "50000-50999"
  active: {{source_port: 0}}
  incoming: {{enabled: {incoming}, max_size: 64MiB, quota: 128MiB, per_client_quota: 128MiB}}
  limits: {{sessions: 900}}
observe: {{log: text}}
"""


class Appliance:
    """One running appliance; `home` holds its configuration, tree, state and log."""

    def __init__(self, home: Path, **changes: Any) -> None:
        self.home = home
        self.tree = home / "tree"
        self.config = home / "appliance.yaml"
        self.log = home / "log"
        self.process: subprocess.Popen[bytes] | None = None
        self.values = {"home": home, "confinement": "best-effort", "drain": "20s", "tftp": 0, "ftp": 0, "workers": 2,
                       "incoming": "true", **changes}  # fmt: skip
        self.tree.mkdir(exist_ok=True)
        (self.tree / "hello.txt").write_bytes(b"hello, network\n")
        (self.tree / "big.bin").write_bytes(bytes(range(256)) * 4096 * 8)
        (self.tree / "sub").mkdir(exist_ok=True)
        (self.tree / "sub" / "deep.txt").write_bytes(b"deep\n")
        self.write()

    def write(self, text: str | None = None, **changes: Any) -> None:
        """Write the configuration, from the template or as given."""
        self.values.update(changes)
        self.config.write_text(text if text is not None else DEFAULTS.format(**self.values))

    def start(self, *, wait: bool = True, **more: Any) -> Appliance:
        """`appliance run -c CONFIG`."""
        with self.log.open("ab") as log:
            argv = [*PROGRAM, "run", "-c", str(self.config)]
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **more)
        if wait:
            until(lambda: self.ready() or self.ended(), 30, "ready")
        return self

    def ended(self) -> bool:
        """Fails the test when the supervisor has ended."""
        if self.process is not None and self.process.poll() is not None:
            pytest.fail(f"the appliance ended with {self.process.returncode}:\n{self.log.read_text()[-4000:]}")
        return False

    @property
    def pid(self) -> int:
        """The supervisor."""
        assert self.process is not None
        return self.process.pid

    def status(self) -> dict[str, Any]:
        """The document of the status child; empty when nobody answers."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(10)
            folder = os.open(self.home / "run", os.O_PATH)
            try:
                sock.connect(f"/proc/self/fd/{folder}/status.sock")
                text = b"".join(iter(lambda: sock.recv(65536), b""))
            except OSError:
                return {}
            finally:
                os.close(folder)
        return json.loads(text) if text else {}

    def ready(self) -> bool:
        """Whether it says so."""
        return bool((self.home / "run").is_dir() and self.status().get("ready"))

    def workers(self, service: str, state: str = "serving") -> list[dict[str, Any]]:
        """The workers of a service in a state."""
        found = self.status().get("services", {}).get(service, {}).get("workers", [])
        return [worker for worker in found if worker["state"] == state]

    def pids(self, service: str) -> set[int]:
        """Of the workers that serve."""
        return {worker["pid"] for worker in self.workers(service)}

    def address(self, service: str, index: int = 0) -> tuple[str, int]:
        """Where a service listens."""
        host, _, port = self.status()["services"][service]["listen"][index].rpartition(":")
        return host.strip("[]"), int(port)

    def verb(self, *words: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run `appliance VERB -c CONFIG ...`."""
        argv = [*PROGRAM, words[0], "-c", str(self.config), *words[1:]]
        return subprocess.run(argv, capture_output=True, text=True, timeout=timeout)

    def signal(self, number: int) -> None:
        """To the supervisor."""
        os.kill(self.pid, number)

    def wait(self, seconds: float = 60) -> int:
        """Until the supervisor has ended; its exit code."""
        assert self.process is not None
        return self.process.wait(seconds)

    def stop(self) -> None:
        """End it, whatever state it is in."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def said(self, text: str, seconds: float = 10) -> str:
        """Wait until the log holds `text`; returns the log."""
        until(lambda: text in self.log.read_text(errors="replace"), seconds, f"log line {text!r}")
        return self.log.read_text(errors="replace")

    def ftp(self, index: int = 0) -> ftplib.FTP:
        """A logged-in client."""
        client = ftplib.FTP(timeout=60)
        try:
            client.connect(*self.address("ftp", index))
            client.login()
        except BaseException:
            client.close()  # its worker was killed, say
            raise
        return client


@contextmanager
def appliance(home: Path, **changes: Any) -> Iterator[Appliance]:
    """A started appliance that is ended at the end."""
    made = Appliance(home, **changes)
    try:
        yield made.start()
    finally:
        made.stop()


def tftp_read(address: tuple[str, int], name: bytes, timeout: float = 60) -> bytes:
    """The smallest honest TFTP client: no options, lock-step; it says again what was not answered for a second.

    `timeout`: seconds of silence. Raises TimeoutError after that.
    """
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(min(timeout, 1.0))
        said, peer = b"\0\1" + name + b"\0octet\0", address
        data, block, heard = b"", 1, time.monotonic()
        sock.sendto(said, peer)
        while True:
            try:
                packet, peer = sock.recvfrom(65536)
            except TimeoutError:
                if time.monotonic() >= heard + timeout:
                    raise
                sock.sendto(said, peer)
                continue
            if packet[:2] == b"\0\5":
                raise OSError(packet[4:-1].decode())
            if packet[:4] != b"\0\3" + block.to_bytes(2, "big"):
                continue
            said, heard = b"\0\4" + packet[2:4], time.monotonic()
            sock.sendto(said, peer)
            data += packet[4:]
            if len(packet) < 516:
                return data
            block = (block + 1) & 0xFFFF
