"""The faults: each does one thing to the appliance, waits until it is overcome, and says which attempts it excuses."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from bench.soak.house import DRAIN_S, House
from bench.soak.judge import GOOD, Excuse

_OVERCOME_S = 60.0
_FULL_S = 4.0
_AFTERMATH_S = 2.0
_LOOKS_S = 1.5  # a custodian whose box was full looks at it once a second
_NOT_TAKEN = "error supervisor reload"
# what a worker says that is to finish: it is told to go between two transfers, never in the middle of one
_GOODBYE = ("421", "the control connection was closed", "control connection: ")
_STOPPING = "refused 0: Server is stopping"


class Faults:
    """`inject(kind)` as the schedule says. `not_overcome` should stay empty."""

    def __init__(self, house: House, burst: Callable[[], None], seed: int, full_s: float = _FULL_S) -> None:
        self.house, self.burst, self.full_s = house, burst, full_s
        self.excuses: list[Excuse] = []
        self.done: list[tuple[float, str, float]] = []  # when, what, seconds until it was overcome
        self.not_overcome: list[str] = []
        self._turns: dict[str, int] = {}

    def inject(self, kind: str) -> None:
        """Do it, and wait until everything serves again. Never raises: what goes wrong is a finding."""
        began = time.monotonic()
        word, _, what = kind.partition(" ")
        try:
            action: Callable[..., None] = getattr(self, f"_{word}")
            action(*([what] if what else []))
            self._until(self.house.whole, kind)
        except (OSError, KeyError, ValueError, IndexError) as error:
            self.not_overcome.append(f"{kind}: {error}")
        self.done.append((began, kind, time.monotonic() - began))

    def _until(self, fact: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + _OVERCOME_S
        while not fact():
            if time.monotonic() > deadline:
                raise OSError(f"not overcome within {_OVERCOME_S:g} s ({what})")
            time.sleep(0.1)

    def _excuse(
        self, fault: str, protocol: str, kinds: tuple[str, ...], t0: float, t1: float, *words: str,
        before: float = float("inf"),
    ) -> None:  # fmt: skip
        self.excuses.append(Excuse(fault, protocol, kinds, t0, t1, words or ("",), before))

    # -- kinds

    def _kill(self, service: str) -> None:
        """SIGKILL for one worker; the last worker of a service with several lives on, to be judged."""
        pids = sorted(self.house.pids(service).items())
        if not pids:
            raise OSError(f"no worker of {service} serves")
        turn = self._turns[service] = self._turns.get(service, -1) + 1
        _index, pid = pids[turn % max(1, len(pids) - 1)]
        at = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        self._until(lambda: _gone(pid), f"the end of {service}")  # on a busy machine it may take a client till then
        dead = time.monotonic()
        self._until(lambda: pid not in self.house.pids(service).values() and self.house.whole(), f"kill {service}")
        if service in ("tftp", "ftp"):
            self._excuse(f"kill {service}", service, GOOD, at, dead)
        elif service in ("custody", "tftp-custody"):
            protocol = "ftp" if service == "custody" else "tftp"
            self._excuse(f"kill {service}", protocol, ("put",), at, time.monotonic() + _AFTERMATH_S)

    def _reload(self, what: str) -> None:
        at, house = time.monotonic(), self.house
        turn = self._turns["reload"] = self._turns.get("reload", 0) + 1
        if what == "refused":
            good = house.config.read_text()
            told = house.log.counts[_NOT_TAKEN]
            house.config.write_text(good.replace("workers:", "workerz:", 1))
            house.server._process.send_signal(signal.SIGHUP)
            try:
                self._until(lambda: house.log.counts[_NOT_TAKEN] > told, what)
            finally:
                house.config.write_text(good)
            return
        if what == "tftp":
            house.write(window=112 - house.values["window"])
        if what == "ftp":
            house.write(banner=f"Soak {turn}.")
        before = {name: set(house.pids(name).values()) for name in ("tftp", "ftp")}
        house.server._process.send_signal(signal.SIGHUP)
        if what in before:
            old = before[what]
            self._until(lambda: (now := set(house.pids(what).values())) and not now & old, f"reload {what}")
        if what == "tftp":  # what outlasts the drain is ended, and says so
            now = time.monotonic()
            self._excuse("drain over", "tftp", GOOD, at + DRAIN_S, now + DRAIN_S + _AFTERMATH_S, _STOPPING, before=now)
        if what == "ftp":
            self._excuse("reload ftp", "ftp", GOOD, at, time.monotonic() + 25, *_GOODBYE)

    def _publish(self) -> None:
        self.house.publish()

    def _rollback(self) -> None:
        self.house.rollback()

    def _hostile(self) -> None:
        self.burst()

    def _disk(self, _full: str) -> None:
        """Both disks of uploads."""
        at = time.monotonic()
        fillers = [place / ".filler" for place in self.house.disks[:2]]
        self._fill(fillers)
        for protocol, words in (("ftp", ("4", "5")), ("tftp", ("refused",))):
            self._excuse("disk full", protocol, ("put",), at, time.monotonic() + _LOOKS_S, *words)

    def _history(self, _full: str) -> None:
        """The disk of the history: shown as a problem, and gone afterwards."""
        self._fill([self.house.disks[2] / ".filler"], lambda: self._problem() or True)
        self._until(lambda: not self._problem(), "the history works again")

    def _problem(self) -> bool:
        return any("history" in one["what"] for one in self.house.status().get("problems", []))

    def _fill(self, fillers: list[Path], meanwhile: Callable[[], object] = lambda: None) -> None:
        try:
            for filler in fillers:
                fill(filler)
            end = time.monotonic() + self.full_s
            while time.monotonic() < end:
                meanwhile()
                time.sleep(0.2)
        finally:
            for filler in fillers:
                filler.unlink(missing_ok=True)


def _gone(pid: int) -> bool:
    """Whether a process runs no more; it may not be reaped yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in ("Z", "X")
    except OSError:
        return True


def fill(filler: Path) -> None:
    """Take all that is left of a disk."""
    with filler.open("wb", buffering=0) as file:
        piece = bytes(1 << 20)
        while piece:
            try:
                file.write(piece)
            except OSError:
                piece = piece[: len(piece) // 2]
