"""In every process of the appliance that `bench.events` measures: its link to the events service, off and on again.

Two processes of the same program differ by several per cent in what a transfer costs them (measured; where their
memory lies, and how their dictionaries are salted, is drawn at each start). What events cost is less than that, so it
is looked for within one process. Without its link an emitter is what `observe: {events: false}` makes.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from appliance.child.context import Context
from appliance.observe.emitter import Emitter
from appliance.supervise import spawn

OFF, ON = signal.SIGUSR1, signal.SIGUSR2
_original = Context.emitter


def program(paths: list[str]) -> list[str]:
    """The command line of an appliance whose workers can be switched."""
    text = "import sys; sys.path[:0] = sys.argv.pop(1).split(':'); import bench.switch; bench.switch.install(); "
    text += "from appliance.cli.main import main; sys.exit(main())"
    return [sys.executable, "-I", "-c", text, ":".join(paths)]


def install() -> None:
    """Here, and in every process that this one starts or becomes."""
    here = "import importlib; "
    assert here in spawn._BOOT
    spawn._BOOT = spawn._BOOT.replace(here, f"import bench.switch; bench.switch.install(); {here}")
    Context.emitter = _switched  # type: ignore[method-assign]


def _switched(context: Context) -> Emitter:
    emitter = _original(context)
    link = emitter._link

    def turn(number: int, _frame: object) -> None:
        emitter.flush(time.monotonic())
        emitter._link = link if number == ON else None
        emitter.on = emitter._link is not None

    signal.signal(OFF, turn)
    signal.signal(ON, turn)
    return emitter


def switch(pid: int, to: signal.Signals) -> None:
    """Returns when the process has taken it; it acts on it before it does anything else."""
    os.kill(pid, to)
    for _ in range(2000):
        waiting = [line.split()[1] for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "Pnd:" in line]
        if not any(int(mask, 16) for mask in waiting):
            return
        time.sleep(0.001)
    raise RuntimeError(f"process {pid} takes no signal")
