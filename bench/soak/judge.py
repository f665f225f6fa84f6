"""What a soak is judged by: which broken attempts a fault explains, what grows, and the bars. Pure.

An attempt that breaks is excused only by a fault that breaks exactly such attempts at exactly that time. A transfer has
failed when one of its attempts broke without an excuse, even if the next one worked; or when four attempts broke for
whatever reason but a full disk, which rightly refuses uploads.
"""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

GOOD = ("get", "put", "list", "boot", "idle")


KINDS = ("tftp get", "tftp put", "tftp boot", "ftp get", "ftp put", "ftp boot", "ftp list", "ftp idle")


@dataclass(frozen=True, slots=True)
class Excuse:
    """A fault breaks attempts of this protocol and these kinds that overlap t0..t1, if they end with one of `words`.

    `before`: only those that had begun by then.
    """

    fault: str
    protocol: str
    kinds: tuple[str, ...]
    t0: float
    t1: float
    words: tuple[str, ...] = ("",)
    before: float = float("inf")

    def covers(self, record: dict[str, Any], attempt: Sequence[Any]) -> bool:
        began, ended, how = attempt[:3]
        here = self.protocol == record["p"] and record["k"] in self.kinds
        then = began <= min(self.t1, self.before) and ended >= self.t0
        return here and then and any(how.startswith(word) for word in self.words)


@dataclass(slots=True)
class Tally:
    """What came of the transfers."""

    good: Counter[str] = field(default_factory=Counter)  # "tftp get" -> how many worked
    size: Counter[str] = field(default_factory=Counter)  # protocol -> bytes
    retried: Counter[str] = field(default_factory=Counter)  # fault -> attempts that it broke
    refused: int = 0  # uploads that a full disk did not take
    failed: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    mixed: list[str] = field(default_factory=list)  # kernel and initrd of two releases, or of none that was published
    pairs: int = 0
    left: int = 0  # clients that went away
    firsts: list[tuple[float, float, str]] = field(default_factory=list)  # seconds, when, what


def tally(records: Iterable[dict[str, Any]], excuses: Sequence[Excuse], releases: dict[str, int]) -> Tally:
    """Count. `releases`: digest of a published file -> the release it belongs to."""
    found = Tally()
    for record in records:
        what = f"{record['p']} {record['k']}"
        if record["k"] == "abort":
            found.left += 1
        elif record["k"] == "pair":
            found.pairs += 1
            numbers = {releases.get(sha) for sha in record["pair"]}
            if len(numbers) != 1 or None in numbers:
                found.mixed.append(f"{what} at {record['t0']:.1f}: releases {numbers}")
        else:
            _one(found, record, what, excuses)
    return found


def _one(found: Tally, record: dict[str, Any], what: str, excuses: Sequence[Excuse]) -> None:
    full = 0
    for attempt in record["tries"]:
        fault = next((one.fault for one in excuses if one.covers(record, attempt)), "")
        if not fault:
            found.failed.append(
                f"{what} {record['n']} {attempt[0]:.1f}..{attempt[1]:.1f}: {attempt[2]}{_stood(attempt)}"
            )
        else:
            found.retried[fault] += 1
            full += fault == "disk full"
    if not record["ok"]:
        if full:
            found.refused += 1
        elif not any(what in line and f"{record['tries'][-1][0]:.1f}.." in line for line in found.failed[-4:]):
            found.failed.append(f"{what} {record['n']}: given up after {len(record['tries'])} attempts")
        return
    found.good[what] += 1
    found.size[record["p"]] += record.get("bytes", 0)
    if record.get("wrong"):
        found.wrong.append(f"{what} {record['n']} at {record['t0']:.1f}")
    if "first" in record:
        found.firsts.append((record["first"], record["t1"], what))
    if "greeted" in record:
        found.firsts.append((record["greeted"], record["t1"], "ftp greeting"))


def _stood(attempt: Sequence[Any]) -> str:
    """Whether the client itself stood still meanwhile. It explains a failure, and excuses none."""
    if len(attempt) < 4:
        return ""
    stood_s, waited_s, worked_s = attempt[3]
    if not stood_s:
        return " (the client's program never stood still)"
    why = "" if waited_s is None else f": {waited_s:g} s without a processor, {worked_s:g} s at work"
    return f" (the client's program stood still for {stood_s:g} s at once{why})"


@dataclass(frozen=True, slots=True)
class Sample:
    """One process at one moment. `private` is anonymous memory in KiB: what only this process can make grow."""

    t: float
    who: tuple[str, int, int]  # service, index, pid: one incarnation
    private: int
    pss: int
    rss: int
    fds: int
    maps: int


@dataclass(frozen=True, slots=True)
class Growth:
    """What one incarnation gained from the end of its warm-up to its end, by the slope of Theil and Sen."""

    who: tuple[str, int, int]
    seconds: float
    private: float  # KiB over these seconds
    level: float  # KiB, median
    pss: float  # KiB, median
    fds: int  # low water of the last third above that of the first
    maps: int
    may: float  # KiB that `private` may be
    may_fds: int


def slope(points: Sequence[tuple[float, float]]) -> float:
    """The median of the slopes between all pairs (Theil 1950, Sen 1968): an outlier in four does not move it."""
    found = [
        (y2 - y1) / (x2 - x1) for n, (x1, y1) in enumerate(points) for x2, y2 in points[n + 1 :] if x2 > x1
    ]  # fmt: skip
    return statistics.median(found) if found else 0.0


def growth(
    samples: Iterable[Sample],
    warm_s: float,
    least_s: float,
    filling: Mapping[str, float] = MappingProxyType({}),
    kept: Mapping[str, tuple[int, float]] = MappingProxyType({}),
) -> list[Growth]:
    """Of each incarnation that was seen for at least `least_s` after its first `warm_s`.

    `filling`: service -> KiB of its caches, where the warm-up is too short for them to be full. `kept`: service ->
    sockets that it keeps when a crowd has left, and for how many seconds: a third that is shorter has no low water. A
    longer one has that of the crowd of its stillest minute, which comes and goes by KEPT_SWING.
    """
    lives: dict[tuple[str, int, int], list[Sample]] = defaultdict(list)
    for sample in samples:
        lives[sample.who].append(sample)
    found = []
    for who, life in lives.items():
        judged = [sample for sample in life if sample.t >= life[0].t + warm_s]
        span = judged[-1].t - judged[0].t if judged else 0.0
        if span < least_s or len(judged) < 6:
            continue
        points = [(sample.t, float(sample.private)) for sample in _thinned(judged)]
        third = max(1, len(judged) // 3)
        gained = {
            name: min(getattr(one, name) for one in judged[-third:]) - min(getattr(one, name) for one in judged[:third])
            for name in ("fds", "maps")
        }
        level = statistics.median(sample.private for sample in judged)
        pss = statistics.median(sample.pss for sample in judged)
        sockets, for_s = kept.get(who[0], (0, 0.0))
        swing = min(sockets, KEPT_SWING) if span / 3 >= for_s else sockets
        may = may_grow(span) + filling.get(who[0], 0.0), MORE_FDS + swing
        found.append(Growth(who, span, slope(points) * span, level, pss, gained["fds"], gained["maps"], *may))
    return found


def _thinned(samples: Sequence[Sample], most: int = 200) -> Sequence[Sample]:
    return samples[:: max(1, len(samples) // most)]


# 1 KiB lost with each transfer is 1 to 2 MiB in ten minutes, in each worker. Pages that Python's allocator and glibc's
# arenas take at a new high of the load are given back late or never: that is the first number, found by soaks without
# any growth. The second is the slope that a long run must stay below.
GREW_KIB, GREW_KIB_PER_H = 768.0, 512.0
MORE_FDS, MORE_MAPS = 8, 16
# Sockets kept for the next transfers are as many as the stillest minute needed: among 15 incarnations of an hour, 14
# fewer to 12 more, 0.7 fewer on average. A leak goes one way in all of them, and stays when nobody is there.
KEPT_SWING, MEAN_FDS = 24, 4.0


def may_grow(seconds: float) -> float:
    """KiB of anonymous memory that an incarnation may gain in this time."""
    return GREW_KIB + GREW_KIB_PER_H * seconds / 3600


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of all lies below; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """One bar: `got` as text, and whether it holds."""

    bar: str
    got: str
    holds: bool


PATIENCE_S = 10.0
_ENOUGH = 6


def verdicts(facts: dict[str, Any], found: Tally, grown: Sequence[Growth]) -> list[Verdict]:
    """Every bar that a soak has."""
    worst = max((one[0] for one in found.firsts), default=0.0)
    fat = [one for one in grown if one.private > one.may]
    keeping = [one for one in grown if one.fds > one.may_fds or one.maps > MORE_MAPS]

    def none(bar: str, what: Sequence[str]) -> Verdict:
        return Verdict(bar, f"{len(what)}" + "".join(f"; {one}" for one in what[:3]), not what)

    return [
        none("what was not even tried, clients that ended badly: none", facts["too_few"]),
        none("failed good transfers: none", found.failed),
        none("wrong bytes: none", found.wrong),
        none("boots that mix two releases: none", found.mixed),
        none("memory growth after warm-up: none", [_fat(one) for one in fat]),
        none("descriptors or mappings kept: none", [_keeping(one) for one in keeping]),
        none(f"descriptors kept on average: at most {MEAN_FDS:g}", _drifting(grown)),
        none("descriptors kept when all have left: none", facts["kept_at_rest"]),
        none("exceptions in the log: none", facts["exceptions"]),
        none("unexpected errors and warnings in the log: none", facts["unexpected"]),
        none("zombies and processes nobody knows: none", facts["zombies"]),
        none("files left behind: none", facts["leftovers"]),
        none("sessions and transfers still counted at rest: none", facts["at_rest"]),
        none("faults that were not overcome in time: none", facts["not_overcome"]),
        Verdict(f"worst first byte: at most {PATIENCE_S:g} s", f"{worst:.2f} s", worst <= PATIENCE_S),
        Verdict("ended when asked to: exit code 0", str(facts["exit_code"]), facts["exit_code"] == 0),
    ]


def _drifting(grown: Sequence[Growth]) -> list[str]:
    """Services whose incarnations gain descriptors taken together, where there are enough for chance to even out."""
    gained: dict[str, list[int]] = defaultdict(list)
    for one in grown:
        gained[one.who[0]].append(one.fds)
    means = {service: statistics.mean(all_) for service, all_ in gained.items() if len(all_) >= _ENOUGH}
    return [f"{service} {mean:+.1f}" for service, mean in means.items() if mean > MEAN_FDS]


def above(level: Mapping[tuple[str, int, int], int], fresh: Mapping[str, int], kept: Mapping[str, int]) -> list[str]:
    """Processes with more descriptors than one of their service had before anybody came. `kept`: what may stay."""
    return [
        f"{service}.{index} ({pid}): {fds} descriptors, {fresh[service]} when fresh"
        for (service, index, pid), fds in level.items()
        if service in fresh and fds > fresh[service] + MORE_FDS + kept.get(service, 0)
    ]


def _fat(one: Growth) -> str:
    return f"{_name(one)} {one.private:+.0f} KiB in {one.seconds:.0f} s (may {one.may:.0f})"


def _keeping(one: Growth) -> str:
    return f"{_name(one)} {one.fds:+d} descriptors, {one.maps:+d} mappings in {one.seconds:.0f} s"


def _name(one: Growth) -> str:
    service, index, pid = one.who
    return f"{service}.{index} ({pid})"
