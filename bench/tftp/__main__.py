"""python -m bench.tftp: our TFTP service beside tftpd-hpa, atftpd and dnsmasq, interleaved, each run on a fresh server.

Everything happens in a network namespace of its own, so nothing else on the machine is met. Needs root, cc, apt-get,
unshare, ip and taskset.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench import results
from bench.peers import Store
from bench.processes import peak_memory
from bench.tftp import servers
from bench.tftp.load import Figures, Generator
from bench.tftp.report import Rounds, Table, render
from bench.tftp.workloads import LOSSES, UPLOADS, WORKLOADS, Workload, make_files

_INSIDE = "BENCH_TFTP_INSIDE"
_HEADINGS = {False: "TFTP", True: "TFTP under loss"}
_PINS: dict[str, tuple[set[int] | None, set[int] | None]] = {  # server, generator
    "none": (None, None),
    "same": ({0}, {0}),
    "split": ({0}, {1}),
}
_NETWORK = (
    "ip link set lo up",
    "ip address add 192.0.2.1/32 dev lo",  # tftpd-hpa looks its address up with AI_ADDRCONFIG: one must be no loopback
    "ip route add local 198.18.0.0/15 dev lo",  # addresses of strangers
)


def main() -> int:
    """Prepare outside, measure inside."""
    options = _options()
    if os.geteuid():
        print("bench.tftp needs root: a network namespace, port 69, chroot", file=sys.stderr)
        return 2
    if _INSIDE in os.environ:
        folder = Path(os.environ[_INSIDE])
        box = folder / "tree" / UPLOADS  # in memory: the service is measured, not the disk
        for command in (*_NETWORK, f"mount -t tmpfs -o size=1g tmpfs {box}"):
            subprocess.run(command.split(), check=True)
        return _measure(options, folder)
    with tempfile.TemporaryDirectory(prefix="bench-tftp-") as folder:
        Path(folder).chmod(0o755)
        Store(_peers(Path(folder))).fetch(peer.package for peer in servers.PEERS.values())
        make_files(Path(folder) / "tree")
        inside = ["unshare", "--net", "--mount", sys.executable, "-m", "bench.tftp", *sys.argv[1:]]
        return subprocess.run(inside, env={**os.environ, _INSIDE: folder}, check=False).returncode


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.tftp", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--only", metavar="1,2,...", help="these workloads; `loss` is the curve under loss")
    parser.add_argument("--servers", metavar="ours,atftpd,...", help="these servers")
    parser.add_argument("--pin", choices=[*_PINS], help="single clients only so; usually same, then split")
    parser.add_argument("--quick", action="store_true", help="one round, one pinning")
    parser.add_argument("--write", action="store_true", help="put these tables into bench/RESULTS.md, the others stay")
    return parser.parse_args()


def _peers(folder: Path) -> Path:
    return Path(os.environ.get("BENCH_PEERS", folder / "peers"))


def _jobs(options: argparse.Namespace) -> Iterator[tuple[Workload, str]]:
    only = options.only.split(",") if options.only else []
    for workload in (*WORKLOADS, *LOSSES):
        curve = workload in LOSSES
        if workload.key in only or ("loss" in only and curve) or not (only or curve):
            pins = workload.pins[:1] if options.quick else workload.pins
            yield from ((workload, pin) for pin in pins if options.pin in (None, pin))


def _measure(options: argparse.Namespace, folder: Path) -> int:
    bench = Bench(folder)
    named = options.servers.split(",") if options.servers else [servers.OURS, *servers.PEERS]
    jobs = list(_jobs(options))
    tables: list[Table] = []
    texts = []
    for workload, pin in jobs:
        names = [name for name in named if not workload.servers or name in workload.servers]
        rounds: Rounds = {name: [] for name in names}
        memory = {name: bench.memory(workload, name) for name in names if workload.memory}
        for number in range(1 if options.quick else options.rounds):
            for name in names[number % len(names) :] + names[: number % len(names)]:  # nobody is always first
                rounds[name].append(bench.run(workload, name, pin, seed=number + 1))
        table = Table(workload, pin, rounds, memory)
        texts.append(render(table, tables))
        tables.append(table)
        print(texts[-1], flush=True)
    if options.write:
        loss = bool(jobs) and all(workload in LOSSES for workload, _pin in jobs)
        results.write_tables(_HEADINGS[loss], _preface(bench.store, options, loss), texts)
    return 0


def _preface(store: Store, options: argparse.Namespace, loss: bool) -> str:
    versions = ", ".join(f"{name} {store.versions[peer.package]}" for name, peer in servers.PEERS.items())
    command = f"python -m bench.tftp {'--only loss ' if loss else ''}--rounds {options.rounds}"
    return (
        f"`{command}` on {results.machine()}; {versions}. Loopback, every byte "
        'compared. "vs best C" is the median over the rounds of the ratio to the C server with the best median.\n\n'
    )


@contextmanager
def _path(discipline: str) -> Iterator[None]:
    """Make the loopback of this namespace a narrower path while the block runs. Raises CalledProcessError."""
    subprocess.run(["tc", "qdisc", "add", "dev", "lo", "root", *discipline.split()], check=True)
    try:
        yield
    finally:
        subprocess.run(["tc", "qdisc", "del", "dev", "lo", "root"], check=True)


class Bench:
    """Runs one workload on one server at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tree = folder / "tree"
        self._generator = Generator(folder)
        self.store = Store(_peers(folder))

    def run(self, workload: Workload, name: str, pin: str, *, seed: int = 1, watch: bool = False) -> Figures:
        """One run on a fresh server: the generator's figures, `cpu_s`, and with `watch` the peak of the memory."""
        server_cpus, load_cpus = _PINS[pin]
        writes = workload.load.get("mode") == "write"
        form = servers.Form(server_cpus, 1 if pin == "same" else "auto", workload.transfers_max, writes)
        if writes:
            self._empty_box(name)
        server = servers.start(name, self.store, self._tree, self._folder / "scratch", form)
        common: dict[str, object] = {"root": self._tree, "server": servers.HOST, "port": servers.PORT}
        dice = {"seed": seed}  # of what gets lost
        try:
            with ExitStack() as meanwhile:
                memory = meanwhile.enter_context(peak_memory(server)) if watch else [0.0, 0.0]
                if workload.path:
                    meanwhile.enter_context(_path(workload.path))
                if workload.before:
                    self._generator.run({**common, **workload.before}, cpus=load_cpus)
                if workload.beside:
                    meanwhile.enter_context(self._generator.beside({**common, **workload.beside}))
                before = server.cpu_s()
                figures = self._generator.run({**common, **workload.load, **dice}, cpus=load_cpus)
                figures["cpu_s"] = server.cpu_s() - before
        finally:
            server.stop()
        if figures["wrong"]:
            raise SystemExit(f"{name} delivered wrong bytes in workload {workload.key}")
        cut = figures["finished"] < figures["started"]
        if writes and not cut and not self._arrived():
            raise SystemExit(f"{name} stored wrong bytes in workload {workload.key}")
        return {**figures, "pss_mib": memory[0], "processes": memory[1]}

    def _empty_box(self, name: str) -> None:
        """An empty folder for uploads: ours takes it over, the others run as nobody and need it to be open."""
        box = self._tree / UPLOADS
        for path in box.iterdir():
            path.unlink()
        os.chown(box, 0, 0)
        box.chmod(0o755 if name == servers.OURS else 0o777)

    def _arrived(self) -> bool:
        """Whether each file that was uploaded is what it was; there is at least one."""
        found = [path for path in (self._tree / UPLOADS).iterdir() if not path.name.startswith(".")]
        return bool(found) and all(filecmp.cmp(path, self._tree / path.name, shallow=False) for path in found)

    def memory(self, workload: Workload, name: str) -> tuple[float, int]:
        """Peak of a run of its own: watching it would slow a measured one down."""
        figures = self.run(workload, name, "none", watch=True)
        return figures["pss_mib"], int(figures["processes"])


if __name__ == "__main__":
    sys.exit(main())
