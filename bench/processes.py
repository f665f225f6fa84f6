"""All processes of one measured server: started together, accounted together, ended together.

The account is a cgroup (version 2) of their own, because servers fork a process per transfer and those are gone when
the figures are read. Needs root.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_numbers = itertools.count()
_END_S = 20.0
_REST_S, _LOOK_S, _STILL_S = 10.0, 0.25, 0.002


class Server:
    """A running server; `name` is for the report."""

    def __init__(
        self,
        name: str,
        argv: list[str],
        log: Path,
        *,
        cpus: set[int] | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        """Start `argv`, output to `log`, on `cpus` only if given. Raises OSError."""
        self.name, self.log = name, log
        self._group = _cgroups() / f"bench-{os.getpid()}-{next(_numbers)}"
        self._group.mkdir()
        inside = ["sh", "-c", 'echo 0 >"$0" && exec "$@"', str(self._group / "cgroup.procs"), *pinned(argv, cpus)]
        with log.open("ab") as output:
            # a session of its own: the kernel shares the processors out between sessions (autogroup), and servers that
            # make one would be favoured beside those that do not
            self._process = subprocess.Popen(
                inside,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                start_new_session=True,
            )

    def pids(self) -> list[int]:
        """Of every process that lives."""
        return [int(pid) for pid in (self._group / "cgroup.procs").read_text().split()]

    def keep_to(self, cpus: set[int] | None) -> None:
        """Move all its processes, and so those to come, to these processors; None: to all."""
        for thread in (self._group / "cgroup.threads").read_text().split():
            try:
                os.sched_setaffinity(int(thread), cpus or range(os.cpu_count() or 1))
            except ProcessLookupError:
                pass  # it has ended

    def running(self) -> bool:
        """Whether the first process is still there."""
        return self._process.poll() is None

    def cpu_s(self) -> float:
        """Processor seconds, user and system, of all processes that there were."""
        for line in (self._group / "cpu.stat").read_text().splitlines():
            if line.startswith("usage_usec"):
                return int(line.split()[1]) / 1e6
        raise OSError("the kernel tells no usage_usec")

    def rest(self) -> None:
        """Wait until it uses no processor, a moment's work a second at most; after some seconds, go on all the same.

        Ours starts helpers when it serves already: up to 90 ms, charged to a GiB that takes 100 or 200 itself.
        """
        before, deadline = -1.0, time.monotonic() + _REST_S
        while (now := self.cpu_s()) - before > _STILL_S and time.monotonic() < deadline:
            before = now
            time.sleep(_LOOK_S)

    def pss_mib(self) -> float:
        """Memory of all processes, shared pages counted once (proportionally)."""
        return sum(_pss_kib(pid) for pid in self.pids()) / 1024

    def stop(self) -> None:
        """End it politely, then all that is left of it."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_END_S / 2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        deadline = time.monotonic() + _END_S
        while (left := self.pids()) and time.monotonic() < deadline:
            for pid in left:
                _kill(pid)
            time.sleep(0.01)
        self._group.rmdir()


def pinned(argv: list[str], cpus: set[int] | None) -> list[str]:
    """`argv`, to run on these processors only; None: on all."""
    return argv if cpus is None else ["taskset", "--cpu-list", ",".join(map(str, sorted(cpus))), *argv]


@contextmanager
def peak_memory(server: Server, every_s: float = 0.1) -> Iterator[list[float]]:
    """While the block runs, note the memory; the yielded list holds MiB and the process count of the worst moment."""
    worst, stop = [0.0, 0], threading.Event()

    def watch() -> None:
        while not stop.wait(every_s):
            worst[0] = max(worst[0], server.pss_mib())
            worst[1] = max(worst[1], len(server.pids()))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield worst
    finally:
        stop.set()
        thread.join()


def _cgroups() -> Path:
    """Where version 2 is mounted; on hybrid machines beside version 1."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _device, where, kind, *_rest = line.split()
        if kind == "cgroup2":
            return Path(where)
    raise OSError("no cgroup2 is mounted")


def _pss_kib(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    except OSError:  # it has ended
        pass
    return 0


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
