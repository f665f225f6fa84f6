"""Figures of many rounds to Markdown: medians, ratios to the best C server of the same round, and the bars."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

from bench.tftp.load import Figures
from bench.tftp.servers import OURS
from bench.tftp.workloads import Bar, Workload

Rounds = dict[str, list[Figures]]  # by server; one entry for each round
_HEAD = ("server", "MB/s median (min..max)", "vs best C", "CPU ms/MB", "CPU vs best C", "p99 transfer ms",
         "client time-outs", "failed, refused", "blk/win got", "peak PSS MiB (processes)")  # fmt: skip
_FIRST_HEAD = ("server", "p50 ms", "vs best C", "p99 ms", "worst ms")


@dataclass(frozen=True, slots=True)
class Table:
    """One workload under one pinning, as measured."""

    workload: Workload
    pin: str
    rounds: Rounds
    memory: dict[str, tuple[float, int]]

    def values(self, server: str, of: Callable[[Figures], float]) -> list[float]:
        """One for each round."""
        return [of(figures) for figures in self.rounds[server]]

    def ratio(self, server: str, of: Callable[[Figures], float], against: str) -> float:
        """Median over the rounds of the ratio within a round."""
        pairs = zip(self.values(server, of), self.values(against, of), strict=True)
        return statistics.median(ours / theirs if theirs else 0.0 for ours, theirs in pairs)

    def best(self, of: Callable[[Figures], float], choose: Callable[..., str] = max) -> str:
        """The C server with the best median; where there is none, ours."""
        peers = [name for name in self.rounds if name != OURS] or [OURS]
        return choose(peers, key=lambda name: statistics.median(self.values(name, of)))

    def speed(self, figures: Figures) -> float:
        """MB/s or requests per second."""
        work = figures["finished"] if self.workload.unit == "req/s" else figures["bytes"] / 1e6
        return work / figures["seconds"]

    def cpu(self, figures: Figures) -> float:
        """Server CPU milliseconds for a MB or a request."""
        work = figures["finished"] if self.workload.unit == "req/s" else figures["bytes"] / 1e6
        return figures["cpu_s"] * 1e3 / work if work else 0.0


def _first(figures: Figures) -> float:
    return figures.get("first_p50_ms", 0.0)


def render(table: Table, others: list[Table]) -> str:
    """One workload as Markdown; `others` are the tables before it."""
    pin = {"none": "", "same": ", client and server on one CPU", "split": ", one CPU each"}[table.pin]
    head, rows = (_FIRST_HEAD, _first_rows(table)) if table.workload.unit == "first" else (_HEAD, _rows(table))
    if table.workload.unit == "req/s":
        head = ("server", "req/s median (min..max)", head[2], "CPU ms/request", *head[4:])
    lines = [f"**{table.workload.key}. {table.workload.title}{pin}**", "", _line(head), "|---" * len(head) + "|"]
    lines += [_line(row) for row in rows]
    held = [verdict for bar in table.workload.bars.get(table.pin, ()) for verdict in verdicts(table, bar)]
    held += [
        verdict for other in others if other.workload.key == table.workload.keeps[0] for verdict in _kept(table, other)
    ]
    return "\n".join([*lines, *([""] if held else []), *(f"- {text}" for text in held), ""])


def _rows(table: Table) -> list[tuple[str, ...]]:
    best, thrifty = table.best(table.speed), table.best(table.cpu, min)
    rows: list[tuple[str, ...]] = []
    for name, rounds in table.rounds.items():
        speeds = table.values(name, table.speed)
        memory = table.memory.get(name)
        rows.append(
            (
                name,
                f"{_short(statistics.median(speeds))} ({_short(min(speeds))}..{_short(max(speeds))})",
                f"{table.ratio(name, table.speed, best):.2f}",
                f"{statistics.median(table.values(name, table.cpu)):.3g}",
                f"{table.ratio(name, table.cpu, thrifty):.2f}",
                _p99(rounds),
                f"{statistics.median(figures['timeouts'] for figures in rounds):.0f}",
                ", ".join(f"{sum(figures[key] for figures in rounds):.0f}" for key in ("failed", "refused")),
                f"{rounds[-1]['blksize']:.0f}/{rounds[-1]['windowsize']:.0f}",
                f"{memory[0]:.1f} ({memory[1]})" if memory else "-",
            )
        )
    return rows


def _p99(rounds: list[Figures]) -> str:
    finished = [figures["transfer_p99_ms"] for figures in rounds if "transfer_p99_ms" in figures]
    return _short(statistics.median(finished)) if finished else "cut"


def _first_rows(table: Table) -> list[tuple[str, ...]]:
    best = table.best(_first, min)
    return [
        (
            name,
            f"{statistics.median(table.values(name, _first)):.3f}",
            f"{table.ratio(name, _first, best):.2f}",
            f"{statistics.median(figures.get('first_p99_ms', 0.0) for figures in rounds):.3f}",
            f"{max(figures.get('first_worst_ms', 0.0) for figures in rounds):.3f}",
        )
        for name, rounds in table.rounds.items()
    ]


def verdicts(table: Table, bar: Bar) -> list[str]:
    """Each part of a bar, whether ours holds it."""
    if OURS not in table.rounds or len(table.rounds) < 2 or (bar.against and bar.against not in table.rounds):
        return []
    against = bar.against or table.best(table.speed)
    found = []
    if bar.speed:
        got = table.ratio(OURS, table.speed, against)
        found.append(_verdict(got >= bar.speed, f"speed ≥ {bar.speed:g} x {against}", f"{got:.2f}"))
    if bar.cpu:
        got = table.ratio(OURS, table.cpu, against)
        found.append(_verdict(got <= bar.cpu, f"CPU per MB ≤ {bar.cpu:g} x {against}", f"{got:.2f}"))
    if bar.first:
        got = table.ratio(OURS, _first, against)
        found.append(_verdict(got <= bar.first, f"first packet (p50) ≤ {bar.first:g} x {against}", f"{got:.2f}"))
    if bar.pss_mib and OURS in table.memory:
        got = table.memory[OURS][0]
        found.append(_verdict(got <= bar.pss_mib, f"memory ≤ {bar.pss_mib:g} MiB", f"{got:.1f}"))
    if bar.timeouts:
        bad = sum(sum(figures[key] for key in ("timeouts", "failed", "refused")) for figures in table.rounds[OURS])
        found.append(_verdict(not bad, "no client time-out, failure or refusal", f"{bad:.0f}"))
    return found


def _kept(table: Table, other: Table) -> list[str]:
    key, share = table.workload.keeps
    pairs = zip(table.values(OURS, table.speed), other.values(OURS, other.speed), strict=True)
    got = statistics.median(under / plain for under, plain in pairs)
    return [_verdict(got >= share, f"speed ≥ {share:g} x workload {key}", f"{got:.2f}")]


def _verdict(holds: bool, wanted: str, got: str) -> str:
    return f"{'holds' if holds else '**missed**'}: {wanted} (got {got})"


def _line(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cells) + " |"


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
