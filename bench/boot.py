"""Boot files on their way: fetch beside curl; publish and rollback of many files, each as the command a person types.

`python -m bench.boot [--only fetch,publish] [--files 1000,10000,100000] [--rounds N] [--write]`, as root or not.
What is fetched comes from busybox's httpd over loopback, into a folder on the disk that TMPDIR is on.
"""

from __future__ import annotations

import argparse
import compileall
import hashlib
import os
import random
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import appliance
from bench.results import machine, write_section

MIB = 1 << 20
SETS = {"one file of 1 GiB": (1, 1024 * MIB), "eight of 64 MiB": (8, 64 * MIB), "200 of 64 KiB": (200, 64 << 10)}
PARALLEL = 4
_MANY = 20_000  # files
CONFIG = """\
state_dir: {place}/state
run_dir: {place}/run
tftp: {{root: {place}/tftp, listen: ['127.0.0.1:0']}}
ftp: {{root: {place}/ftp, listen: ['127.0.0.1:0']}}
boot: {{enabled: true, manifest: {place}/boot.yaml, fetch: {{parallel: PARALLEL}}}}
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.boot")
    parser.add_argument("--only", default="fetch,publish")
    parser.add_argument("--files", default="1000,10000")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true")
    wanted = parser.parse_args()
    compileall.compile_dir(str(Path(appliance.__file__).parent), quiet=2)  # as the package does at its installation
    load = os.getloadavg()[0]
    if "fetch" in wanted.only:
        show("Boot files: fetch", f"--only fetch --rounds {wanted.rounds}", fetches(wanted.rounds), wanted.write, load)
    if "publish" in wanted.only:
        counts = [int(count) for count in wanted.files.split(",")]
        said = f"--only publish --files {wanted.files}"
        show("Boot files: publish and rollback", said, publishes(counts), wanted.write, load)


def show(heading: str, arguments: str, table: str, write: bool, load: float) -> None:
    text = f"`python -m bench.boot {arguments}` on {machine()}; load average when it began: {load:.1f}.\n\n{table}"
    print(text)
    if write:
        write_section(heading, text)


# --- fetch


def fetches(rounds: int) -> str:
    """Each set by curl and by us, in turns."""
    rows = []
    for title, (count, size) in SETS.items():
        ours, theirs, hashed = list[float](), list[float](), list[float]()
        for _ in range(rounds):
            with rooms() as place, mirror(place, count, size) as base:
                theirs.append(timed(lambda: by_curl(place, base, count)))  # noqa: B023  called at once
                hashed.append(timed(lambda: stored(place)))
                shutil.rmtree(place / "curl")
                os.sync()
                manifest = "".join(f"  f{n}: {{url: {base}/f{n}, sha256: {digest(n, size)}}}\n" for n in range(count))
                takes = "".join(f"  - {{from: f{n}, to: f{n}}}\n" for n in range(count))
                (place / "boot.yaml").write_text(f"sources:\n{manifest}tree:\n{takes}")
                ours.append(timed(lambda: command(place, "fetch")))
        sums = [one + two for one, two in zip(theirs, hashed, strict=True)]
        megabytes = count * size / 1e6
        cells = [f"{megabytes / statistics.median(x):.0f} ({statistics.median(x):.2f} s)" for x in (ours, theirs, sums)]
        ratio = statistics.median(b / a for a, b in zip(ours, sums, strict=True))
        rows.append(f"| {title} | {' | '.join(cells)} | {ratio:.2f} |")
    return "\n".join(
        (
            f"**`appliance boot fetch`**, {PARALLEL} downloads at once, medians, MB/s (seconds). Ours is the whole",
            "command: each file is downloaded into the spool by one child, copied and hashed by another, on disk under",
            f"its digest, and noted. curl (`-Z --parallel-max {PARALLEL}`) only downloads; the column after adds what",
            "makes its files as good: `sha256sum`, and `sync -f`. Ratios above 1: ours is faster than that.",
            "",
            "| files | ours | curl | curl, sha256sum, sync | ratio |",
            "|---|---|---|---|---|",
            *rows,
        )
    )  # fmt: skip


@contextmanager
def rooms() -> Iterator[Path]:
    """A configuration, and two roots."""
    with tempfile.TemporaryDirectory(prefix="boot-") as name:
        place = Path(name)
        place.chmod(0o755)
        for folder in ("tftp", "ftp", "files", "curl"):
            (place / folder).mkdir()
        (place / "a.yaml").write_text(CONFIG.format(place=place).replace("PARALLEL", str(PARALLEL)))
        yield place


def content(number: int, size: int) -> bytes:
    """Files that differ, and cost little to make."""
    return number.to_bytes(8, "big") + random.Random(number).randbytes(MIB)[: size - 8] + bytes(max(0, size - MIB - 8))


def digest(number: int, size: int) -> str:
    return hashlib.sha256(content(number, size)).hexdigest()


@contextmanager
def mirror(place: Path, count: int, size: int) -> Iterator[str]:
    """The files and a web server in C for them; their address."""
    for number in range(count):
        (place / "files" / f"f{number}").write_bytes(content(number, size))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    command = ["busybox", "httpd", "-f", "-p", f"127.0.0.1:{port}", "-h", str(place / "files")]
    with subprocess.Popen(command) as server:
        try:
            os.sync()
            time.sleep(0.3)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def by_curl(place: Path, base: str, count: int) -> None:
    which = f"{base}/f[0-{count - 1}]"
    more = ["-Z", "--parallel-max", str(PARALLEL), "-o", str(place / "curl" / "f#1")]
    subprocess.run(["curl", "-sS", "--no-progress-meter", "--fail", which, *more], check=True)


def stored(place: Path) -> None:
    """What curl leaves to be done."""
    subprocess.run("sha256sum f* >/dev/null && sync -f .", shell=True, cwd=place / "curl", check=True)


# --- publish and rollback


def publishes(counts: list[int]) -> str:
    """Releases of so many files, from a folder."""
    rows = []
    for count in counts:
        with rooms() as place:
            many(place, count)
            cells = [f"{1000 * it[0]:.0f} ({1000 * it[1]:.0f})" if it else "-" for it in measured(place, count)]
            rows.append(f"| {count:,} | {' | '.join(cells)} |")
            print(rows[-1], flush=True)
    return "\n".join(
        (
            "**Publish and rollback**, ms for the whole command (and of processor time, of all its processes), the",
            "interpreter's start and everything on disk included. The source is a folder of files of 80 to 280 bytes,",
            "a hundred in each subfolder, in both roots; between the two publications one file has changed. `rollback`",
            "is the median of 5. What would take many minutes is left out.",
            "",
            "| files | fetch | publish | fetch again | publish again | rollback | boot host set |",
            "|---|---|---|---|---|---|---|",
            *rows,
        )
    )


def measured(place: Path, count: int) -> tuple[tuple[float, float] | None, ...]:
    """Seconds, and those of processors, in the order of the columns."""

    def run(*words: str) -> tuple[float, float]:
        return spent(lambda: command(place, *words))

    taken, first, again, second = run("fetch"), run("publish"), None, None
    one = (place / "state/boot/current").read_text().split()[0]
    if count <= _MANY:
        (place / "files" / "d0" / "f0").write_text("another")
        again, second = run("fetch"), run("publish")
    back = sorted(run("rollback", one) for _ in range(5 if count <= _MANY else 1))
    host = run("host", "set", "52:54:00:00:00:01", "--name", "m", "--profile", "one")
    return taken, first, again, second, back[len(back) // 2], host


def many(place: Path, count: int) -> None:
    for number in range(count):
        folder = place / "files" / f"d{number // 100}"
        if not number % 100:
            folder.mkdir()
        (folder / f"f{number % 100}").write_text(f"{number} " * 40)
    (place / "boot.yaml").write_text(
        f"sources: {{all: {{dir: {place}/files, unverified: true}}}}\n"
        "tree: [{from: all, take: /, to: /, in: both}]\n"
        "loaders: {bios: {file: d0/f1, kind: ipxe}, ipxe: {file: boot.ipxe, kind: ipxe}}\n"
        "profiles: {one: {kernel: d0/f2}}\n"
    )


def timed(work: Callable[[], None]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def spent(work: Callable[[], None]) -> tuple[float, float]:
    """Seconds, and seconds of processor of the processes that it started and waited for, with theirs."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    wall = timed(work)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def command(place: Path, *words: str) -> None:
    whole = [str(Path(sys.executable).with_name("appliance")), "boot", *words, "-c", str(place / "a.yaml")]
    done = subprocess.run(whole, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}: {done.stdout[-1000:]}{done.stderr[-2000:]}")


if __name__ == "__main__":
    main()
