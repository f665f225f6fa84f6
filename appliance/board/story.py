"""The boots of machines, told from plain facts: what was asked for, what arrived, what did not. Pure.

A machine is known by its MAC address where a name or a neighbour table told it, else by its address. Invariant: the
book holds at most `most` machines and STEPS steps of each, whatever the network sends.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Literal

from appliance.board.stages import ORDER, stage_of
from appliance.observe.macs import mac_in

STEPS = 64  # of one boot that are kept, the newest
STALL_S = 20.0  # nothing arrives for so long: stalled
SETTLED_S = 10.0  # a kernel that asks for nothing more after so long has all it wants
NEW_BOOT_S = 600.0  # silence after which whatever comes is a new boot
LATE_S = 0.1  # workers hold what they tell for up to half of it, each for itself
TOGETHER_S = 1.0  # within which the order of what is told says little
_AT_LAST = ("kernel", "initrd", "image")
AGAIN_S = 0.5  # a machine takes longer to start anew; workers tell what they did up to 50 ms late, and out of order
_ADDRESSES = 8

Kind = Literal["dhcp", "address", "one-shot", "start", "progress", "done", "aborted", "failed", "refused", "unanswered"]


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that happened to a client; `at` in seconds since the epoch. `file` is text that may be printed.

    ``aborted`` is a client that wanted no more (a probe for the size, a loader that changed its mind), which is no
    failure; ``dhcp`` is our answer to a machine that boots, ``address`` one to a system that runs (it begins no boot);
    ``cause`` says why one failed or was refused, and of a one-shot boot to which state it came.
    """

    at: float
    kind: Kind
    client: str
    file: str = ""
    mac: str = ""
    service: str = "tftp"
    bytes: int = 0
    size: int = -1
    blksize: int = 0
    windowsize: int = 0
    retransmits: int = 0
    cause: str = ""
    layer: str = ""
    release: str = ""
    ms: int = 0  # that a transfer took which is over


@dataclass(slots=True)
class Step:
    """One file of a boot. `state`: running, done, failed, missing, unanswered or aborted; `tries` of the same file."""

    file: str
    stage: str
    state: str
    started: float
    at: float
    service: str = "tftp"
    bytes: int = 0
    size: int = -1
    blksize: int = 0
    windowsize: int = 0
    retransmits: int = 0
    cause: str = ""
    layer: str = ""
    release: str = ""
    tries: int = 1
    rate: float = 0.0  # bytes per second, of the last interval while it runs, of the whole when it is done

    @property
    def percent(self) -> int:
        """How much has arrived, 0 to 100; -1 where the size is not known."""
        return min(100, self.bytes * 100 // self.size) if self.size > 0 else -1


@dataclass(slots=True)
class Machine:
    """One machine and its present boot. `state`: booting, booted, stalled or failed; `boots` counts boots."""

    key: str
    started: float
    at: float
    mac: str = ""
    addresses: list[str] = field(default_factory=list)
    boots: int = 1
    state: str = "booting"
    one_shot: str = ""  # what became of its one-shot boot: armed, loaded, confirmed, expired
    steps: deque[Step] = field(default_factory=lambda: deque(maxlen=STEPS))

    @property
    def stage(self) -> str:
        """The furthest stage of this boot that was completed or is under way; "" before the first."""
        reached = [ORDER.index(s.stage) for s in self.steps if s.state in ("running", "done") and s.stage in ORDER]
        return ORDER[max(reached)] if reached else ""

    @property
    def last(self) -> Step | None:
        """The step that was heard of last; of those that were told together, the one that stands last."""
        newest = max((step.at for step in self.steps), default=0.0)
        return next((step for step in reversed(self.steps) if step.at >= newest - LATE_S), None)

    def complete(self, *stages: str) -> bool:
        """Whether a file of one of these stages has arrived whole in this boot."""
        return any(step.state == "done" and step.stage in stages for step in self.steps)


class Book:
    """All machines, the one heard of last at the end."""

    def __init__(self, most: int = 2000) -> None:
        """`most`: machines that are kept; the one that was silent longest is forgotten for a new one."""
        self._most = most
        self.machines: OrderedDict[str, Machine] = OrderedDict()
        self._by_address: dict[str, str] = {}

    def knows(self, client: str, mac: str) -> bool:
        """Whether something was heard of a machine already, by its address or its MAC."""
        return client in self._by_address or mac in self.machines

    def tell(self, fact: Fact) -> Machine:
        """Take in one fact; returns the machine that it is about."""
        machine = self._machine(fact)
        if fact.kind == "one-shot":
            machine.one_shot = fact.cause
            return machine
        if fact.kind == "address":
            return machine
        if _is_new_boot(machine, fact):
            _begin_again(machine, fact)
        _take(machine, fact)
        machine.at = max(machine.at, fact.at)
        machine.state = _state(machine, fact.at)
        return machine

    def tick(self, now: float) -> list[Machine]:
        """The machines whose state has changed only because time went by."""
        changed = []
        for machine in self.machines.values():
            state = _state(machine, now)
            if state != machine.state:
                machine.state = state
                changed.append(machine)
        return changed

    def _machine(self, fact: Fact) -> Machine:
        mac = fact.mac or mac_in(fact.file)
        key = mac or self._by_address.get(fact.client, fact.client)
        machine = self.machines.get(key)
        if machine is None and mac and fact.client and fact.client in self.machines:
            machine = self._renamed(fact.client, mac)
        if machine is None:
            machine = self.machines[key] = Machine(key, fact.at, fact.at, mac)
            self._forget_the_oldest()
        self.machines.move_to_end(key)
        if fact.client:
            self._place(machine, fact.client)
        return machine

    def _renamed(self, address: str, mac: str) -> Machine:
        """A machine known by its address so far has told its MAC."""
        machine = self.machines.pop(address)
        machine.key = machine.mac = mac
        self.machines[mac] = machine
        return machine

    def _place(self, machine: Machine, address: str) -> None:
        if address not in machine.addresses:
            machine.addresses.append(address)
            if len(machine.addresses) > _ADDRESSES:
                self._leave(machine, machine.addresses.pop(0))
        self._by_address[address] = machine.key

    def _leave(self, machine: Machine, address: str) -> None:
        if self._by_address.get(address) == machine.key:
            del self._by_address[address]

    def _forget_the_oldest(self) -> None:
        if len(self.machines) > self._most:
            _key, machine = self.machines.popitem(last=False)
            for address in machine.addresses:
                self._leave(machine, address)


def _is_new_boot(machine: Machine, fact: Fact) -> bool:
    """A machine that asks for a loader or its configuration after it had its kernel has been started anew."""
    if not machine.steps or any(step.state == "running" and step.file == fact.file for step in machine.steps):
        return False  # nothing before, or it goes on with what it has begun (a short transfer is told at its end only)
    if fact.at - machine.at > NEW_BOOT_S:
        return True
    kernels = [step.at for step in machine.steps if step.state == "done" and step.stage == "kernel"]
    begins = fact.kind == "dhcp" or stage_of(fact.file) in ("loader", "configuration")
    asks = begins and not _running(machine)
    return bool(kernels) and asks and fact.at - max(kernels) > AGAIN_S


def _begin_again(machine: Machine, fact: Fact) -> None:
    machine.boots += 1
    machine.steps.clear()
    machine.addresses = [fact.client] if fact.client else []
    machine.started = machine.at = fact.at


def _take(machine: Machine, fact: Fact) -> None:
    step = next((s for s in reversed(machine.steps) if s.file == fact.file and s.service == fact.service), None)
    if step is None:
        stage = "dhcp" if fact.kind == "dhcp" else stage_of(fact.file)
        step = Step(fact.file, stage, "running", fact.at, fact.at, fact.service)
        _insert(machine.steps, step)
    elif step.state != "running":
        step.tries += step.state != "aborted"  # a look at the size before is no try
        step.started, step.bytes, step.at = fact.at, 0, fact.at
    _rate(step, fact)
    step.state = _STATES[fact.kind]
    step.bytes = max(fact.bytes, step.bytes) if fact.kind in ("start", "progress") else fact.bytes
    step.at = fact.at
    for name in ("blksize", "windowsize", "layer", "release"):
        setattr(step, name, getattr(fact, name) or getattr(step, name))
    step.size = fact.size if fact.size >= 0 else step.size
    step.retransmits, step.cause = max(fact.retransmits, step.retransmits), fact.cause


def _insert(steps: deque[Step], step: Step) -> None:
    """Put it where it belongs by time. Workers tell a little late and out of order: what a kernel or an initrd cannot
    come before is put before it, if it was told within the same second."""
    if len(steps) == STEPS:
        steps.popleft()
    later = sum(1 for _ in itertools.takewhile(lambda other: _is_before(step, other), reversed(steps)))
    steps.rotate(later)
    steps.append(step)
    steps.rotate(-later)


def _is_before(step: Step, other: Step) -> bool:
    if other.stage in _AT_LAST and step.stage in ORDER and abs(step.started - other.started) <= TOGETHER_S:
        return ORDER.index(step.stage) < ORDER.index(other.stage)
    return step.started < other.started


_STATES = {
    "start": "running", "progress": "running", "done": "done", "aborted": "aborted", "failed": "failed",
    "dhcp": "done", "refused": "missing", "unanswered": "unanswered",
}  # fmt: skip


def _rate(step: Step, fact: Fact) -> None:
    if fact.kind == "progress" and fact.at > step.at:
        step.rate = max(0, fact.bytes - step.bytes) / (fact.at - step.at)
    elif fact.kind == "done" and (took := fact.ms / 1000 or fact.at - step.started) > 0:
        step.rate = fact.bytes / took


def _running(machine: Machine) -> bool:
    return any(step.state == "running" for step in machine.steps)


def _lacks(machine: Machine) -> bool:
    """Whether a file that a kernel needs beside it was asked for, and did not come. A loader that fetched its kernel
    after that goes on without it, as a Raspberry Pi does without `initramfs8`."""
    kernel = max((step.at for step in machine.steps if step.state == "done" and step.stage == "kernel"), default=0.0)
    return any(
        step.stage in _AT_LAST[1:] and step.state in ("failed", "missing", "unanswered") and step.at > kernel - LATE_S
        for step in machine.steps
    )


def _state(machine: Machine, now: float) -> str:
    last = machine.last
    quiet = now - machine.at
    if last is None:
        return "stalled" if quiet > STALL_S else "booting"
    if not _running(machine) and machine.complete("kernel"):
        if machine.complete("initrd", "image"):
            return "booted"
        if not _lacks(machine):
            return "booted" if quiet > SETTLED_S else "booting"
    if last.state == "failed":
        return "failed"
    return "stalled" if quiet > STALL_S else "booting"
