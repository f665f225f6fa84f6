from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Call, act_server


@pytest.mark.parametrize("word", ["reload", "drain", "stop"])
def test_the_word_goes_to_the_supervisor_and_its_lines_come_back(
    call: Call, config: Path, run_dir: Path, word: str
) -> None:
    with act_server(run_dir, b"one", b"two", b"ok") as heard:
        said = call(word, "-c", config)
    assert (said.code, said.out) == (0, "one\ntwo\n")
    assert heard == [word.encode()]
    assert said.err == f"configuration: {config}\n"


@pytest.mark.parametrize(("outcome", "code"), [("ok", 0), ("failed", 1), ("config", 2)])
def test_the_outcome_is_the_exit_code(call: Call, config: Path, run_dir: Path, outcome: str, code: int) -> None:
    with act_server(run_dir, b"because", outcome.encode()):
        assert call("reload", "-c", config).code == code


def test_json_tells_configuration_outcome_and_lines(call: Call, config: Path, run_dir: Path) -> None:
    with act_server(run_dir, b"a.yaml:1:1: x: bad", b"config"):
        said = call("reload", "--json", "-c", config)
    assert said.json() == {"config": str(config), "outcome": "config", "lines": ["a.yaml:1:1: x: bad"]}
    assert (said.code, said.err) == (2, "")


def test_a_broken_configuration_is_judged_by_the_running_supervisor(call: Call, tmp_path: Path, run_dir: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text(f"run_dir: {run_dir}  # here\ntftpp: {{}}\n")
    with act_server(run_dir, b"broken.yaml:2:1: tftpp: unknown key", b"nothing was changed", b"config"):
        said = call("reload", "-c", broken)
    assert said.code == 2
    assert said.out == "broken.yaml:2:1: tftpp: unknown key\nnothing was changed\n"


def test_nobody_there_is_a_failure(call: Call, config: Path, run_dir: Path) -> None:
    said = call("drain", "-c", config)
    assert said.code == 1
    assert said.err.endswith(f"appliance: not running (no supervisor on {run_dir})\n")


def test_the_wait_is_bounded(call: Call, config: Path, run_dir: Path) -> None:
    with act_server(run_dir):  # hears, says nothing, leaves
        assert call("stop", "-c", config, "--timeout", "5").code == 1
