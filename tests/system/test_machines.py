"""A machine that is told by its MAC address: two network namespaces, the kernel's table, real confinement."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import needs_root, until
from tests.system.running import PROGRAM, Appliance

pytestmark = [*needs_root, pytest.mark.skipif(not shutil.which("ip"), reason="needs ip")]
MAC, OTHER = "52:54:00:12:34:56", "52:54:00:12:34:57"
CONFIG = """\
state_dir: {home}/state
run_dir: {home}/run
confinement: required
tftp:
  listen: ["192.0.2.1:69", "[2001:db8::1]:69"]
  root: {home}/tree
  workers: 2
  machines: [{{mac: 52:54:00:12:34:56, root: sub}}]
ftp: {{enabled: false}}
"""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=20)


@pytest.fixture
def rooms() -> Iterator[tuple[str, str]]:
    """Two namespaces with one wire between them: the server's and the client's."""
    server, client = f"appl-s-{os.getpid()}", f"appl-c-{os.getpid()}"
    made = []
    try:
        for name in (server, client):
            ip("netns", "add", name)
            made.append(name)
        ip("-n", server, "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", client)
        ip("-n", client, "link", "set", "wire", "address", MAC)
        for name, last in ((server, "1"), (client, "2")):
            ip("-n", name, "address", "add", f"192.0.2.{last}/24", "dev", "wire")
            ip("-n", name, "address", "add", f"2001:db8::{last}/64", "dev", "wire", "nodad")
            ip("-n", name, "link", "set", "wire", "up")
        ip("-n", client, "address", "add", "192.0.2.3/24", "dev", "wire")
        ip("-n", client, "address", "add", "2001:db8::5054:ff:fe12:3456/64", "dev", "wire", "nodad")
        yield server, client
    finally:
        for name in made:
            ip("netns", "delete", name)


def test_a_confined_worker_tells_a_machine_by_the_table_of_the_kernel(tmp_path: Path, rooms: tuple[str, str]) -> None:
    server, client = rooms
    made = Appliance(tmp_path)
    (made.tree / "sub" / "hello.txt").write_bytes(b"hello, machine\n")
    made.write(CONFIG.format(home=tmp_path))

    def fetched(host: str, source: str) -> bytes:
        argv = ["ip", "netns", "exec", client, "curl", "-sS", "-g", "--interface", source, f"tftp://{host}/hello.txt"]
        return subprocess.run(argv, check=True, capture_output=True, timeout=20).stdout

    def explained(host: str) -> str:
        argv = ["ip", "netns", "exec", server, *PROGRAM, "tftp", "explain", "hello.txt", "--client", host, "-c"]
        return subprocess.run([*argv, str(made.config)], check=True, capture_output=True, text=True, timeout=20).stdout

    with made.log.open("ab") as log:
        argv = ["ip", "netns", "exec", server, *PROGRAM, "run", "-c", str(made.config)]
        made.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        until(lambda: made.ready() or made.ended(), 30, "ready")
        assert fetched("192.0.2.1", "192.0.2.2") == b"hello, machine\n"
        assert fetched("[2001:db8::1]", "2001:db8::5054:ff:fe12:3456") == b"hello, machine\n"
        assert fetched("[2001:db8::1]", "2001:db8::2") == b"hello, network\n"  # no MAC in it
        assert "tftp.machines[0]" in explained("192.0.2.2")
        assert f"its MAC address is {MAC}" in explained("192.0.2.2")
        ip("-n", client, "link", "set", "wire", "address", OTHER)
        assert fetched("192.0.2.1", "192.0.2.3") == b"hello, network\n"
    finally:
        made.stop()
