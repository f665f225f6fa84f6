"""What telling events costs: the same load with `observe.events` on and off, interleaved, in processor time.

`python -m bench.events`: two appliances side by side, rounds in turn. Processor time of the serving workers and of the
events service is read from /proc, so that what else the machine does matters little; the time of a round is told too.
"""

from __future__ import annotations

import argparse
import ftplib
import os
import socket
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from appliance.observe import tables
from bench.results import machine, write_section
from tests.system.running import Appliance

_SLICES = 6  # of a round: on and off take turns in each, so that an hour's weather meets both
_HEAD = "| load | on: worker CPU us per transfer | off | on/off (median of the rounds) | events service | time on/off |"


def cpu(pids: set[int]) -> float:
    """Seconds of processor time that these processes have used."""
    used = 0
    for pid in pids:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            used += int((thread / "schedstat").read_text().split()[0])  # ns; stat counts in steps of 10 ms
    return used / 1e9


def tftp(running: Appliance, name: bytes, count: int, options: bytes = b"") -> None:
    """Fetch a file so many times, from one socket each."""
    address = running.address("tftp")
    for _ in range(count):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(10)
            sock.sendto(b"\0\1" + name + b"\0octet\0" + options, address)
            window, block = (16, 1428) if options else (1, 512)
            expected = 1
            while True:
                packet, peer = sock.recvfrom(2048)
                if packet[:2] == b"\0\6":
                    sock.sendto(b"\0\4\0\0", peer)
                    continue
                last = len(packet) < block + 4
                if (expected % window == 0) or last:
                    sock.sendto(b"\0\4" + packet[2:4], peer)
                expected += 1
                if last:
                    break


def ftp(running: Appliance, name: str, count: int) -> None:
    """Fetch a file so many times in one session."""
    client = ftplib.FTP(timeout=30)
    client.connect(*running.address("ftp"))
    client.login()
    for _ in range(count):
        client.retrbinary(f"RETR {name}", lambda _piece: None, 1 << 20)
    client.quit()


LOADS: dict[str, tuple[str, int, Callable[[Appliance, int], None]]] = {
    "TFTP, 1 KiB": ("tftp", 1500, lambda running, count: tftp(running, b"small", count)),
    "TFTP, 8 MiB, window 16": (
        "tftp", 12,
        lambda running, count: tftp(running, b"big.bin", count, b"blksize\0001428\0windowsize\00016\0"),
    ),
    "FTP, 1 KiB": ("ftp", 1500, lambda running, count: ftp(running, "small", count)),
    "FTP, 8 MiB": ("ftp", 60, lambda running, count: ftp(running, "big.bin", count)),
}  # fmt: skip


def counting(times: int = 200_000) -> float:
    """Microseconds that the counters of one FTP transfer take, the protocol with more of them: median of nine."""
    descriptor = tables.create("bench")
    try:
        counters = tables.Counters(descriptor)
    finally:
        os.close(descriptor)
    found = []
    for _ in range(9):
        began = time.process_time()
        for number in range(times):
            counters.add("under_way")
            counters.set("active", number & 7)
            counters.add("under_way", -1)
            counters.add("transfers")
            counters.add("bytes", 1024)
            counters.took(number & 255)
            counters.set("active", number & 7)
        found.append((time.process_time() - began) / times * 1e6)
    return statistics.median(found)


def main() -> None:
    """Measure and print a table; with --write keep it in RESULTS.md."""
    parser = argparse.ArgumentParser(prog="python -m bench.events", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="loads whose name holds this")
    parser.add_argument("--remark", default="", help="a sentence for the section, about the machine")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    lines = [_HEAD, "|---|---|---|---|---|---|"]
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as place:
        os.chmod(place, 0o755)
        both = [_started(Path(place), switch) for switch in ("true", "false")]
        try:
            for what, (service, count, load) in LOADS.items():
                if arguments.only in what:
                    lines.append(_row(what, service, count, load, both, arguments.rounds))
                    print(lines[-1], flush=True)
        finally:
            for running in both:
                running.stop()
    took = counting()
    lines += ["", f"The counters of a transfer take {took:.2f} us (bar: 2), those of a packet nothing: there are none."]
    how = (
        f"`python -m bench.events --rounds {arguments.rounds}` on {machine()}. Two appliances of one worker, the same "
    )
    how += "load in turns, `observe.events` on and off; processor time of the workers, medians. Bar: below 1.02. "
    how += arguments.remark
    text = "\n".join([how, "", *lines])
    print(text)
    if arguments.write:
        write_section("Events", text)


def _started(place: Path, switch: str) -> Appliance:
    home = place / switch
    home.mkdir()
    running = Appliance(home, workers=1)
    (running.tree / "small").write_bytes(b"x" * 1024)
    running.write(running.config.read_text().replace("log: text", f"log: text, events: {switch}"))
    return running.start()


def _row(
    what: str, service: str, count: int, load: Callable[[Appliance, int], None], both: list[Appliance], rounds: int
) -> str:
    used: list[list[float]] = [[], []]
    took: list[list[float]] = [[], []]
    told = []
    each = count // _SLICES
    workers, recorder = [running.pids(service) for running in both], both[0].pids("events")
    for number in range(rounds + 1):
        spent, seconds, events = [0.0, 0.0], [0.0, 0.0], cpu(recorder)
        for turn in range(_SLICES):
            for which in (0, 1) if (number + turn) % 2 else (1, 0):
                before, start = cpu(workers[which]), time.monotonic()
                load(both[which], each)
                spent[which] += cpu(workers[which]) - before
                seconds[which] += time.monotonic() - start
        if number:  # the first round warms up
            for which in (0, 1):
                used[which].append(spent[which] / (each * _SLICES) * 1e6)
                took[which].append(seconds[which])
            told.append((cpu(recorder) - events) / (each * _SLICES) * 1e6)
    on, off = (statistics.median(one) for one in used)
    ratio = statistics.median(one / other for one, other in zip(*used, strict=True))
    time_ratio = statistics.median(one / other for one, other in zip(*took, strict=True))
    return f"| {what} | {on:.0f} | {off:.0f} | {ratio:.3f} | {statistics.median(told):.0f} us | {time_ratio:.3f} |"


if __name__ == "__main__":
    main()
