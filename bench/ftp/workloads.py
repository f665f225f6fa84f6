"""What is measured, as data: the workloads, their files, and the bars ours has to reach against the peers."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

KIB, MIB = 1 << 10, 1 << 20
ENTRIES = 10_000
C_SERVERS = ("vsftpd", "vsftpd-noiso", "proftpd", "pure-ftpd")


@dataclass(frozen=True, slots=True)
class Bar:
    """What ours has to reach, as a ratio to the best of `against`; above 1 is better, also where less is better."""

    value: float = 0.0
    cpu: float = 0.0
    against: tuple[str, ...] = C_SERVERS


@dataclass(frozen=True, slots=True)
class Workload:
    """One row: `load` are options of the generator, `beside` those of a second one that runs meanwhile.

    ``unit`` says what is compared: MB/s, ops/s, "p50 ms", "worst ms", or "KiB/session" of memory.
    """

    key: str
    title: str
    load: dict[str, object]
    unit: str = "ops/s"
    beside: dict[str, object] = field(default_factory=dict)
    servers: tuple[str, ...] = ()  # all, if none is named
    bars: tuple[Bar, ...] = ()
    changing: bool = False  # the folder that is listed changes before each listing
    stores: bool = False
    one_cpu: bool = False  # server and clients on the first processor
    plain: bool = True  # stock pyftpdlib can do it without losing sessions


def _lists(verb: str, **more: object) -> dict[str, object]:
    return {"mode": "list", "verb": verb, "name": "many", "type": "A", "ops": 60, "limit": 8, **more}


_NOOPS = {"mode": "noop", "ops": 2000, "gap": 2, "limit": 4}
_LISTERS = _lists("LIST", clients=2, ops=1_000_000, limit=60)
_MLSD = ("ours", "proftpd", "pure-ftpd", "pyftpdlib")  # vsftpd has no MLSD
_FAST = (Bar(value=20),)
_COLD = (Bar(value=0.7),)
_CALM = (Bar(value=0.5),)  # at most twice the best peer's
WORKLOADS = (
    Workload("1", "one RETR of 1 GiB", {"name": "f1g", "ops": 4, "size": 1024 * MIB}, "MB/s", bars=(Bar(1.0, 1.0),)),
    Workload(
        "1s", "the same, client and server on one processor", {"name": "f1g", "ops": 4, "size": 1024 * MIB}, "MB/s",
        bars=(Bar(1.0, 1.0),), one_cpu=True,
    ),
    Workload(
        "2", "8 at once, 128 MiB each",
        {"name": "f128m-%d", "files": 8, "clients": 8, "ops": 32, "size": 128 * MIB}, "MB/s",
    ),
    Workload(
        "3", "log in and out, 16 at a time", {"mode": "login", "clients": 16, "ops": 6000, "limit": 4},
        bars=(Bar(value=5),),
    ),
    Workload(
        "4", "whole session with one RETR of 4 KiB, 16 at a time",
        {"mode": "session", "name": "f4k-%d", "files": 50, "clients": 16, "ops": 4000, "limit": 4, "size": 4 * KIB},
        bars=(Bar(value=2.5),),
    ),
    Workload(
        "5", "RETR of 4 KiB on 8 open sessions",
        {"name": "f4k-%d", "files": 50, "clients": 8, "ops": 20000, "limit": 3, "size": 4 * KIB},
        bars=(Bar(value=1.0, against=("vsftpd", "vsftpd-noiso")), Bar(value=0.6, against=("pure-ftpd",))),
    ),
    Workload("6a", f"LIST of {ENTRIES} entries", _lists("LIST"), "p50 ms", bars=_FAST),
    Workload("6b", f"MLSD of {ENTRIES} entries", _lists("MLSD"), "p50 ms", servers=_MLSD, bars=_FAST),
    Workload("6c", "LIST, the folder changed before each", _lists("LIST"), "p50 ms", changing=True, bars=_COLD),
    Workload(
        "6d", "MLSD, the folder changed before each", _lists("MLSD"), "p50 ms", servers=_MLSD, changing=True, bars=_COLD
    ),
    Workload("6e", "NOOP of another session while two list", _NOOPS, "worst ms", beside=_LISTERS, bars=_CALM),
    Workload(
        "6f", "the same, the folder changed before each listing", _NOOPS, "worst ms", beside=_LISTERS, changing=True,
        bars=_CALM,
    ),
    Workload(
        "7a", "2,000 idle sessions", {"mode": "park", "clients": 2000}, "KiB/session",
        servers=("ours", "vsftpd-noiso", "pure-ftpd", "pyftpdlib"),
    ),
    Workload(
        "7b", "5,000 idle sessions", {"mode": "park", "clients": 5000}, "KiB/session",
        servers=("ours", "vsftpd-noiso"), bars=(Bar(value=25, against=("vsftpd-noiso",)),),
    ),
    Workload(
        "8", "STOR of 128 MiB", {"verb": "STOR", "name": "up", "ops": 4, "size": 128 * MIB}, "MB/s", stores=True,
        bars=(Bar(value=1.1),),
    ),
    Workload(
        "10a", "RETR of 4 KiB by PORT on 8 open sessions",
        {"name": "f4k-%d", "files": 50, "clients": 8, "ops": 8000, "limit": 3, "size": 4 * KIB, "active": 1},
        bars=(Bar(value=0.6),), plain=False,
    ),
    Workload(
        "10b", "one RETR of 128 MiB by PORT", {"name": "f128m-0", "ops": 8, "size": 128 * MIB, "active": 1}, "MB/s"
    ),
    Workload(
        "11", "RETR of 64 MiB of text, TYPE A (vsftpd sends it as TYPE I)", {"name": "text", "ops": 3, "type": "A"},
        "MB/s", bars=(Bar(value=0.8, against=("proftpd",)),),
    ),
)  # fmt: skip


def make_tree(root: Path) -> None:
    """What is served; old enough that no cache hesitates to keep it."""
    root.mkdir(mode=0o755)
    contents = {"ready": b"ready\n", "f1g": None, **{f"f4k-{i}": os.urandom(4 * KIB) for i in range(50)}}
    for name, content in contents.items():
        if content is not None:
            (root / name).write_bytes(content)
    with (root / "f1g").open("wb") as file:
        for _ in range(1024):
            file.write(os.urandom(MIB))
    for number in range(8):
        (root / f"f128m-{number}").write_bytes(os.urandom(MIB) * 128)
    line = b"a line of ordinary length, as they are in indexes and in mail boxes\n"
    (root / "text").write_bytes(line * (64 * MIB // len(line)))
    (root / "many").mkdir()
    yesterday = time.time() - 86400
    for number in range(ENTRIES):
        path = root / "many" / f"package-{number:05}_1.{number % 97}-1_amd64.deb"
        path.write_bytes(b"")
        os.utime(path, (yesterday - number * 60, yesterday - number * 60))
    os.utime(root / "many", (yesterday, yesterday))
