from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from tests.cli.conftest import Call, facts, status_server


def text(**changes: object) -> bytes:
    return json.dumps(facts(**changes)).encode()


def test_ready_is_exit_code_0_with_the_table(call: Call, config: Path, run_dir: Path) -> None:
    with status_server(run_dir, text()):
        said = call("status", "-c", config)
    assert said.code == 0
    assert said.out.startswith("ready: appliance 0.1.0, pid 4200")
    assert "4242" in said.out
    assert said.err == f"configuration: {config}\n"


def test_not_ready_is_exit_code_1_with_the_problems(call: Call, config: Path, run_dir: Path) -> None:
    problem = {"severity": "error", "what": "ftp is down", "remedy": "look"}
    with status_server(run_dir, text(ready=False, state="starting", problems=[problem])):
        said = call("status", "-c", config)
    assert said.code == 1
    assert "NOT READY (starting)" in said.out
    assert "error: ftp is down (look)" in said.out


def test_json_goes_through_unchanged_with_what_this_version_does_not_know(
    call: Call, config: Path, run_dir: Path
) -> None:
    document = text(novel={"x": [1, 2]})
    with status_server(run_dir, document):
        said = call("status", "--json", "-c", config)
    assert (said.code, said.out, said.err) == (0, document.decode() + "\n", "")


def test_nobody_there_is_told_for_people_and_programs(call: Call, config: Path, run_dir: Path) -> None:
    said = call("status", "-c", config)
    assert (said.code, said.out) == (1, f"not running (no supervisor on {run_dir})\n")
    said = call("status", "-c", config, "--json")
    assert said.code == 1
    assert said.json()["ready"] is False
    assert said.json()["config"] == str(config)
    assert said.json()["problems"][0]["what"] == f"not running (no supervisor on {run_dir})"


def test_wait_ends_as_soon_as_everything_serves(call: Call, config: Path, run_dir: Path) -> None:
    waiting = text(ready=False)
    with status_server(run_dir, waiting, waiting, text(pid=77)):
        said = call("status", "--wait", "60", "-c", config)
    assert said.code == 0
    assert "pid 77" in said.out


def test_wait_also_waits_for_a_supervisor_to_come(call: Call, config: Path, run_dir: Path) -> None:
    asked = threading.Event()
    answered = threading.Event()

    def come() -> None:
        asked.wait(30)
        with status_server(run_dir, text()):
            answered.wait(30)

    thread = threading.Thread(target=come)
    thread.start()
    threading.Timer(0.3, asked.set).start()
    try:
        assert call("status", "--wait", "60", "-c", config).code == 0
    finally:
        answered.set()
        thread.join(40)


def test_wait_tells_the_last_state_when_the_time_is_over(call: Call, config: Path, run_dir: Path) -> None:
    with status_server(run_dir, text(ready=False, state="starting")):
        said = call("status", "--wait", "0.3", "-c", config)
    assert said.code == 1
    assert "NOT READY (starting)" in said.out


def test_wait_without_a_supervisor_is_bounded(call: Call, config: Path) -> None:
    said = call("status", "--wait", "0.2", "-c", config)
    assert said.code == 1
    assert said.out.startswith("not running")


@pytest.mark.parametrize("answer", [b"", b"{", b"[]", b'{"ready": true}'])
def test_an_answer_that_is_no_status_is_told(call: Call, config: Path, run_dir: Path, answer: bytes) -> None:
    with status_server(run_dir, answer):
        said = call("status", "-c", config)
    assert said.code == 1
    assert said.out.endswith("answers something that is no status\n")


def test_a_broken_configuration_does_not_hide_a_running_appliance(call: Call, tmp_path: Path, run_dir: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text(f'tftpp: {{}}\nrun_dir: "{run_dir}"\n')
    with status_server(run_dir, text()):
        said = call("status", "-c", broken)
    assert said.code == 0
    assert f"{broken}: 1 error(s), `appliance check` tells them; asking at {run_dir}" in said.err


def test_a_missing_configuration_is_exit_code_2(call: Call, tmp_path: Path) -> None:
    said = call("status", "-c", tmp_path / "missing.yaml")
    assert said.code == 2
    assert "missing.yaml" in said.err
