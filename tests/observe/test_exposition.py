"""observe.exposition and observe.scrape: valid by the reference parser, bounded, and deaf to what is asked."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from appliance.observe import exposition, scrape, tables
from appliance.observe.exposition import BUCKETS, EDGES_MS, render

ROOT = Path(__file__).parents[2]


ID = "20260131-140500-01234567"


def facts(**changes: Any) -> dict[str, Any]:
    worker = {"active": 3, "state": "serving"}
    totals = {"transfers": 10, "bytes": 5000, "refused": 9, "refused_missing": 4, "restarts": 2, "took_ms": 12500,
              "le_10ms": 6, "le_1000ms": 3, "le_inf": 1}  # fmt: skip
    services = {
        "tftp": {"workers": [worker, {**worker, "state": "backoff"}], "totals": totals, "release": ID},
        "custody": {"workers": [worker], "totals": {}, "box": {"used_bytes": 7, "quota_bytes": 100, "files": 2}},
        "status": {"workers": [worker], "totals": {}, "release": None},
    }  # fmt: skip
    problems = [{"severity": "error", "what": "x", "remedy": "y"}]
    return {
        "version": "1.0",
        "ready": True,
        "uptime_s": 3.5,
        "services": services,
        "problems": problems,
        "bans": [1],
        **changes,
    }


def samples(document: dict[str, Any]) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    found = {}
    for family in text_string_to_metric_families(render(document)):
        assert family.documentation
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in found
            found[key] = sample.value
    return found


def value(name: str, **labels: str) -> float:
    return samples(facts())[name, tuple(sorted(labels.items()))]


def test_the_reference_parser_reads_what_is_rendered() -> None:
    assert value("appliance_ready") == 1
    assert value("appliance_build_info", version="1.0") == 1
    assert value("appliance_bytes_total", service="tftp") == 5000
    assert value("appliance_worker_restarts_total", service="tftp") == 2
    assert value("appliance_active", service="tftp") == 6
    assert value("appliance_workers", service="tftp", state="backoff") == 1
    assert value("appliance_problems", severity="error") == 1
    assert value("appliance_uploads_quota_bytes", service="custody") == 100
    assert value("appliance_release_info", service="tftp", release="20260131-140500-01234567") == 1
    assert value("appliance_release_timestamp_seconds", service="tftp") == 1769868300


def test_refusals_add_up_over_their_reasons() -> None:
    counts = [value("appliance_refused_total", service="tftp", reason=reason) for reason in exposition.REASONS]
    assert counts == [4, 0, 0, 5]


def test_durations_are_a_histogram_whose_buckets_grow() -> None:
    name = "appliance_transfer_duration_seconds"
    assert value(f"{name}_bucket", service="tftp", le="0.01") == 6
    assert value(f"{name}_bucket", service="tftp", le="1.0") == 9
    assert value(f"{name}_bucket", service="tftp", le="+Inf") == value(f"{name}_count", service="tftp") == 10
    assert value(f"{name}_sum", service="tftp") == 12.5
    assert not any(key[0] == f"{name}_count" and ("service", "status") in key[1] for key in samples(facts()))


@given(st.text(), st.text())
def test_no_text_breaks_out_of_its_label(version: str, release: str) -> None:
    document = facts(version=version)
    document["services"]["tftp"]["release"] = release or "x"
    assert ("appliance_ready", ()) in samples(document)


def test_the_number_of_series_depends_on_the_configuration_alone() -> None:
    busy = facts(bans=list(range(1000)), problems=[{"severity": "warning"}] * 50)
    assert len(samples(busy)) == len(samples(facts()))


def test_a_duration_is_counted_in_its_bucket() -> None:
    descriptor = tables.create("test")
    counters, reader = tables.Counters(descriptor), tables.Reader(descriptor)
    for milliseconds in (0, EDGES_MS[0], EDGES_MS[0] + 1, EDGES_MS[-1], EDGES_MS[-1] + 1):
        counters.took(milliseconds)
    found = reader.snapshot()
    assert [found[name] for name in BUCKETS] == [2, 1, 0, 0, 0, 0, 0, 0, 1, 1]
    assert found["took_ms"] == sum((0, 10, 11, 600_000, 600_001))
    counters.refuse("missing")
    counters.refuse()
    found = reader.snapshot()
    assert (found["refused"], found["refused_missing"]) == (2, 1)
    reader.close()


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", None),
        (b"GET / HTTP/1.0\r\n\r\n", None),
        (b"HEAD /metrics?x=1 HTTP/1.1\n\n", None),
        (b"POST /metrics HTTP/1.1\r\n\r\n", b"405"),
        (b"GET /etc/passwd HTTP/1.1\r\n\r\n", b"404"),
        (b"\x16\x03\x01\r\n\r\n", b"400"),
        (b"GET /metrics\r\n\r\n", b"400"),
        (b"GET /" + b"x" * 9000, b"431"),
    ],
)
def test_one_page_is_served_and_nothing_of_the_question_comes_back(head: bytes, status: bytes | None) -> None:
    assert scrape.complete(head)
    refusal = scrape.refusal(head)
    if status is None:
        assert refusal is None
        answer = scrape.answer(head, b"text", "text/plain")
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"Content-Length: 4\r\n" in answer
        assert answer.endswith(b"\r\n\r\n" if head.startswith(b"HEAD") else b"\r\n\r\ntext")
    else:
        assert refusal is not None
        assert refusal.startswith(b"HTTP/1.1 " + status)
        assert b"passwd" not in refusal


def test_half_a_head_is_waited_for() -> None:
    assert not scrape.complete(b"GET /metrics HTTP/1.1\r\nHost:")


def metrics() -> set[str]:
    return {key[0] for key in samples(facts())} | {"up"}


def test_alerts_and_dashboard_ask_for_metrics_that_exist() -> None:
    dashboard = json.loads((ROOT / "config/observe/grafana.json").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    asked += re.findall(
        r"expr: (?:>-\n)?(.*?)\n(?:        for|        labels)", (ROOT / "config/observe/alerts.yaml").read_text(), re.S
    )
    assert len(asked) > 15
    names = {name for expression in asked for name in re.findall(r"\bappliance_\w+", expression)}
    assert names - metrics() == set()
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


@pytest.mark.slow
def test_promtool_finds_nothing_wrong_with_the_alerts() -> None:
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("needs promtool (Debian: prometheus)")
    checked = subprocess.run(
        [tool, "check", "rules", str(ROOT / "config/observe/alerts.yaml")], capture_output=True, text=True, timeout=60
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
