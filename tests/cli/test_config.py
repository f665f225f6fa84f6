from __future__ import annotations

from pathlib import Path

import pytest

from appliance.settings.main import Settings
from appliance.settings.plain import encode
from tests.cli.conftest import Call


def test_the_schema_is_a_json_schema_with_every_section(call: Call) -> None:
    said = call("config", "schema")
    assert said.code == 0
    assert {"tftp", "ftp", "run_dir"} <= said.json()["properties"].keys()


def test_show_prints_the_effective_configuration_which_can_be_used_again(
    call: Call, config: Path, tmp_path: Path
) -> None:
    said = call("config", "show", "-c", config)
    assert said.code == 0
    assert said.err.startswith(f"configuration: {config}\n")
    again = tmp_path / "again.yaml"
    again.write_text(said.out)
    assert call("config", "show", "-c", again).out == said.out


def test_show_json_has_the_values_and_their_source(call: Call, config: Path, run_dir: Path) -> None:
    plain = call("config", "show", "--json", "-c", config).json()
    assert plain["config"] == str(config)
    assert plain["settings"]["run_dir"] == str(run_dir)


def test_show_defaults_needs_no_configuration(call: Call) -> None:
    assert call("config", "show", "--defaults", "--json").json() == {
        "config": "defaults",
        "settings": encode(Settings()),
    }


def test_show_commented_explains_every_key_and_is_usable(call: Call, tmp_path: Path) -> None:
    said = call("config", "show", "--commented")
    assert said.code == 0
    assert said.out.count("#") > 20
    file = tmp_path / "commented.yaml"
    file.write_text(said.out)
    assert call("config", "show", "--json", "-c", file).json()["settings"] == encode(Settings())


@pytest.mark.parametrize("extra", [["--json"], ["--defaults"], ["-c", "x.yaml"]])
def test_commented_stands_alone(call: Call, extra: list[str]) -> None:
    assert call("config", "show", "--commented", *extra).code == 2


def test_defaults_and_a_file_are_a_contradiction(call: Call, config: Path) -> None:
    assert call("config", "show", "--defaults", "-c", config).code == 2


def test_a_bad_file_is_exit_code_2_with_its_place(call: Call, tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("tftp:\n  blksize_maxx: 9\n")
    said = call("config", "show", "-c", bad)
    assert (said.code, said.out) == (2, "")
    assert f"{bad}:2:3: tftp.blksize_maxx: " in said.err


def test_a_warning_about_the_file_is_told_beside_the_text(call: Call, tmp_path: Path) -> None:
    empty = tmp_path / "empty.yaml"
    empty.write_text("")
    said = call("config", "show", "-c", empty)
    assert said.code == 0
    assert f"{empty}: warning: " in said.err
    assert "warning" not in said.out.lower()
