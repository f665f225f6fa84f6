"""What is measured, as data: the workloads, their files, and the bars ours has to reach against the best C server."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

MIB = 1 << 20
UPLOADS = "up"  # the folder that is written to
STORM = {"name": "f4m-%d", "clients": 64, "sources": 64, "blksize": 1428, "windowsize": 4}


@dataclass(frozen=True, slots=True)
class Files:
    """`count` files of `size` bytes, named after `pattern` (printf, with the number)."""

    pattern: str
    size: int
    count: int


@dataclass(frozen=True, slots=True)
class Bar:
    """What ours has to reach, as a ratio to the best C server (or to `against`): at least `speed`, at most `cpu`."""

    speed: float = 0.0
    cpu: float = 0.0
    first: float = 0.0  # first packet, p50, at most
    pss_mib: float = 0.0
    timeouts: bool = False  # none, and nobody refused or failed
    against: str = ""


@dataclass(frozen=True, slots=True)
class Workload:
    """One row of work: `load` are options of the generator, `beside` those of a second one that runs meanwhile.

    `before`: options of a run on the same server that is not measured. `path`: arguments of `tc qdisc add dev lo root`.
    """

    key: str
    title: str
    load: dict[str, object]
    unit: str = "MB/s"  # or req/s, or first (the latency of the first packet)
    pins: tuple[str, ...] = ("none",)
    beside: dict[str, object] = field(default_factory=dict)
    before: dict[str, object] = field(default_factory=dict)
    path: str = ""
    memory: bool = False
    servers: tuple[str, ...] = ()  # all, if none is named
    transfers_max: int = 4096
    keeps: tuple[str, float] = ("", 0.0)  # at least this share of the speed of that workload
    bars: Mapping[str, tuple[Bar, ...]] = field(default_factory=dict)  # by pin


FILES = (
    Files("ready", 0, 1),
    Files("f64m-%d", 64 * MIB, 4),
    Files("f256m-%d", 256 * MIB, 2),
    Files("f16m-%d", 16 * MIB, 1),
    Files("f4m-%d", 4 * MIB, 16),
    Files("f1m-%d", MIB, 1),
    Files("f1k-%d", 1024, 2000),
    # a boot: first stage, its modules, menus and fonts, kernel, initrd
    *(
        Files(f"boot-{number}", kib << 10, 1)
        for number, kib in enumerate((40, 120, 30, 4, 2, 160, 24, 300, 4096, 8192))
    ),
)
_SINGLE = ("same", "split")
_LOCKSTEP = {"same": (Bar(speed=0.9),), "split": (Bar(speed=1.0),)}
_GOOD = {"name": "f64m-%d", "files": 1, "transfers": 12, "blksize": 1428, "windowsize": 16}
_FLOOD = {
    "mode": "flood",
    "base": "198.18.0.1",  # no network of ours: the budget for strangers counts
    "sources": 10000,
    "transfers": 10000,
    "rate": 5000,
    "limit": 30,
    "name": "f1m-%d",
    "blksize": 1428,
}


def _one(name: str, files: int, block_size: int, window: int) -> dict[str, object]:
    # Cut after 3 s, what arrived until then counts: who ignores the options would take half a minute.
    load: dict[str, object] = {"name": name, "files": files, "transfers": files, "limit": 3}
    return load | ({"blksize": block_size} if block_size else {}) | ({"windowsize": window} if window else {})


def _upload(name: str, files: int, window: int) -> dict[str, object]:
    many = {"files": files, "transfers": files, "clients": files, "sources": files, "blksize": 1428, "limit": 10}
    return {"mode": "write", "prefix": f"{UPLOADS}/", "name": name, **many} | ({"windowsize": window} if window else {})


def _many(name: str, clients: int, window: int) -> dict[str, object]:
    many = {"clients": clients, "transfers": clients, "sources": clients}
    return {"name": name, **many, "blksize": 1428, "windowsize": window}


WORKLOADS = (
    Workload("1", "one client, 64 MiB, 1428, window 1", _one("f64m-%d", 1, 1428, 0), pins=_SINGLE, bars=_LOCKSTEP),
    Workload(
        "2",
        "one client, 64 MiB, 1428, window 16",
        _one("f64m-%d", 4, 1428, 16),
        pins=_SINGLE,
        bars={"same": (Bar(speed=3.0, cpu=0.35),)},
    ),
    Workload(
        "3",
        "one client, 64 MiB, 1428, window 64",
        _one("f64m-%d", 4, 1428, 64),
        pins=_SINGLE,
        bars={"same": (Bar(speed=4.0, cpu=0.35),)},
    ),
    Workload("4", "one client, 16 MiB, 512, no options", _one("f16m-%d", 1, 0, 0), pins=_SINGLE, bars=_LOCKSTEP),
    Workload("5", "one client, 256 MiB, 65464, window 1", _one("f256m-%d", 2, 65464, 0), pins=_SINGLE, bars=_LOCKSTEP),
    Workload("6", "64 clients x 4 MiB, 1428, window 1", _many("f4m-%d", 64, 0), memory=True),
    Workload(
        "7",
        "64 clients x 4 MiB, 1428, window 16",
        _many("f4m-%d", 64, 16),
        memory=True,
        bars={"none": (Bar(speed=2.0),)},
    ),
    Workload(
        "8",
        "storm: 500 clients x 1 MiB, 1428, window 4",
        _many("f1m-%d", 500, 4),
        memory=True,
        bars={"none": (Bar(speed=1.5, timeouts=True, pss_mib=64),)},
    ),
    Workload(
        "9",
        "2000 x 1 KiB, 32 at a time",
        {"name": "f1k-%d", "files": 2000, "transfers": 8000, "clients": 32, "sources": 32},
        unit="req/s",
        bars={"none": (Bar(speed=2.0, against="atftpd"), Bar(speed=0.7, against="dnsmasq"))},
    ),
    Workload(
        "10a",
        "first packet, idle",
        {"name": "f1k-%d", "files": 2000, "transfers": 300, "gap": 2},
        unit="first",
    ),
    Workload(
        "10b",
        "first packet while 64 clients load",
        {"name": "f1k-%d", "files": 2000, "transfers": 300, "gap": 2},
        unit="first",
        beside={**STORM, "transfers": 100000, "limit": 60, "base": "127.0.9.1"},
        bars={"none": (Bar(first=1.0, against="tftpd-hpa"),)},
    ),
    Workload(
        "11",
        "one client, window 16, while the flood of 11f meets a closed port",
        _GOOD,
        servers=("ours",),
        beside={**_FLOOD, "port": 9},
    ),
    Workload(
        "11f",
        "one client, window 16, during 10,000 half-open requests from strangers, 5,000/s",
        _GOOD,
        servers=("ours",),
        beside=_FLOOD,
        memory=True,
        keeps=("11", 0.8),
    ),
    Workload("12", "one client, window 16, nothing else", _GOOD, servers=("ours",), transfers_max=8192),
    Workload(
        "12i",
        "one client, window 16, beside 5,000 idle half-finished transfers",
        _GOOD,
        servers=("ours",),
        beside={"mode": "park", "name": "f1m-%d", "clients": 5000, "transfers": 5000, "sources": 5000, "limit": 60},
        memory=True,
        transfers_max=8192,
        keeps=("12", 0.9),
    ),
)
# Into memory: ours has stored a file durably (fsync) before it acknowledges the last block, the others leave that to
# the kernel, and the disk of a shared machine would be all that the table shows.
_WRITERS = ("ours", "tftpd-hpa", "atftpd")
WORKLOADS += (
    Workload("p1", "upload 64 MiB, 1428, window 1", _upload("f64m-%d", 1, 0), pins=("same",), servers=_WRITERS),
    Workload(
        "p2",
        "upload 64 MiB, 1428, window 16",
        _upload("f64m-%d", 1, 16),
        pins=("same",),
        servers=_WRITERS,
        bars={"same": (Bar(speed=1.1, against="atftpd"),)},
    ),
    Workload(
        "p3",
        "upload, 16 clients x 4 MiB, 1428, window 16",
        _upload("f4m-%d", 16, 16),
        pins=("same",),
        servers=_WRITERS,
        bars={"same": (Bar(speed=1.1, against="atftpd"),)},
    ),
)
_BESIDE_ATFTPD = ("ours", "atftpd")
_NOT_SLOWER = {"none": (Bar(speed=1.0, against="atftpd"),)}
_NARROW = "tbf rate 100mbit burst 3000 limit 24000"
_BOOT = "a boot, ten files of 2 KiB to 8 MiB"


def _ten(window: int, loss: int) -> dict[str, object]:
    ten = {"name": "f1m-%d", "transfers": 10, "blksize": 1428, "windowsize": window}
    return {**ten, "loss": loss, "limit": 10}


def _boot(window: int, loss: int, times: int = 1) -> dict[str, object]:
    boot = {"name": "boot-%d", "files": 10, "transfers": 10 * times, "blksize": 1428, "windowsize": window}
    return {**boot, "loss": loss, "limit": 20}


# What loss costs. Not part of the default run: it is slow by nature, a client waits a second each time.
LOSSES = (
    *(
        Workload(
            f"loss-{percent}-{window}",
            f"ten files of 1 MiB one after the other, {percent} % loss both ways, window {window}",
            _ten(window, percent),
            servers=_BESIDE_ATFTPD,
            bars=_NOT_SLOWER if percent or window > 1 else {},  # lock-step without loss is workload 1
        )
        for percent in (0, 1, 5)
        for window in (1, 4, 16, 64)
    ),
    *(
        Workload(
            f"loss-q-{window}",
            f"ten files of 1 MiB one after the other, 100 Mbit/s with room for 16 packets, window {window}",
            _ten(window, 0),
            path=_NARROW,
            servers=_BESIDE_ATFTPD,
            bars=_NOT_SLOWER if window > 16 else {},  # with the others the path decides, not the server
        )
        for window in (4, 16, 64)
    ),
    *(
        Workload(
            f"loss-boot-{window}",
            f"{_BOOT}, 5 % loss both ways, window {window}",
            _boot(window, 5),
            servers=_BESIDE_ATFTPD,
            bars=_NOT_SLOWER,
        )
        for window in (4, 16, 64)
    ),
    Workload(
        "loss-boot-q",
        f"{_BOOT}, 100 Mbit/s with room for 16 packets, window 64",
        _boot(64, 0),
        path=_NARROW,
        servers=_BESIDE_ATFTPD,
        bars=_NOT_SLOWER,
    ),
    Workload(
        "loss-boot-q-again",
        "the same, fifth boot of this client",
        _boot(64, 0),
        before=_boot(64, 0, times=4),
        path=_NARROW,
        servers=("ours",),
        keeps=("loss-boot-q", 1.0),
    ),
)


def make_files(root: Path) -> None:
    """Random content, old enough that no cache hesitates to keep it."""
    root.mkdir(mode=0o755, exist_ok=True)
    (root / UPLOADS).mkdir(exist_ok=True)
    yesterday = time.time() - 86400
    for files in FILES:
        for number in range(files.count):
            path = root / (files.pattern % number if "%" in files.pattern else files.pattern)
            path.write_bytes(os.urandom(files.size))
            path.chmod(0o644)
            os.utime(path, (yesterday, yesterday))
