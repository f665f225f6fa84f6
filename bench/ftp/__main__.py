"""python -m bench.ftp: our FTP service beside vsftpd, proftpd, pure-ftpd and plain pyftpdlib, interleaved.

Everything happens in a network and a mount namespace of its own, so nothing else on the machine is met or changed.
Needs root, cc, apt-get, unshare, ip and mount.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from appliance.wiring import FIXED_UIDS
from bench import results
from bench.ftp import servers
from bench.ftp.report import Rounds, Table, render
from bench.ftp.workloads import WORKLOADS, Workload, make_tree
from bench.peers import Store
from bench.processes import Server
from bench.tftp.load import Figures, Generator

_ONE_CPU = {0}
_INSIDE = "BENCH_FTP_INSIDE"
_HEADING = "FTP"
_SOURCE = Path(__file__).with_name("load.c")


def main() -> int:
    """Prepare outside, measure inside."""
    options = _options()
    if os.geteuid():
        print("bench.ftp needs root: namespaces, chroot", file=sys.stderr)
        return 2
    if _INSIDE in os.environ:
        folder = Path(os.environ[_INSIDE])
        _furnish(folder)
        return _measure(options, folder)
    with tempfile.TemporaryDirectory(prefix="bench-ftp-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        Store(_peers(folder)).fetch(peer.package for peer in servers.PEERS.values())
        make_tree(folder / "tree")
        inside = ["unshare", "--net", "--mount", sys.executable, "-m", "bench.ftp", *sys.argv[1:]]
        return subprocess.run(inside, env={**os.environ, _INSIDE: name}, check=False).returncode


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.ftp", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--only", metavar="1,2,...", help="these workloads")
    parser.add_argument("--servers", metavar="ours,vsftpd,...", help="these servers")
    parser.add_argument("--quick", action="store_true", help="one round")
    short = (
        "rounds of an Nth of the operations, on servers that are kept: more rounds, which a busy machine meets alike"
    )
    parser.add_argument("--short", type=int, default=1, metavar="N", help=short)
    parser.add_argument("--write", action="store_true", help="put the table into bench/RESULTS.md")
    return parser.parse_args()


def _peers(folder: Path) -> Path:
    return Path(os.environ.get("BENCH_PEERS", folder / "peers"))


def _furnish(folder: Path) -> None:
    """A loopback; an account whose home is the tree; drop boxes in memory, so that no disk is measured."""
    accounts = folder / "passwd"
    home = f"{servers.ACCOUNT}:x:{servers.NUMBER}:65534::{folder}/tree:/bin/false\n"
    accounts.write_text(Path("/etc/passwd").read_text() + home)
    _run("ip", "link", "set", "lo", "up")
    _run("mount", "--make-rprivate", "/")
    _run("mount", "--bind", str(accounts), "/etc/passwd")
    for name in {"incoming", *servers.BOX.values()}:
        box = folder / "tree" / name
        box.mkdir(exist_ok=True)
        _run("mount", "-t", "tmpfs", "none", str(box))
        owner = FIXED_UIDS["appliance-custody"] if name == servers.BOX[servers.OURS] else servers.NUMBER
        os.chown(box, owner, owner)
        box.chmod(0o700)


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True)


def _measure(options: argparse.Namespace, folder: Path) -> int:
    bench = Bench(folder, options.short)
    named = options.servers.split(",") if options.servers else list(servers.ALL)
    only = options.only.split(",") if options.only else [workload.key for workload in WORKLOADS]
    texts = []
    try:
        for workload in (workload for workload in WORKLOADS if workload.key in only):
            names = [name for name in named if name in (workload.servers or servers.ALL)]
            names = [name for name in names if workload.plain or name != servers.PLAIN]
            rounds: Rounds = {name: [] for name in names}
            for number in range(1 if options.quick else options.rounds):
                for name in names[number % len(names) :] + names[: number % len(names)]:  # nobody is always first
                    rounds[name].append(bench.run(workload, name))
            texts.append(render(Table(workload, rounds)))
            print(texts[-1], flush=True)
    finally:
        bench.close()
    if options.write:
        results.write_section(_HEADING, _preface(bench.store, options) + "\n".join(texts))
    return 0


def _preface(store: Store, options: argparse.Namespace) -> str:
    versions = ", ".join(f"{name} {store.versions[peer.package]}" for name, peer in servers.PEERS.items())
    rounds = "--quick" if options.quick else f"--rounds {options.rounds}"
    if options.short > 1:
        rounds += f" --short {options.short}"
    return (
        f"`python -m bench.ftp {rounds}` on {results.machine()}; {versions}. Loopback, no transfer log but ours, which "
        'is on. "vs best C" is the median over the rounds of the ratio to the C server with the best median: above 1 '
        "is better than it, for CPU below 1. CPU is that of the server; where one CPU hands packets to the other it is "
        'chance whom the kernel charges for them, so "with the client" is the ratio of what both used together. '
        "vsftpd-noiso runs without its name spaces per session.\n\n"
    )


class Bench:
    """Runs one workload on one server at a time."""

    def __init__(self, folder: Path, short: int = 1) -> None:
        self._folder, self._short = folder, short
        self._kept: dict[str, Server] = {}  # where rounds are short
        self._tree = folder / "tree"
        self._generator = Generator(folder, _SOURCE)
        self.store = Store(_peers(folder))

    def run(self, workload: Workload, name: str) -> Figures:
        """One run: the generator's figures, `cpu_s`, and `kib` of memory where sessions idle. On a fresh server, or on
        one that is kept, with an Nth of the operations."""
        if self._short > 1 and workload.unit != "KiB/session":
            return self._measured(workload, name, self._server(name), _port(name))
        server = servers.start(name, self.store, self._tree, self._folder / "scratch")
        try:
            if workload.unit == "KiB/session":
                return self._memory(server, self._load(workload, workload.load, name, servers.PORT))
            return self._measured(workload, name, server, servers.PORT)
        finally:
            server.stop()

    def close(self) -> None:
        """End what is kept."""
        for server in self._kept.values():
            server.stop()
        self._kept.clear()

    def _server(self, name: str) -> Server:
        if name not in self._kept:
            scratch = self._folder / f"scratch-{name}"
            self._kept[name] = servers.start(name, self.store, self._tree, scratch, _port(name))
        return self._kept[name]

    def _measured(self, workload: Workload, name: str, server: Server, port: int) -> Figures:
        load = self._load(workload, workload.load, name, port)
        load["ops"] = max(1, int(str(load["ops"])) // self._short)
        cpus = _ONE_CPU if workload.one_cpu else None
        server.keep_to(cpus)
        if workload.stores:
            self._generator.run(load)  # memory that the machine never used before costs twice, whoever takes it
            self._empty()
        with ExitStack() as meanwhile:
            if workload.beside:
                meanwhile.enter_context(self._generator.beside(self._load(workload, workload.beside, name, port)))
            before = server.cpu_s()
            figures = self._generator.run(load, cpus=cpus)
            figures["cpu_s"] = server.cpu_s() - before
        self._empty()
        return figures

    def _load(self, workload: Workload, options: dict[str, object], name: str, port: int) -> dict[str, object]:
        load: dict[str, object] = {"host": servers.HOST, "port": port, **options}
        if workload.stores:
            load["name"] = f"{servers.BOX.get(name, 'incoming')}/{options['name']}"
        if workload.changing and load["mode"] == "list":
            load["touch"] = self._tree / "many"
        return load

    def _memory(self, server: Server, load: dict[str, object]) -> Figures:
        before = server.pss_mib()
        with self._generator.beside(load) as found:
            kib = (server.pss_mib() - before) * 1024
        return {**found[0], "kib": kib, "cpu_s": 0.0}

    def _empty(self) -> None:
        """Throw away what was stored."""
        for name in {"incoming", *servers.BOX.values()}:
            for path in (self._tree / name).iterdir():
                if path.is_file():
                    path.unlink()


def _port(name: str) -> int:
    """One for each server that is kept."""
    return servers.PORT + 1 + servers.ALL.index(name)


if __name__ == "__main__":
    sys.exit(main())
