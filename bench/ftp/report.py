"""Figures of many rounds to Markdown: medians, ratios to the best C server of the same round, and the bars."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.ftp.servers import OURS
from bench.ftp.workloads import C_SERVERS, Bar, Workload
from bench.tftp.load import Figures

Rounds = dict[str, list[Figures]]  # by server; one entry for each round
_CPU = {"MB/s": "CPU s/GB", "KiB/session": "sessions open"}
_BOTH = "with the client"


@dataclass(frozen=True, slots=True)
class Table:
    """One workload as measured."""

    workload: Workload
    rounds: Rounds

    def value(self, figures: Figures) -> float:
        """What is compared, so that more is better."""
        unit = self.workload.unit
        if unit == "MB/s":
            return figures["bytes"] / 1e6 / figures["seconds"]
        if unit == "ops/s":
            return figures["finished"] / figures["seconds"]
        return 1 / (self.shown(figures) or 1e9)

    def shown(self, figures: Figures) -> float:
        """What is compared, in its unit."""
        unit = self.workload.unit
        if unit == "KiB/session":
            return figures["kib"] / max(1.0, figures["open"])
        key = {"p50 ms": "p50_ms", "worst ms": "worst_ms"}.get(unit)
        return figures.get(key, 0.0) if key else self.value(figures)

    def cpu(self, figures: Figures) -> float:
        """Server CPU: seconds per GB, or milliseconds for each operation; how many sessions where memory counts."""
        if self.workload.unit == "KiB/session":
            return figures["open"]
        if self.workload.unit == "MB/s":
            return figures["cpu_s"] * 1e9 / (figures["bytes"] or 1e9)
        return figures["cpu_s"] * 1e3 / (figures["finished"] or 1)

    def both(self, figures: Figures) -> float:
        """CPU of server and clients together, for each byte or operation."""
        return (figures["cpu_s"] + figures["client_cpu_s"]) / (figures["bytes"] or figures["finished"] or 1)

    def ratio(self, server: str, of: Callable[[Figures], float], against: str) -> float:
        """Median over the rounds of the ratio within a round."""
        pairs = zip(self.rounds[server], self.rounds[against], strict=True)
        return statistics.median(of(ours) / (of(theirs) or 1e9) for ours, theirs in pairs)

    def best(self, peers: Sequence[str], of: Callable[[Figures], float], choose: Callable[..., str] = max) -> str:
        """The peer with the best median; "" when none was measured."""
        here = [name for name in peers if name in self.rounds]
        return choose(here, key=lambda name: statistics.median(map(of, self.rounds[name]))) if here else ""


def render(table: Table) -> str:
    """One workload as Markdown."""
    workload = table.workload
    together = workload.unit == "MB/s"
    head = ("server", f"{workload.unit} median (min..max)", "vs best C", _CPU.get(workload.unit, "CPU ms each"),
            "vs best C", *([_BOTH] if together else []), "p99 ms", "failed")  # fmt: skip
    lines = [f"**{workload.key}. {workload.title}**", "", _line(head), "|---" * len(head) + "|"]
    best, thrifty = table.best(C_SERVERS, table.value), table.best(C_SERVERS, table.cpu, min)
    for name, rounds in table.rounds.items():
        shown = [table.shown(figures) for figures in rounds]
        row = (
            name,
            f"{_short(statistics.median(shown))} ({_short(min(shown))}..{_short(max(shown))})",
            f"{table.ratio(name, table.value, best):.2f}" if best else "-",
            f"{statistics.median(map(table.cpu, rounds)):.3g}",
            f"{table.ratio(name, table.cpu, thrifty):.2f}" if thrifty else "-",
            *([f"{table.ratio(name, table.both, thrifty):.2f}" if thrifty else "-"] if together else []),
            _short(statistics.median(figures.get("p99_ms", 0.0) for figures in rounds)),
            f"{sum(figures['failed'] for figures in rounds):.0f}",
        )
        lines.append(_line(row))
    held = [verdict for bar in workload.bars for verdict in verdicts(table, bar)]
    return "\n".join([*lines, *([""] if held else []), *(f"- {text}" for text in held), ""])


def verdicts(table: Table, bar: Bar) -> list[str]:
    """Each part of a bar, whether ours holds it."""
    if OURS not in table.rounds or not table.best(bar.against, table.value):
        return []
    found = []
    if bar.value:
        peer = table.best(bar.against, table.value)
        got = table.ratio(OURS, table.value, peer)
        found.append(_verdict(got >= bar.value, f"{table.workload.unit} ≥ {bar.value:g} x {peer}", got))
    if bar.cpu:
        peer = table.best(bar.against, table.cpu, min)
        got = table.ratio(OURS, table.cpu, peer)
        found.append(_verdict(got <= bar.cpu, f"CPU ≤ {bar.cpu:g} x {peer}", got))
    return found


def _verdict(good: bool, text: str, got: float) -> str:
    return f"{'holds' if good else '**missed**'}: {text} (got {got:.2f})"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
