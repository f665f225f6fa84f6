"""What the page is told of machines: short rows for all, the whole story of one. Pure; values that JSON knows."""

from __future__ import annotations

from typing import Any

from appliance.board.diagnosis import Finding
from appliance.board.stages import ORDER
from appliance.board.story import Machine, Step

_MOST_IN_ROW = 12  # steps that a row shows as marks


def row(machine: Machine, finding: Finding | None, name: str = "") -> dict[str, Any]:
    """One line of the board. `marks`: stage, state and percent of the newest steps that count."""
    last = machine.last
    counted = [step for step in machine.steps if step.stage in ORDER and step.state != "aborted"]
    return {
        "key": machine.key,
        "name": name,
        "mac": machine.mac,
        "address": machine.addresses[-1] if machine.addresses else "",
        "boot": machine.boots,
        "state": machine.state,
        "stage": machine.stage,
        "file": last.file if last else "",
        "percent": last.percent if last else -1,
        "rate": round(sum(step.rate for step in machine.steps if step.state == "running")),
        "release": last.release if last else "",
        "started": round(machine.started, 1),
        "at": round(machine.at, 1),
        "marks": _marks(counted),
        "trouble": finding.what if finding else "",
    }


def _marks(steps: list[Step]) -> list[list[Any]]:
    """One mark for each stage: what became of its newest file that arrived, else of its newest."""
    marks = []
    for stage in ORDER:
        mine = [step for step in steps if step.stage == stage]
        if mine:
            shown = next((s for s in reversed(mine) if s.state in ("running", "done")), mine[-1])
            marks.append([stage, shown.state, shown.percent])
    return marks[:_MOST_IN_ROW]


def story(machine: Machine, finding: Finding | None, name: str = "") -> dict[str, Any]:
    """Everything that is known of one machine's present boot."""
    whole = row(machine, finding, name)
    whole["addresses"] = list(machine.addresses)
    whole["remedy"] = finding.remedy if finding else ""
    whole["rule"] = finding.rule if finding else ""
    whole["steps"] = [_step(step) for step in machine.steps]
    return whole


def _step(step: Step) -> dict[str, Any]:
    return {
        "file": step.file,
        "stage": step.stage,
        "state": step.state,
        "service": step.service,
        "started": round(step.started, 2),
        "at": round(step.at, 2),
        "bytes": step.bytes,
        "size": step.size,
        "percent": step.percent,
        "rate": round(step.rate),
        "tries": step.tries,
        "blksize": step.blksize,
        "windowsize": step.windowsize,
        "retransmits": step.retransmits,
        "cause": step.cause,
        "layer": step.layer,
        "release": step.release,
    }
