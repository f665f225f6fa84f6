"""`python -m bench.boot [--files 1000,10000,100000] [--rounds N] [--write]`: fetch beside curl, publish, rollback."""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

from appliance.boot import orders, records, talk
from appliance.boot.house import Accounts, House
from appliance.boot.model import Source
from appliance.boot.publish import Keep
from appliance.boot.records import File, Given
from bench import results

MIB = 1 << 20


class Quiet:
    """Nobody is told."""

    def begun(self, *_: object) -> None: ...

    def moved(self, *_: object) -> None: ...

    def again(self, name: str, why: str) -> None:
        print(f"{name}: {why}", file=sys.stderr)

    def ended(self, outcome: object) -> None:
        assert outcome.state == "fetched", outcome  # type: ignore[attr-defined]


def house(place: Path) -> House:
    place.chmod(0o755)
    for root in ("tftp", "ftp"):
        (place / root).mkdir()
    me = (os.geteuid(), os.getegid())
    accounts = Accounts((64621, 64621), (64622, 64622), (64623, 64623)) if me[0] == 0 else Accounts(me, me, me)
    roots = {root: str(place / root) for root in ("tftp", "ftp")}
    return House(str(place / "state"), roots, accounts, str(place / "empty"), required=True)


@contextmanager
def mirror(folder: Path):
    command = [sys.executable, "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", folder]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={"PYTHONUNBUFFERED": "1"}
    ) as it:
        try:
            yield int(it.stdout.readline().split(b" port ")[1].split()[0])
        finally:
            it.kill()


def fetch_beside_curl(rounds: int, sizes: list[int]) -> str:
    """The same files from the same server: seconds from the start of the program to everything on disk."""
    from appliance.boot.fetching import Fetching
    from appliance.settings.fetch import FetchSettings

    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as top:
        www = Path(top, "www")
        www.mkdir()
        digests = []
        for number, size in enumerate(sizes):
            block = os.urandom(MIB)
            state = hashlib.sha256()
            with open(www / f"f{number}", "wb") as file:
                for _ in range(size):
                    file.write(block)
                    state.update(block)
            digests.append(state.hexdigest())
        ours, curl, down = [], [], []
        with mirror(www) as port:
            for count in range(rounds):
                urls = [f"http://127.0.0.1:{port}/f{n}" for n in range(len(sizes))]
                place = Path(top, f"r{count}")
                place.mkdir()
                rooms = house(place)
                sources = [Source(f"f{n}", "http", url, sha256=digests[n]) for n, url in enumerate(urls)]
                begun = time.monotonic()
                with rooms.publisher() as publisher:
                    Fetching(rooms, publisher, FetchSettings(), Quiet(), {}).run(sources, 1)
                ours.append(time.monotonic() - begun)
                shutil.rmtree(place)
                place.mkdir()
                begun = time.monotonic()
                command = ["curl", "-s", "--parallel", "--parallel-max", "4", "--remote-name-all", *urls]
                subprocess.run(command, cwd=place, check=True)
                down.append(time.monotonic() - begun)
                subprocess.run(["sh", "-c", "sha256sum f* > sums && sync -f ."], cwd=place, check=True)
                curl.append(time.monotonic() - begun)
                shutil.rmtree(place)
    total = sum(sizes)
    rows = [
        ("boot fetch: downloaded, hashed, in the store, on disk", ours),
        ("curl, then sha256sum and sync", curl),
        ("curl alone: neither hashed nor on disk", down),
    ]
    files = f"{len(sizes)} x {sizes[0]} MiB" if len(sizes) > 1 else f"{sizes[0]} MiB"
    lines = [
        f"**Fetch of {files} over loopback, four at once**\n",
        "| program | s median (min..max) | MB/s |",
        "|---|---|---|",
    ]
    for name, found in rows:
        middle = statistics.median(found)
        speed = total * MIB / 1e6 / middle
        lines.append(f"| {name} | {middle:.2f} ({min(found):.2f}..{max(found):.2f}) | {speed:.0f} |")
    return "\n".join(lines) + "\n"


def published(count: int, rounds: int) -> str:
    """One row: releases of so many files, each with a tenth of them new; then back and forth."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as top:
        rooms = house(Path(top))
        spans: dict[str, list[float]] = {"first": [], "tenth": [], "back": []}
        with rooms.publisher() as publisher:
            contents = [b"%d" % n * 10 for n in range(count)]
            files = taken(publisher, contents)
            overlay = [Given("tftp", f"pxelinux.cfg/01-{n:012x}", b"default x\n") for n in range(100)]
            spans["first"].append(timed(publisher, files, overlay, 1))
            for turn in range(rounds):
                new = taken(publisher, [b"%d %d" % (turn, n) for n in range(count // 10)])
                files = [*new, *files[len(new) :]]
                spans["tenth"].append(timed(publisher, files, overlay, turn + 2))
            ids = rooms.releases()
            for name in (ids[0], ids[-1]) * rounds:
                begun = time.monotonic()
                orders.rollback(publisher, name, overlay, 10**9)
                spans["back"].append(time.monotonic() - begun)
    cells = [f"{statistics.median(found) * 1000:.0f}" for found in spans.values()]
    return f"| {count:,} | " + " | ".join(cells) + " |"


def taken(publisher, contents: list[bytes]) -> list[File]:
    found = []
    for start in range(0, len(contents), 50):
        batch = contents[start : start + 50]
        with orders.documents(*batch) as fds:
            told = publisher.ask({"verb": "take", "most": MIB, "expected": [None] * len(fds)}, fds)["files"]
        found += [
            File(f"d{(start + n) % 100}/f{start + n}", size, digest, "bench", "sha256", ("tftp", "ftp"))
            for n, (digest, size) in enumerate(told)
        ]
    publisher.ask({"verb": "settle"})
    return found


def timed(publisher, files: list[File], overlay: list[Given], created: int) -> float:
    release = records.make(created, "", files, None)
    begun = time.monotonic()
    orders.publish(publisher, release, overlay, Keep(1000, 1, 600.0))
    return time.monotonic() - begun


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.boot")
    parser.add_argument("--files", default="1000,10000,100000")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    assert talk.MOST_FDS >= 50
    parts = [
        f"`python -m bench.boot --rounds {options.rounds}` on {results.machine()}. All on one file system (ext4).\n",
        fetch_beside_curl(options.rounds, [512]),
        fetch_beside_curl(options.rounds, [16] * 32),
        "**Publish and rollback by the publisher, ms (median), 100 machines in the overlay, two roots**\n\n"
        "| files | first publish | a tenth of them new | rollback |\n|---|---|---|---|\n"
        + "\n".join(published(int(count), options.rounds) for count in options.files.split(",")),
    ]
    body = "\n".join(parts)
    print(body)
    if options.write:
        results.write_section("Boot files", body)


if __name__ == "__main__":
    main()
