"""Seeded FTP clients that say anything in any order, hang up and abort at every step, at a real worker and custodian.

What has to hold: no exception in the worker or the custodian, replies in their form (RFC 959 section 4.2), nothing of
the tree changed, and after it descriptors, memory and processor time of both are what they were.
"""

from __future__ import annotations

import os
import random
import re
import socket
import struct
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from appliance.ftp.policy import SYNONYMS, VERBS
from tests.ftp.serving import Process, Server, store, until
from tests.fuzz.pure import FoundError

WORDS = [*VERBS, *SYNONYMS, "XYZZY", ""]
ARGUMENTS = [
    "", "a.txt", "big", "pub", "pub/*", "incoming", "incoming/x", "incoming/.x", "..", "/", "-la", "*", "I", "A", "5",
    "x" * 300, "y" * 5000, "\x00", "\xe9", "|1|127.0.0.1|5000|", "127,0,0,1,19,136", "anonymous", "ftp", "root",
    "UTF8 ON", "MLST size;", "HASH MD5", "a.txt.sha256", "1 2 3", "TLS", "P", "ALL", "99999999999999999999",
]  # fmt: skip
SCRIPTS = [  # what a client means to do; `play` cuts it, turns it, and puts other things between
    ["EPSV", "+", "TYPE I", "RETR big", "<", "~", "QUIT"],
    ["PASV", "REST 100", "TYPE I", "RETR big", "+", "<", "ABOR", "~"],
    ["EPSV", "+", "LIST", "<", "~", "MLSD pub", "STAT pub"],
    ["TYPE I", "EPSV", "+", "STOR incoming/%d", ">", ">", "-", "~", "REST 10", "EPSV", "+", "STOR incoming/%d", ">"],
    ["EPSV", "+", "TYPE A", "STOR incoming/%d", ">", "!", "REST 5", "STOR incoming/%d", "SIZE incoming/%d"],
    ["PORT", "NLST", "~", "EPRT", "RETR a.txt", "~", "ABOR"],
    ["HASH big", "ABOR", "XSHA256 big", "XCRC big 0 100", "SIZE big.sha256"],
    ["CWD pub", "PWD", "CDUP", "MLST", "FEAT", "HELP", "SYST", "OPTS UTF8 ON", "NOOP", "REIN", "USER ftp", "PASS x"],
    ["HOST a.example", "USER nobody", "PASS x", "USER ftp", "PASS"],
    ["GET / HTTP/1.1"],
    ["AUTH TLS", "~", "garbage"],
    ["AUTH TLS", "garbage", "~", "USER ftp"],
    ["AUTH TLS", "~", "half", "PBSZ 0", "PROT P"],
]
_URGENT = b"\xff\xf4\xff"  # IAC IP IAC; the DM that ends the sequence goes as urgent data (RFC 959 section 4.1.3)
_RESET = struct.pack("ii", 1, 0)
_FORM = re.compile(rb"[1-5]\d\d[ -]|[ \t]|[A-Za-z-]")
_LOOK_EVERY = 2000
_GROWTH = 3 << 20
_WARM = 10_000  # sessions until judgements, listings and checksums are remembered as many as ever will be
_WARMING = 8 << 20  # what may be added while they still fill


def tree(root: Path) -> Path:
    """Make what is served."""
    (root / "pub").mkdir(parents=True)
    (root / "a.txt").write_bytes(b"one\ntwo\r\nthree\n")
    (root / "big").write_bytes(random.Random(0).randbytes(3_000_001))
    for number in range(300):
        (root / "pub" / f"{number}.deb").touch()
    return root


class Player:
    """One session; everything it does comes from `chance`."""

    def __init__(self, running: Server, number: int, chance: random.Random) -> None:
        self._chance, self._number = chance, number
        self._to = (running.host, running.port)
        self._from = f"127.{1 + number % 200}.{number // 200 % 250}.1"  # ports of a single address would run out
        self._data: socket.socket | None = None
        self._listener: socket.socket | None = None
        self._heard = b""

    def play(self) -> None:
        """From the first byte to the last."""
        with socket.socket() as control:
            self._control = control
            try:
                control.bind((self._from, 0))
                control.settimeout(5)
                control.connect(self._to)
                self._session()
                if self._chance.random() < 0.4:
                    control.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            except OSError:
                pass  # refused, dropped: what counts is how the server is afterwards
            finally:
                self._hang_up()
                if self._listener is not None:
                    self._listener.close()

    def _session(self) -> None:
        chance = self._chance
        script = list(chance.choice(SCRIPTS))
        if chance.random() < 0.9:
            script[:0] = ["USER ftp", "PASS x"]
        for _ in range(chance.randrange(4)):
            script.insert(chance.randrange(len(script) + 1), f"{chance.choice(WORDS)} {chance.choice(ARGUMENTS)}")
        if chance.random() < 0.5:
            script.insert(
                chance.randrange(len(script) + 1), chance.choice(["ABOR", "urgent", "!", "-", "garbage", "half"])
            )
        for step in script[: chance.randrange(1, len(script) + 2)]:
            self._step(step)

    def _step(self, step: str) -> None:
        chance, control = self._chance, self._control
        if step == "~":
            self._hear()
        elif step in "+<>-!":
            self._on_data(step)
        elif step == "urgent":
            control.sendall(_URGENT)
            control.send(b"\xf2", socket.MSG_OOB)
            control.sendall(b"ABOR\r\n")
        elif step == "garbage":
            control.sendall(chance.randbytes(chance.randrange(400)))
        elif step == "half":
            control.sendall(b"RETR a")
        elif step in ("PORT", "EPRT"):
            self._listen(step)
        else:
            line = (step % self._number if "%d" in step else step).rstrip()
            control.sendall(line.encode("latin-1") + chance.choice([b"\r\n", b"\r\n", b"\n"]))

    def _hear(self, wanted: bytes = b"") -> bytes:
        """What the server says: until `wanted`, or just what comes at once."""
        text = b""
        self._control.settimeout(0.1 if wanted else 0.005)
        try:
            while wanted not in text or not text:
                piece = self._control.recv(4096)
                if not piece:
                    break
                text += piece
        except TimeoutError:
            pass
        self._control.settimeout(5)
        self._heard += text
        return text

    def _on_data(self, step: str) -> None:
        if step == "+":
            text = self._hear(b"|||")
            if b"|||" in text:
                port = int(text.rsplit(b"|||", 1)[1].split(b"|")[0])
                self._hang_up()
                self._data = socket.socket()
                self._data.settimeout(1)
                self._data.bind((self._from, 0))
                self._data.connect((self._to[0], port))
        elif self._data is None and self._listener is not None:
            self._listener.settimeout(0.05)
            self._data = self._listener.accept()[0]
            self._data.settimeout(0.2)
        if self._data is None:
            return
        if step == "<":
            self._data.settimeout(0.05)
            self._data.recv(self._chance.choice([1, 1000, 1 << 20]))
        elif step == ">":
            self._data.sendall(b"x" * self._chance.choice([1, 20, 100_000]))
        elif step == "-":
            self._hang_up()
        elif step == "!":
            self._data.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._hang_up()

    def _listen(self, verb: str) -> None:
        if self._listener is None:
            self._listener = socket.create_server((self._from, 0))
        port = self._listener.getsockname()[1]
        told = f"{self._from.replace('.', ',')},{port >> 8},{port & 255}"
        line = f"PORT {told}" if verb == "PORT" else f"EPRT |1|{self._from}|{port}|"
        self._control.sendall(line.encode() + b"\r\n")

    def _hang_up(self) -> None:
        if self._data is not None:
            self._data.close()
            self._data = None

    def misshapen(self) -> bytes:
        """A line that is no reply, b"" when all were."""
        lines = self._heard.split(b"\r\n")[:-1]
        return next((line for line in lines if line and not _FORM.match(line)), b"")


class Bench:
    """A server with a drop box under fuzz."""

    def __init__(self, running: Server, seed: int) -> None:
        assert running.custodian is not None
        self.running, self._seed = running, seed
        self._both = (running.worker, running.custodian)
        store(running.ftp(), "incoming/first", b"")  # now everything that stays open is open
        running.clients.pop().close()
        self._settle()
        self._descriptors = [descriptors(process.pid) for process in self._both]
        self._files = self._tree()

    def run(self, count: int, told: Callable[[int], None] = lambda _done: None, clients: int = 64) -> str:
        """Play `count` sessions, `clients` at a time; tells what it came to. Raises FoundError."""
        first = max(count // 10, min(2000, count // 2))
        self._play(0, first, clients, told)
        self._settle()
        warm = [memory(process.pid) for process in self._both]
        self._play(first, count, clients, told)
        self._settle()
        now = [memory(process.pid) for process in self._both]
        open_now = [descriptors(process.pid) for process in self._both]
        self._demand(open_now == self._descriptors, f"descriptors {self._descriptors} before, {open_now} after")
        grown = [after - before for before, after in zip(warm, now, strict=True)]
        self._demand(
            max(grown) < (_GROWTH if first >= _WARM else _WARMING),
            f"memory grew by {grown} bytes after the first {first} sessions",
        )
        self._demand(self._tree() == self._files, "the tree has changed")
        busy = idle_share(self.running.worker.pid)
        self._demand(busy < 0.05, f"the idle worker uses {busy:.0%} of a processor")
        sizes = ", ".join(
            f"{before / 2**20:.1f} -> {after / 2**20:.1f} MiB" for before, after in zip(warm, now, strict=True)
        )
        return f"memory of worker and custodian {sizes}; descriptors as before; {busy:.1%} of a processor when idle"

    def _play(self, first: int, end: int, clients: int, told: Callable[[int], None]) -> None:
        for start in range(first, end, _LOOK_EVERY):
            stop = min(start + _LOOK_EVERY, end)
            where = f"sessions {start} to {stop - 1} of seed {self._seed}"
            pids = [self._fork(range(start + half, stop, 2), clients // 2) for half in range(2)]
            results = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
            self._demand(not any(results), f"a reply was no reply: {where}")
            for process in self._both:
                self._demand(process.counters()["crashes"] == 0, f"{where}: an exception", process)
            self._empty()
            told(stop)

    def _empty(self) -> None:
        """As an operator does: a full drop box would take nothing more."""
        for path in self.running.box.iterdir():
            if not path.name.startswith("."):
                path.unlink()

    def _fork(self, numbers: range, clients: int) -> int:
        pid = os.fork()
        if pid:
            return pid
        code = 2
        try:
            with ThreadPoolExecutor(clients) as pool:
                code = int(any(pool.map(self._one, numbers)))
        finally:
            os._exit(code)

    def _one(self, number: int) -> bool:
        player = Player(self.running, number, random.Random(f"{self._seed}.{number}"))
        player.play()
        return bool(player.misshapen())

    def _settle(self) -> None:
        counters = self.running.worker.counters
        until(lambda: counters()["active"] == 0 and counters()["under_way"] == 0)
        until(lambda: not any(name.startswith(".up-") for name in os.listdir(self.running.box)))
        for process in self._both:
            self._demand(process.counters()["crashes"] == 0, "an exception", process)

    def _tree(self) -> set[tuple[str, int]]:
        box, root = self.running.box, self.running.root
        return {(str(path), path.lstat().st_size) for path in root.rglob("*") if path.parent != box}

    def _demand(self, holds: bool, what: str, process: Process | None = None) -> None:
        if not holds:
            log = (process or self.running.worker).log_text()
            crash = next((line for line in log.splitlines() if "traceback" in line), "")
            raise FoundError(what, f"# {what}\n# {crash}\n# again: make fuzz FUZZ='--seed {self._seed}'\n")


def descriptors(pid: int) -> int:
    """Open descriptors of a process."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def memory(pid: int) -> int:
    """Resident bytes of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def idle_share(pid: int, seconds: float = 2.0) -> float:
    """The part of a processor that a process uses while nobody asks anything of it."""

    def ticks() -> int:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    before, began = ticks(), time.monotonic()
    until(lambda: time.monotonic() - began > seconds)
    return (ticks() - before) / os.sysconf("SC_CLK_TCK") / (time.monotonic() - began)
