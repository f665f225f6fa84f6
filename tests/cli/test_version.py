from __future__ import annotations

import json
from pathlib import Path

from appliance import __version__
from tests.cli.conftest import Call, facts, status_server


def test_the_version_is_one_line(call: Call) -> None:
    said = call("version")
    assert (said.code, said.out, said.err) == (0, f"appliance {__version__}\n", "")


def test_json_has_the_same(call: Call) -> None:
    assert call("version", "--json").json() == {"version": __version__}


def test_with_a_configuration_it_also_tells_what_runs(call: Call, config: Path, run_dir: Path) -> None:
    with status_server(run_dir, json.dumps(facts(version="0.0.9")).encode()):
        assert call("version", "-c", config).out == f"appliance {__version__} (0.0.9 is running)\n"
        said = call("version", "-c", config, "--json")
    assert said.json() == {"config": str(config), "version": __version__, "running": "0.0.9"}


def test_nothing_running_is_no_failure(call: Call, config: Path) -> None:
    said = call("version", "-c", config)
    assert (said.code, said.out) == (0, f"appliance {__version__} (none is running)\n")


def test_an_unknown_answer_is_a_failure(call: Call, config: Path, run_dir: Path) -> None:
    with status_server(run_dir, b"[]"):
        assert call("version", "-c", config).code == 1
