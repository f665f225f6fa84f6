"""What telling events costs: the same load on the same worker with events on and off, in turns, in processor time.

`python -m bench.events`. Processor time of the serving worker and of the events service is read from /proc, so that
what else the machine does matters little; the time that the load took is told too. `bench.switch` says why one worker
and not two, and `--control` shows what this measure is worth: with both sides on, every ratio should be 1.000.
"""

from __future__ import annotations

import argparse
import ftplib
import functools
import os
import socket
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from signal import Signals
from typing import NamedTuple, TypeAlias

from appliance.observe import tables
from bench import switch
from bench.results import machine, write_section
from tests.system import running
from tests.system.running import Appliance

_Spent: TypeAlias = tuple[float, float, float]  # seconds: of the worker, of the events service, by the clock
_SLICES = 6  # of a round, of each side: what is compared is neighbours, so that an hour's weather meets both
_SETTLED_S = 0.06  # what is held is sent, and recorded, in the slice in which it happened
_HEAD = "| load | on: worker CPU us per transfer | off | on/off (of each start) | events service | time on/off |"


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
    "FTP, 8 MiB": ("ftp", 120, lambda running, count: ftp(running, "big.bin", count)),
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
    parser.add_argument("--starts", type=int, default=3, help="of the appliance, each with so many rounds")
    parser.add_argument("--control", action="store_true", help="on and on: what the measure itself is worth")
    parser.add_argument("--only", default="", help="loads whose name begins so")
    parser.add_argument("--remark", default="", help="a sentence for the section, about the machine")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    lines = [_HEAD, "|---|---|---|---|---|---|"]
    sides = (switch.ON, switch.ON if arguments.control else switch.OFF)
    running.PROGRAM = switch.program(running.PROGRAM[-1].split(":"))
    for what, (service, count, load) in LOADS.items():
        if what.startswith(arguments.only):
            measured = [_measure(service, count, load, sides, arguments.rounds) for _ in range(arguments.starts)]
            lines.append(_row(what, measured))
            print(lines[-1], flush=True)
    took = counting()
    lines += ["", f"The counters of a transfer take {took:.2f} us (bar: 2), those of a packet nothing: there are none."]
    flags = " --control" if arguments.control else ""
    how = f"`python -m bench.events --rounds {arguments.rounds} --starts {arguments.starts}{flags}` on {machine()}. "
    how += "The same load on the same worker with events on and off in turns; processor time of the worker, medians "
    how += f"over all pairs of slices of {arguments.starts} starts. Bar: below 1.02. {arguments.remark}"
    text = "\n".join([how, "", *lines])
    print(text)
    if arguments.write:
        write_section("Events", text)


class _Pair(NamedTuple):
    """Two slices, on and off, one after the other: microseconds of the worker and of the recorder each, and seconds."""

    cpu: tuple[float, float]
    seconds: tuple[float, float]
    recorder: float


def _measure(
    service: str, count: int, load: Callable[[Appliance, int], None], sides: tuple[Signals, Signals], rounds: int
) -> list[_Pair]:
    """The rounds of one start of the appliance; the one before them warms up."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as place:
        os.chmod(place, 0o755)
        home = Path(place) / "home"
        home.mkdir()
        started = Appliance(home, workers=1)
        (started.tree / "small").write_bytes(b"x" * 1024)
        started.start()
        processors = os.sched_getaffinity(0)
        try:
            (worker,), (recorder,) = started.pids(service), started.pids("events")
            _pin(recorder, {min(processors)})
            for pid in (worker, os.getpid()):
                _pin(pid, {max(processors)})
            slice_ = functools.partial(_slice, worker, recorder, lambda: load(started, count // _SLICES))
            return [one for number in range(rounds + 1) for one in _round(slice_, sides, number, count) if number]
        finally:
            os.sched_setaffinity(0, processors)
            started.stop()


def _pin(pid: int, processors: set[int]) -> None:
    """Where nobody has to be waked on another processor, the same work takes the same time again."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), processors)


def _round(slice_: Callable[[Signals], _Spent], sides: tuple[Signals, Signals], number: int, count: int) -> list[_Pair]:
    per = 1e6 / (count // _SLICES)
    pairs = []
    for turn in range(_SLICES):
        first = (number + turn) % 2
        spent = {which: slice_(sides[which]) for which in (first, 1 - first)}
        on, off = spent[0], spent[1]
        pairs.append(_Pair((on[0] * per, off[0] * per), (on[2], off[2]), on[1] * per))
    return pairs


def _slice(worker: int, recorder: int, load: Callable[[], None], side: Signals) -> _Spent:
    switch.switch(worker, side)
    before, told, start = cpu({worker}), cpu({recorder}), time.monotonic()
    load()
    took = time.monotonic() - start
    time.sleep(_SETTLED_S)
    return cpu({worker}) - before, cpu({recorder}) - told, took


def _row(what: str, measured: list[list[_Pair]]) -> str:
    pairs = [one for start in measured for one in start]
    on, off = (statistics.median(one.cpu[which] for one in pairs) for which in (0, 1))
    ratios = [statistics.median(one.cpu[0] / one.cpu[1] for one in start) for start in measured]
    ratio = statistics.median(one.cpu[0] / one.cpu[1] for one in pairs)
    times = statistics.median(one.seconds[0] / one.seconds[1] for one in pairs)
    told = statistics.median(one.recorder for one in pairs)
    spread = f"{min(ratios):.3f} to {max(ratios):.3f}"
    return f"| {what} | {on:.0f} | {off:.0f} | {ratio:.3f} ({spread}) | {told:.0f} us | {times:.3f} |"


if __name__ == "__main__":
    main()
