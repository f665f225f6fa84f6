from __future__ import annotations

import os
from pathlib import Path

import pytest

from appliance.cli import configuration
from appliance.cli.configuration import Found
from appliance.errors import ConfigError
from appliance.settings.main import Settings


def test_a_person_is_told_which_configuration_is_used(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = configuration.find(str(config), quiet=False)
    assert capsys.readouterr().err == f"configuration: {config}\n"
    assert (found.name, found.embedded) == (str(config), False)


def test_json_is_not_disturbed_by_it(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    configuration.find(str(config), quiet=True)
    assert capsys.readouterr() == ("", "")


def test_a_relative_path_is_told_whole(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(config.parent)
    assert configuration.find(config.name, quiet=True).name == str(config)


def test_without_a_file_it_is_the_embedded_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.path.exists("/etc/appliance/appliance.yaml"):
        pytest.skip("this machine has a configuration of its own")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    found = configuration.find(None, quiet=True)
    assert found.embedded
    settings, warnings = found.load()
    assert settings.state_dir == f"{tmp_path}/appliance"
    assert warnings == []


def test_a_missing_file_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        configuration.find(str(tmp_path / "missing.yaml"), quiet=True)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (b"run_dir: /run/a\nx: 1\n", "/run/a"),
        (b'x: 1\nrun_dir: "/run/a b"  # here\r\n', "/run/a b"),
        (b"run_dir: '/run/a'\nx: [\n", "/run/a"),
        (b"x: 1\n", Settings().run_dir),
        (b"x:\n  run_dir: /run/other\n", Settings().run_dir),
        (b"run_dir: relative\n", Settings().run_dir),
    ],
)
def test_the_run_dir_of_a_broken_file_is_still_found(text: bytes, place: str) -> None:
    assert Found("broken.yaml", [("broken.yaml", text)]).run_dir() == place


def test_the_last_of_several_broken_documents_counts() -> None:
    documents = [("a.yaml", b"x: 1\nrun_dir: /run/a\n"), ("b.yaml", b"run_dir: /run/b\n")]
    assert Found("a.yaml", documents).run_dir() == "/run/b"
