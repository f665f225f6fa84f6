"""python -m bench.ftpidle: memory of the whole service, all processes, while 20,000 clients are logged in and silent.

In a network and a mount namespace of its own. Needs root, cc, unshare, ip and mount.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from bench import results
from bench.ftp import servers
from bench.peers import Store
from bench.processes import Server
from bench.tftp.load import Generator

_INSIDE = "BENCH_FTPIDLE_INSIDE"
_HEADING = "FTP: 20,000 idle sessions"
_SOURCE = Path(__file__).parent / "ftp" / "load.c"
_SESSIONS, _AT_ONCE = 20_000, 5_000  # each generator holds a descriptor for each of its sessions
_CALM_S = 10.0


def main() -> int:
    """Prepare outside, measure inside."""
    parser = argparse.ArgumentParser(prog="python -m bench.ftpidle", description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the figures into bench/RESULTS.md")
    options = parser.parse_args()
    if os.geteuid():
        print("bench.ftpidle needs root: namespaces, chroot", file=sys.stderr)
        return 2
    if _INSIDE not in os.environ:
        with tempfile.TemporaryDirectory(prefix="bench-ftpidle-") as name:
            Path(name).chmod(0o755)
            inside = ["unshare", "--net", "--mount", sys.executable, "-m", "bench.ftpidle", *sys.argv[1:]]
            return subprocess.run(inside, env={**os.environ, _INSIDE: name}, check=False).returncode
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    text = _measure(Path(os.environ[_INSIDE]))
    print(text)
    if options.write:
        results.write_section(_HEADING, f"`python -m bench.ftpidle` on {results.machine()}. {text}")
    return 0


def _measure(folder: Path) -> str:
    tree = folder / "tree"
    tree.mkdir(mode=0o755)
    (tree / "ready").write_bytes(b"ready\n")
    server = servers.start(servers.OURS, Store(folder / "peers"), tree, folder / "scratch")
    try:
        before = server.pss_mib()
        generator = Generator(folder, _SOURCE)
        load: dict[str, object] = {
            "mode": "park",
            "host": servers.HOST,
            "port": servers.PORT,
            "clients": _AT_ONCE,
        }
        began = time.monotonic()
        with ExitStack() as parked:
            found = [parked.enter_context(generator.beside(load)) for _ in range(_SESSIONS // _AT_ONCE)]
            opened_s = time.monotonic() - began
            full, cpu = server.pss_mib(), _idle_cpu(server)
        held = sum(figures[0]["open"] for figures in found)
    finally:
        server.stop()
    return (
        f"Memory (PSS, supervisor and all children): {before:.0f} MiB without a client, {full:.0f} MiB with "
        f"{held:,.0f} sessions logged in, {(full - before) * 1024 / held:.2f} KiB each; {opened_s:.0f} s to log in all "
        f"of them, one after the other; {cpu:.1%} of one processor while they are silent."
    )


def _idle_cpu(server: Server) -> float:
    before = server.cpu_s()
    time.sleep(_CALM_S)
    return (server.cpu_s() - before) / _CALM_S


if __name__ == "__main__":
    sys.exit(main())
