"""The facts as OpenMetrics 1.0 text, which Prometheus scrapes. Pure.

Names and labels are fixed: services, workers' states, reasons and releases; no client and no file ever becomes a label,
so the number of series is bounded by the configuration.
"""

from __future__ import annotations

import re
from calendar import timegm
from collections.abc import Iterator, Mapping
from typing import Any

CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
EDGES_MS = (10, 50, 100, 500, 1000, 5000, 10_000, 60_000, 600_000)  # the buckets of durations; the last is beyond
BUCKETS = (*(f"le_{edge}ms" for edge in EDGES_MS), "le_inf")
REASONS = ("missing", "denied", "limit", "other")
_COUNTERS = (
    ("transfers", "transfers", "Transfers that ended well."),
    ("failed", "transfers_failed", "Transfers that ended without success."),
    ("bytes", "bytes", "Payload moved, both directions."),
    ("retransmits", "retransmits", "TFTP blocks sent again."),
    ("dropped", "dropped", "Datagrams or connections that were not answered."),
    ("crashes", "crashes", "Exceptions that were caught: each is a defect."),
    ("log_dropped", "log_lines_dropped", "Log lines that nobody was ready to read."),
    ("events_lost", "events_lost", "Events that were not told, or not kept."),
)
_ID = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})-([0-9]{2})([0-9]{2})([0-9]{2})-")  # of a release: when it was made
_LABEL = re.compile(r"[\\\"\n]")
_ESCAPES = {"\\": r"\\", '"': r"\"", "\n": r"\n"}


def render(facts: Mapping[str, Any]) -> str:
    """The document that `status` shows, as OpenMetrics text."""
    services: dict[str, Any] = facts["services"]
    return "\n".join([*_whole(facts), *_counters(services), *_durations(services), *_gauges(services), "# EOF", ""])


def _whole(facts: Mapping[str, Any]) -> Iterator[str]:
    yield from _head("appliance_build", "info", "The program that runs.")
    yield f'appliance_build_info{{version="{_text(facts["version"])}"}} 1'
    yield from _head("appliance_ready", "gauge", "1 while every listener of every service is served.")
    yield f"appliance_ready {int(facts['ready'])}"
    yield from _head("appliance_uptime_seconds", "gauge", "Since the supervisor began.")
    yield f"appliance_uptime_seconds {facts['uptime_s']}"
    yield from _head("appliance_problems", "gauge", "What `appliance status` names as a problem now.")
    for severity in ("error", "warning"):
        count = sum(problem["severity"] == severity for problem in facts["problems"])
        yield f'appliance_problems{{severity="{severity}"}} {count}'
    yield from _head("appliance_bans", "gauge", "Clients that are not served now.")
    yield f"appliance_bans {len(facts['bans'])}"


def _counters(services: Mapping[str, Any]) -> Iterator[str]:
    for name, metric, text in _COUNTERS:
        yield from _head(f"appliance_{metric}", "counter", text)
        for service, total in _totals(services):
            yield f'appliance_{metric}_total{{service="{service}"}} {total.get(name, 0)}'
    yield from _head("appliance_refused", "counter", "Requests answered with a refusal.")
    for service, total in _totals(services):
        known = {reason: total.get(f"refused_{reason}", 0) for reason in REASONS[:-1]}
        known["other"] = max(0, total.get("refused", 0) - sum(known.values()))
        for reason, count in known.items():
            yield f'appliance_refused_total{{service="{service}",reason="{reason}"}} {count}'
    yield from _head("appliance_worker_restarts", "counter", "Workers that died and were started again.")
    for service, total in _totals(services):
        yield f'appliance_worker_restarts_total{{service="{service}"}} {total.get("restarts", 0)}'


def _durations(services: Mapping[str, Any]) -> Iterator[str]:
    name = "appliance_transfer_duration_seconds"
    yield from _head(name, "histogram", "From the request to the end of a transfer, however it ended.")
    for service, total in _totals(services):
        if not any(bucket in total for bucket in BUCKETS):
            continue
        sum_so_far = 0
        edges = [*(repr(edge / 1000) for edge in EDGES_MS), "+Inf"]
        for edge, bucket in zip(edges, BUCKETS, strict=True):
            sum_so_far += total.get(bucket, 0)
            yield f'{name}_bucket{{service="{service}",le="{edge}"}} {sum_so_far}'
        yield f'{name}_count{{service="{service}"}} {sum_so_far}'
        yield f'{name}_sum{{service="{service}"}} {total.get("took_ms", 0) / 1000}'


def _gauges(services: Mapping[str, Any]) -> Iterator[str]:
    workers = [(name, one) for name, service in sorted(services.items()) for one in service.get("workers", ())]
    yield from _head("appliance_active", "gauge", "TFTP: transfers under way; FTP: sessions.")
    for name in sorted(services):
        yield f'appliance_active{{service="{_text(name)}"}} {sum(one["active"] for who, one in workers if who == name)}'
    yield from _head("appliance_workers", "gauge", "Worker processes by their state.")
    for name in sorted(services):
        states = [one["state"] for who, one in workers if who == name]
        for state in sorted({"serving", *states}):
            yield f'appliance_workers{{service="{_text(name)}",state="{_text(state)}"}} {states.count(state)}'
    boxes = [(name, service["box"]) for name, service in sorted(services.items()) if service.get("box")]
    for key, text in (("used_bytes", "Bytes of uploads that are kept."), ("quota_bytes", "Bytes that may be kept."),
                      ("files", "Uploads that are kept.")):  # fmt: skip
        yield from _head(f"appliance_uploads_{key}", "gauge", text)
        for name, box in boxes:
            yield f'appliance_uploads_{key}{{service="{_text(name)}"}} {box[key]}'
    yield from _head("appliance_release", "info", "The release in force.")
    for name, service in sorted(services.items()):
        if service.get("release"):
            yield f'appliance_release_info{{service="{_text(name)}",release="{_text(service["release"])}"}} 1'
    yield from _head("appliance_release_timestamp_seconds", "gauge", "When the release in force was made.")
    for name, service in sorted(services.items()):
        made = _ID.match(str(service.get("release") or ""))
        if made:
            seconds = timegm((*map(int, made.groups()), 0, 0, 0))
            yield f'appliance_release_timestamp_seconds{{service="{_text(name)}"}} {seconds}'


def _totals(services: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, int]]]:
    for name, service in sorted(services.items()):
        yield _text(name), service.get("totals", {})


def _head(name: str, kind: str, text: str) -> tuple[str, ...]:
    unit = tuple(f"# UNIT {name} {unit}" for unit in ("seconds", "bytes") if name.endswith(f"_{unit}"))
    return (f"# TYPE {name} {kind}", *unit, f"# HELP {name} {text}")


def _text(value: object) -> str:
    return _LABEL.sub(lambda found: _ESCAPES[found[0]], str(value))
