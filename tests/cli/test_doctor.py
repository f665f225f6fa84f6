"""`appliance doctor`: what is well, what is not, and the command that mends it."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest

from appliance.cli import doctor
from appliance.settings.main import Settings
from appliance.settings.tftp import TftpSettings
from tests.cli.conftest import Call


def chain(policy: str) -> dict[str, Any]:
    return {"chain": {"family": "inet", "table": "filter", "name": "input", "hook": "input", "policy": policy}}


def rule(*ports: object) -> dict[str, Any]:
    right = ports[0] if len(ports) == 1 else {"set": list(ports)}
    left = {"payload": {"protocol": "udp", "field": "dport"}}
    return {"rule": {"expr": [{"match": {"op": "==", "left": left, "right": right}}, {"accept": None}]}}


def test_a_firewall_that_drops_is_held_against_the_ports() -> None:
    settings = Settings()
    assert list(doctor.judged([chain("accept")], settings)) == []
    open_ones = [chain("drop"), rule(69), rule(21, {"range": [61000, 65535]})]
    assert list(doctor.judged(open_ones, settings)) == []
    found = list(doctor.judged([chain("drop"), rule(69)], settings))
    assert {one.what for one in found} == {
        "the firewall drops, and no rule names tcp 21 (ftp)",
        "the firewall drops, and no rule names tcp 61000-65535 (ftp)",
    }
    assert {one.remedy for one in found} == {"appliance firewall nft"}
    no_ftp = dataclasses.replace(settings, tftp=TftpSettings(listen=("0.0.0.0:0",)))
    assert all("tftp" not in one.what for one in doctor.judged([chain("drop")], no_ftp))


def test_a_clock_before_the_program_was_made_is_told() -> None:
    (wrong,) = doctor._clock(0.0)
    assert (wrong.state, wrong.what) == ("error", "it says 1970-01-01, before this program was made")
    assert "timedatectl" in wrong.remedy
    (right,) = doctor._clock()
    assert right.state == "ok"


def test_what_does_not_run_is_an_error_with_its_remedy(call: Call, tmp_path: Path) -> None:
    for name in ("tftp", "ftp"):
        (tmp_path / name).mkdir()
    config = tmp_path / "a.yaml"
    config.write_text(
        f"run_dir: {tmp_path}/run\nstate_dir: {tmp_path}/state\n"
        f'tftp: {{root: {tmp_path}/tftp, listen: ["127.0.0.1:0"]}}\n'
        f'ftp: {{root: {tmp_path}/ftp, listen: ["127.0.0.1:0"], active: {{source_port: 0}}}}\n'
    )
    done = call("doctor", "-c", config, "--json")
    assert done.code == 1
    said = done.json()
    running = [one for one in said["findings"] if one["check"] == "running"]
    assert [one["state"] for one in running] == ["error"] and "systemctl start appliance" in running[0]["remedy"]
    assert "error   running: not running" in call("doctor", "-c", config).out


def test_the_address_of_the_network_is_asked_for_a_listener_on_all() -> None:
    assert doctor._outward("127.0.0.1") == "127.0.0.1"
    assert doctor._outward("0.0.0.0") is None or "." in str(doctor._outward("0.0.0.0"))


def test_an_older_build_that_runs_is_told() -> None:
    (ready, version) = doctor._running({"ready": True, "problems": [], "version": "0.0.1"})
    assert ready.state == "ok" and version.remedy == "systemctl restart appliance"


@pytest.mark.slow
def test_a_running_appliance_is_well_and_answers(tmp_path: Path) -> None:
    from tests.system.running import appliance

    with appliance(tmp_path) as made:
        done = made.verb("doctor", "--json")
        said = json.loads(done.stdout)
    states = {one["check"]: one["state"] for one in said["findings"]}
    assert (states["running"], states["tftp"], states["ftp"], states["clock"]) == ("ok",) * 4
    assert any("a passive connection came through" in one["what"] for one in said["findings"]), os.environ
