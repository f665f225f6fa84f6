"""The supervisor as two tables: what happens to one worker slot, and what happens to the whole. Pure data.

A pair that is not in a table cannot happen; if it does, that is a SupervisorBug. `docs/STATES.md` prints the tables.
"""

from __future__ import annotations

from enum import Enum


class SupervisorBug(Exception):
    """An event came in a state in which the table says it cannot come."""


class Slot(Enum):
    """State of one worker slot."""

    STARTING = "starting"  # a process was made, its READY is awaited
    SERVING = "serving"
    BACKOFF = "backoff"  # its process died; the next one comes when the timer fires
    RETIRING = "draining"  # told to finish; a newer generation serves, or nobody
    ENDING = "ending"  # killed, to be reaped
    GONE = "gone"


class Event(Enum):
    """What can happen to a slot."""

    READY = "READY came"
    DIED = "process died"
    DUE = "timer fired"
    FAULT = "broke the protocol or hangs"
    RETIRE = "is to finish"
    END = "is to end now"


class Do(Enum):
    """What is done, in the order named."""

    SPAWN = "spawn"
    KILL = "kill"
    DRAIN = "tell it to drain, set the timer"
    COUNT_FAILURE = "count the failure, set the back-off timer"
    FORGIVE = "forget old failures"
    LEND = "lend its listeners to a sibling"
    TAKE_BACK = "take lent listeners back"
    FORGET = "forget the slot"


Step = tuple[Slot, tuple[Do, ...]]

SLOT_TABLE: dict[tuple[Slot, Event], Step] = {
    (Slot.STARTING, Event.READY): (Slot.SERVING, (Do.TAKE_BACK,)),
    (Slot.STARTING, Event.DIED): (Slot.BACKOFF, (Do.COUNT_FAILURE, Do.LEND)),
    (Slot.STARTING, Event.DUE): (Slot.STARTING, (Do.KILL,)),
    (Slot.STARTING, Event.FAULT): (Slot.STARTING, (Do.KILL,)),
    (Slot.STARTING, Event.RETIRE): (Slot.ENDING, (Do.KILL,)),
    (Slot.STARTING, Event.END): (Slot.ENDING, (Do.KILL,)),
    (Slot.SERVING, Event.READY): (Slot.SERVING, (Do.KILL,)),
    (Slot.SERVING, Event.DIED): (Slot.BACKOFF, (Do.COUNT_FAILURE, Do.LEND)),
    (Slot.SERVING, Event.DUE): (Slot.SERVING, (Do.FORGIVE,)),
    (Slot.SERVING, Event.FAULT): (Slot.SERVING, (Do.KILL,)),
    (Slot.SERVING, Event.RETIRE): (Slot.RETIRING, (Do.DRAIN,)),
    (Slot.SERVING, Event.END): (Slot.ENDING, (Do.KILL,)),
    (Slot.BACKOFF, Event.DUE): (Slot.STARTING, (Do.SPAWN,)),
    (Slot.BACKOFF, Event.RETIRE): (Slot.GONE, (Do.FORGET,)),
    (Slot.BACKOFF, Event.END): (Slot.GONE, (Do.FORGET,)),
    (Slot.RETIRING, Event.READY): (Slot.ENDING, (Do.KILL,)),
    (Slot.RETIRING, Event.DIED): (Slot.GONE, (Do.FORGET,)),
    (Slot.RETIRING, Event.DUE): (Slot.ENDING, (Do.KILL,)),
    (Slot.RETIRING, Event.FAULT): (Slot.ENDING, (Do.KILL,)),
    (Slot.RETIRING, Event.RETIRE): (Slot.RETIRING, ()),
    (Slot.RETIRING, Event.END): (Slot.ENDING, (Do.KILL,)),
    (Slot.ENDING, Event.READY): (Slot.ENDING, ()),
    (Slot.ENDING, Event.DIED): (Slot.GONE, (Do.FORGET,)),
    (Slot.ENDING, Event.DUE): (Slot.ENDING, (Do.KILL,)),
    (Slot.ENDING, Event.FAULT): (Slot.ENDING, ()),
    (Slot.ENDING, Event.RETIRE): (Slot.ENDING, ()),
    (Slot.ENDING, Event.END): (Slot.ENDING, ()),
}


class Run(Enum):
    """State of the whole."""

    STARTING = "starting"
    SERVING = "serving"
    RELOADING = "reloading"
    DRAINING = "draining"
    STOPPING = "stopping"
    STOPPED = "stopped"


class Signal(Enum):
    """What can happen to the whole."""

    ALL_READY = "every worker serves"
    BOOT_FAILED = "a first start failed"
    RELOAD = "SIGHUP or `reload`"
    RELOADED = "the reload is over, done or refused"
    TERM = "SIGTERM or `drain`"
    STOP = "`stop`"
    DUE = "the drain time is over"
    EMPTY = "no child is left"


class Act(Enum):
    """What is done for the whole."""

    ANNOUNCE = "tell systemd and the operator"
    READ = "start a settings reader"
    READ_AGAIN = "remember to reload once more"
    ABANDON = "give the reload up"
    DRAIN_ALL = "drain the workers"
    END_ALL = "kill every child"
    FAIL = "remember the failure for the exit code"


RunStep = tuple[Run, tuple[Act, ...]]

RUN_TABLE: dict[tuple[Run, Signal], RunStep] = {
    (Run.STARTING, Signal.ALL_READY): (Run.SERVING, (Act.ANNOUNCE,)),
    (Run.STARTING, Signal.BOOT_FAILED): (Run.STOPPING, (Act.FAIL, Act.END_ALL)),
    (Run.STARTING, Signal.RELOAD): (Run.STARTING, (Act.READ_AGAIN,)),
    (Run.STARTING, Signal.TERM): (Run.STOPPING, (Act.END_ALL,)),
    (Run.STARTING, Signal.STOP): (Run.STOPPING, (Act.END_ALL,)),
    (Run.STARTING, Signal.EMPTY): (Run.STOPPED, ()),
    (Run.SERVING, Signal.ALL_READY): (Run.SERVING, ()),
    (Run.SERVING, Signal.BOOT_FAILED): (Run.SERVING, ()),
    (Run.SERVING, Signal.RELOAD): (Run.RELOADING, (Act.READ,)),
    (Run.SERVING, Signal.TERM): (Run.DRAINING, (Act.DRAIN_ALL,)),
    (Run.SERVING, Signal.STOP): (Run.STOPPING, (Act.END_ALL,)),
    (Run.RELOADING, Signal.ALL_READY): (Run.RELOADING, ()),
    (Run.RELOADING, Signal.BOOT_FAILED): (Run.RELOADING, ()),
    (Run.RELOADING, Signal.RELOAD): (Run.RELOADING, (Act.READ_AGAIN,)),
    (Run.RELOADING, Signal.RELOADED): (Run.SERVING, (Act.ANNOUNCE,)),
    (Run.RELOADING, Signal.TERM): (Run.DRAINING, (Act.ABANDON, Act.DRAIN_ALL)),
    (Run.RELOADING, Signal.STOP): (Run.STOPPING, (Act.ABANDON, Act.END_ALL)),
    (Run.DRAINING, Signal.ALL_READY): (Run.DRAINING, ()),
    (Run.DRAINING, Signal.BOOT_FAILED): (Run.DRAINING, ()),
    (Run.DRAINING, Signal.RELOAD): (Run.DRAINING, ()),
    (Run.DRAINING, Signal.TERM): (Run.STOPPING, (Act.END_ALL,)),
    (Run.DRAINING, Signal.STOP): (Run.STOPPING, (Act.END_ALL,)),
    (Run.DRAINING, Signal.DUE): (Run.STOPPING, (Act.END_ALL,)),
    (Run.DRAINING, Signal.EMPTY): (Run.STOPPED, ()),
    (Run.STOPPING, Signal.ALL_READY): (Run.STOPPING, ()),
    (Run.STOPPING, Signal.BOOT_FAILED): (Run.STOPPING, ()),
    (Run.STOPPING, Signal.RELOAD): (Run.STOPPING, ()),
    (Run.STOPPING, Signal.TERM): (Run.STOPPING, (Act.END_ALL,)),
    (Run.STOPPING, Signal.STOP): (Run.STOPPING, (Act.END_ALL,)),
    (Run.STOPPING, Signal.DUE): (Run.STOPPING, ()),
    (Run.STOPPING, Signal.EMPTY): (Run.STOPPED, ()),
}

FIRST_DELAY, LARGEST_DELAY, FORGIVEN_AFTER = 0.5, 30.0, 60.0


def slot_step(state: Slot, event: Event) -> Step:
    """Look a slot's step up. Raises SupervisorBug for a pair that cannot happen."""
    try:
        return SLOT_TABLE[state, event]
    except KeyError:
        raise SupervisorBug(f"{event.value} while {state.value}") from None


def run_step(state: Run, event: Signal) -> RunStep:
    """Look a step of the whole up. Raises SupervisorBug for a pair that cannot happen."""
    try:
        return RUN_TABLE[state, event]
    except KeyError:
        raise SupervisorBug(f"{event.value} while {state.value}") from None


def backoff(failures: int) -> float:
    """Seconds to wait before start number `failures` + 1: the first at once, then growing, capped."""
    return 0.0 if failures <= 1 else min(LARGEST_DELAY, FIRST_DELAY * 2.0 ** min(failures - 2, 16))


def table_as_text() -> str:
    """Both tables as Markdown, for the documentation."""
    lines = ["| worker is | event | becomes | what is done |", "|---|---|---|---|"]
    for (slot, event), (slot_after, actions) in SLOT_TABLE.items():
        lines.append(f"| {slot.value} | {event.value} | {slot_after.value} | {'; '.join(a.value for a in actions)} |")
    lines += ["", "| supervisor is | event | becomes | what is done |", "|---|---|---|---|"]
    for (run, signal), (run_after, acts) in RUN_TABLE.items():
        lines.append(f"| {run.value} | {signal.value} | {run_after.value} | {'; '.join(a.value for a in acts)} |")
    return "\n".join(lines)
