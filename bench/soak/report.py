"""From what was seen to the facts, the table and the verdicts."""

from __future__ import annotations

import argparse
import json
from collections import Counter, defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.soak import judge
from bench.soak.faults import Faults
from bench.soak.house import CACHE_KIB, KEPT_S, SPARE_PORTS, House
from bench.soak.watch import Watch

_FULL_S = 120.0  # what a worker keeps of files is there by then
# what the log may say above info while these faults are injected; anything else is a finding
_EXPECTED = {
    "warning supervisor worker died",
    "warning ftp the custodian is gone",
    "warning tftp the custodian is gone",
    "error events the history cannot be written",
    "error custody uploads cannot be stored",  # the disk is full
    "error tftp-custody uploads cannot be stored",
    "error supervisor reload",  # one of them is a mistake in the configuration
    "warning supervisor client banned",
    "warning ftp refused",
    "warning ftp connection dropped",
    "warning ftp log-in refused",
    "warning ftp data connection refused",
    "warning ftp and more like these",
}


def facts(
    seen: dict[str, Any],
    seconds: float,
    options: argparse.Namespace,
    house: House,
    watch: Watch,
    faults: Faults,
    records: list[dict[str, Any]],
) -> dict[str, Any]:
    """Everything that is told, as plain values."""
    warm, least = min(120.0, max(25.0, seconds * 0.2)), min(180.0, max(30.0, seconds * 0.25))
    found = judge.tally(records, faults.excuses, house.releases)
    filling = {"tftp": CACHE_KIB} if warm < _FULL_S else {}
    grown = judge.growth(watch.samples, warm, least, filling, {"tftp": (SPARE_PORTS, KEPT_S)})
    notable = {kind: count for kind, count in house.log.counts.items() if not kind.startswith(("info", "debug"))}
    unexpected = [entry for entry in house.log.notable if _kind(entry) not in _EXPECTED]
    judged = {
        "exceptions": house.log.exceptions,
        "unexpected": [json.dumps(entry) for entry in unexpected],
        "zombies": watch.zombies,
        "leftovers": house.leftovers(),
        "at_rest": seen["at_rest"],
        "kept_at_rest": seen["kept_at_rest"],
        "not_overcome": faults.not_overcome,
        "too_few": [f"no {kind}" for kind in judge.KINDS if not found.good[kind]]
        + [f"clients ended with {code}" for code in seen["clients_ended"] if code],
        "exit_code": seen["exit_code"],
    }
    bars = judge.verdicts(judged, found, grown)
    calm = [first for first in found.firsts if not _disturbed(first[1], faults)]
    told = {
        **judged,
        "seconds": seconds,
        "seed": options.seed,
        "processors_used": round(seen["used"], 3),
        "good": dict(found.good),
        "bytes": dict(found.size),
        "failed": found.failed,
        "retried": dict(found.retried),
        "refused_by_full_disk": found.refused,
        "pairs": found.pairs,
        "went_away": found.left,
        "first_byte": _firsts(found.firsts),
        "first_byte_calm": _firsts(calm),
        "faults": _faults(faults),
        "growth": [asdict(one) for one in grown],
        "warm_s": warm,
        "log": notable,
        "events_lost": {key: value for key, value in watch.most.items() if key.endswith("events_lost")},
        "log_dropped": sum(value for key, value in watch.most.items() if key.endswith("log_dropped")),
        "scrapes": [watch.scraped, watch.unscraped],
        "peak_pss_kib": _peak(watch),
        "clients_ended": seen["clients_ended"],
        "bars": [asdict(one) for one in bars],
    }
    if options.keep:
        more = {"records": records, "samples": [asdict(one) for one in watch.samples], "notable": house.log.notable,
                "done": faults.done, "excuses": [asdict(one) for one in faults.excuses]}  # fmt: skip
        Path(options.keep).write_text(json.dumps({**told, **more}))
    return told


def _kind(entry: dict[str, Any]) -> str:
    return f"{entry['level']} {entry.get('room', '')} {entry['event']}"


def _disturbed(at: float, faults: Faults) -> bool:
    """Whether a fault was being injected, or had been until shortly before."""
    return any(began - 1 <= at <= began + took + 5 for began, _kind, took in faults.done)


def _firsts(firsts: list[tuple[float, float, str]]) -> dict[str, Any]:
    kinds: dict[str, list[float]] = defaultdict(list)
    for seconds, _when, what in firsts:
        kinds[what].append(seconds)
    kinds["all"] = [seconds for seconds, _when, _what in firsts]
    return {
        what: {"count": len(all_), "p50_ms": _ms(all_, 0.5), "p99_ms": _ms(all_, 0.99), "worst_ms": _ms(all_, 1.0)}
        for what, all_ in kinds.items()
    }


def _ms(values: list[float], share: float) -> float:
    return round(judge.percentile(values, share) * 1000, 1)


def _faults(faults: Faults) -> dict[str, Any]:
    took: dict[str, list[float]] = defaultdict(list)
    for _at, kind, seconds in faults.done:
        took[kind].append(seconds)
    return {kind: {"times": len(all_), "worst_s": round(max(all_), 2)} for kind, all_ in took.items()}


def _peak(watch: Watch) -> int:
    at: Counter[float] = Counter()
    for sample in watch.samples:
        at[sample.t] += sample.pss
    return max(at.values(), default=0)


def text(facts: dict[str, Any]) -> str:
    """The tables."""
    moved = ", ".join(f"{protocol} {size / 1e9:.2f} GB" for protocol, size in facts["bytes"].items())
    good = ", ".join(f"{what} {count}" for what, count in sorted(facts["good"].items()))
    retried = ", ".join(f"{fault} {count}" for fault, count in sorted(facts["retried"].items())) or "none"
    lost = sum(facts["events_lost"].values())
    log = "; ".join(f"{kind}: {count}" for kind, count in sorted(facts["log"].items())) or "nothing"
    return "\n".join(
        [
            f"{facts['seconds'] / 60:g} minutes, {facts['processors_used']:.2f} processors used by server and clients.",
            f"Whole and right: {good}; {moved}. {facts['pairs']} boots, kernel and initrd of one release each; "
            f"{facts['went_away']} clients that left in the middle.",
            f"Attempts that a fault broke, and that worked when tried again: {retried}. Uploads that a full disk did "
            f"not take: {facts['refused_by_full_disk']}. Events lost: {lost}; "
            f"log lines dropped: {facts['log_dropped']}; "
            f"peak memory of all processes (PSS): {facts['peak_pss_kib'] / 1024:.0f} MiB.",
            "",
            "| bar | | got |",
            "|---|---|---|",
            *(f"| {one['bar']} | {'holds' if one['holds'] else '**missed**'} | {_cell(one['got'])} |"
              for one in facts["bars"]),
            "",
            "| first byte | count | p50 ms | p99 ms | worst ms | worst ms, no fault near |",
            "|---|---|---|---|---|---|",
            *_first_rows(facts),
            "",
            "| fault | times | worst seconds until everything served again |",
            "|---|---|---|",
            *(f"| {kind} | {one['times']} | {one['worst_s']} |" for kind, one in sorted(facts["faults"].items())),
            "",
            "| process | judged s | memory KiB (median) | growth KiB | PSS KiB | descriptors | mappings |",
            "|---|---|---|---|---|---|---|",
            *_growth_rows(facts["growth"]),
            "",
            f"Above info in the log: {log}.",
        ]
    )  # fmt: skip


def _cell(got: str) -> str:
    return got.replace("|", "\\|").replace("\n", " ")[:600]


def _first_rows(facts: dict[str, Any]) -> list[str]:
    rows = []
    for what, one in sorted(facts["first_byte"].items()):
        calm = facts["first_byte_calm"].get(what, {}).get("worst_ms", "-")
        rows.append(f"| {what} | {one['count']} | {one['p50_ms']} | {one['p99_ms']} | {one['worst_ms']} | {calm} |")
    return rows


def _growth_rows(growth: list[dict[str, Any]]) -> list[str]:
    """Of each service the incarnation that lived longest, and the one that grew most."""
    chosen: dict[tuple[str, int, int], dict[str, Any]] = {}
    for service in sorted({one["who"][0] for one in growth}):
        mine = [one for one in growth if one["who"][0] == service]
        for one in (max(mine, key=lambda one: one["seconds"]), max(mine, key=lambda one: one["private"])):
            chosen[tuple(one["who"])] = one
    return [
        f"| {who[0]}.{who[1]} | {one['seconds']:.0f} | {one['level']:.0f} | {one['private']:+.0f} | {one['pss']:.0f} "
        f"| {one['fds']:+d} | {one['maps']:+d} |"
        for who, one in chosen.items()
    ]
