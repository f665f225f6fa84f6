"""FTP over TLS beside pure-ftpd: one client fetches one large file. `python -m bench.ftps [--rounds N] [--write]`.

Needs root, curl, openssl, unshare, a mounted cgroup2, and (the first time) a Debian mirror. pure-ftpd serves anonymous
clients only where there is an account `ftp`: it gets one in a mount namespace of its own.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.peers import Peer, Place, Store
from bench.processes import Server
from bench.results import machine, write_section

_SIZE = 256 << 20
_READY_S = 20.0
_TREE = Path(__file__).parents[1]
_OURS = "ours"
_PROGRAM = (
    "import sys; sys.path[:0] = sys.argv.pop(1).split(':'); from appliance.cli.main import main; sys.exit(main())"
)
_CONFIG = """\
state_dir: {scratch}/state
run_dir: {scratch}/run
confinement: required
tftp: {{enabled: false}}
ftp:
  listen: ["{host}:{port}"]
  root: {root}
  passive_ports: "32000-32900"
  limits: {{sessions: 400}}
  tls: {{mode: required, certificate: {tls}, session_reuse: optional}}
observe: {{log: text}}
"""


def _pure(place: Place) -> list[str]:
    at = ["-S", f"{place.host},{place.port}", "-p", "31000:31900", "-g", str(place.scratch / "pid")]
    return ["-e", "-H", "-A", "-k", "99", "-Y", "2", "-2", str(place.scratch.parent / "tls.pem"), *at]


_PURE = Peer("pure-ftpd", "pure-ftpd", "usr/sbin/pure-ftpd", _pure)


def _start_ours(store: Store, place: Place) -> Server:
    config = place.scratch / "appliance.yaml"
    values = {"scratch": place.scratch, "root": place.root, "host": place.host, "port": place.port}
    config.write_text(_CONFIG.format(**values, tls=place.scratch.parent / "tls.pem"))
    path = ":".join([str(_TREE), *(entry for entry in sys.path if entry)])
    argv = [sys.executable, "-I", "-c", _PROGRAM, path, "run", "-c", str(config)]
    return Server(_OURS, argv, place.scratch / "log")


def _start_pure(store: Store, place: Place) -> Server:
    accounts = place.scratch / "passwd"
    accounts.write_text(f"{Path('/etc/passwd').read_text()}ftp:x:64700:64700::{place.root}:/bin/sh\n")
    script = f'mount --make-rprivate / && mount --bind {accounts} /etc/passwd && exec "$0" "$@"'

    def arguments(where: Place) -> list[str]:
        return ["-m", "sh", "-c", script, str(store.root / _PURE.program), *_pure(where)]

    return store.start(Peer(_PURE.name, _PURE.package, "/usr/bin/unshare", arguments), place)


_STARTS: dict[str, Callable[[Store, Place], Server]] = {_OURS: _start_ours, _PURE.name: _start_pure}


def _wait(server: Server, place: Place) -> None:
    deadline = time.monotonic() + _READY_S
    while time.monotonic() < deadline and server.running():
        try:
            with socket.create_connection((place.host, place.port), timeout=1) as sock:
                if sock.recv(3) == b"220":
                    return
        except OSError:
            time.sleep(0.05)
    raise OSError(f"{server.name} does not serve:\n{server.log.read_text(errors='replace')[-2000:]}")


def _measure(name: str, store: Store, place: Place) -> tuple[float, float]:
    """MB/s, and processor seconds of all the server's processes for a GB."""
    shutil.rmtree(place.scratch, ignore_errors=True)
    place.scratch.mkdir(mode=0o755)
    server = _STARTS[name](store, place)
    try:
        _wait(server, place)
        words = ["curl", "-sS", "--ssl-reqd", "--insecure", "--tlsv1.3", "--output", str(place.scratch.parent / "got")]
        url = f"ftp://{place.host}:{place.port}/big"
        subprocess.run([*words, url], check=True)  # warm, and every byte compared
        subprocess.run(["cmp", str(place.scratch.parent / "got"), str(place.root / "big")], check=True)
        before, begun = server.cpu_s(), time.monotonic()
        subprocess.run([*words[:-1], os.devnull, url], check=True)
        seconds = time.monotonic() - begun
        return _SIZE / 1e6 / seconds, (server.cpu_s() - before) / (_SIZE / 1e9)
    finally:
        server.stop()


def _table(found: dict[str, list[tuple[float, float]]]) -> str:
    lines = [
        "| server | MB/s median (min..max) | vs pure-ftpd | CPU s/GB | CPU vs pure-ftpd |",
        "|---|---|---|---|---|",
    ]
    peer = found[_PURE.name]
    for name, runs in found.items():
        rates, costs = [run[0] for run in runs], [run[1] for run in runs]
        faster = statistics.median(run[0] / other[0] for run, other in zip(runs, peer, strict=True))
        cheaper = statistics.median(other[1] / run[1] for run, other in zip(runs, peer, strict=True))
        lines.append(
            f"| {name} | {statistics.median(rates):.0f} ({min(rates):.0f}..{max(rates):.0f}) | {faster:.2f} "
            f"| {statistics.median(costs):.3f} | {cheaper:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, print, and with --write keep the table in RESULTS.md."""
    parser = argparse.ArgumentParser(prog="python -m bench.ftps", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="bench-ftps-") as folder:
        base = Path(folder)
        base.chmod(0o755)
        store = Store(Path(os.environ.get("BENCH_PEERS", base / "peers")))
        store.fetch([_PURE.package])
        subject = ["-subj", "/CN=bench", "-days", "2", "-keyout", "key", "-out", "certificate"]
        make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject]
        subprocess.run(make, cwd=base, check=True, capture_output=True)
        (base / "tls.pem").write_text((base / "key").read_text() + (base / "certificate").read_text())
        root = base / "root"
        root.mkdir(mode=0o755)
        with (root / "big").open("wb") as big:
            for _ in range(_SIZE >> 20):
                big.write(os.urandom(1 << 20))
        place = Place(root, "127.0.0.1", 31999, base / "scratch")
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in _STARTS}
        for _ in range(wanted.rounds):
            for name, runs in found.items():
                runs.append(_measure(name, store, place))
    what = f"`python -m bench.ftps --rounds {wanted.rounds}` on {machine()}; pure-ftpd {store.versions[_PURE.package]}."
    how = "One RETR of 256 MiB by curl, TLS 1.3, loopback; ratios above 1 are better for the row."
    text = f"{what} {how}\n\n{_table(found)}"
    print(text)
    if wanted.write:
        write_section("FTP over TLS", text)


if __name__ == "__main__":
    main()
