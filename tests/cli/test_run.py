from __future__ import annotations

import os
from pathlib import Path

import pytest

from appliance.cli import configuration, demo, run
from appliance.settings import load
from tests.cli.conftest import Call


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The command lines that `run` would have become."""
    seen: list[list[str]] = []

    def execv(path: str, argv: list[str]) -> None:
        assert path == argv[0]
        seen.append(argv)

    monkeypatch.setattr(os, "execv", execv)
    return seen


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user with an empty state folder."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(demo, "BIG", 1 << 20)
    if os.path.exists("/etc/appliance/appliance.yaml"):
        pytest.skip("this machine has a configuration of its own")
    return tmp_path / "state" / "appliance"


def options(argv: list[str]) -> dict[str, str]:
    words = argv[argv.index("appliance.supervise.main") + 1 :]
    return dict(zip(words[::2], words[1::2], strict=True))


def test_with_a_file_the_supervisor_is_told_its_whole_path(
    call: Call, config: Path, executed: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(config.parent)
    assert call("run", "-c", config.name).code == 0
    told = options(executed[0])
    assert (told["--config"], told["--name"]) == (str(config), str(config))
    assert told["--banner"].count("\n") == 1


def test_a_file_that_is_missing_is_exit_code_2_and_nothing_is_started(
    call: Call, tmp_path: Path, executed: list[list[str]]
) -> None:
    assert call("run", "-c", tmp_path / "missing.yaml").code == 2
    assert executed == []


def test_the_embedded_default_brings_its_files_and_becomes_a_file(
    call: Call, home: Path, executed: list[list[str]]
) -> None:
    assert call("run").code == 0
    told = options(executed[0])
    assert told["--name"] == load.EMBEDDED
    assert told["--config"] == str(home / "embedded.yaml")
    assert (home / "embedded.yaml").read_bytes() == configuration.find(None, quiet=True).documents[0][1]
    assert (home / "tree" / "hello.txt").exists()
    assert (home / "tree" / "incoming").is_dir()
    assert str(home / "tree") in told["--banner"]


def test_a_second_start_keeps_the_files_of_the_first(call: Call, home: Path, executed: list[list[str]]) -> None:
    call("run")
    (home / "tree" / "hello.txt").write_text("mine\n")
    assert call("run").code == 0
    assert (home / "tree" / "hello.txt").read_text() == "mine\n"
    assert len(executed) == 2


def test_a_state_folder_that_others_can_write_is_refused(call: Call, home: Path, executed: list[list[str]]) -> None:
    home.mkdir(parents=True)
    home.chmod(0o777)
    said = call("run")
    assert said.code == 1
    assert "is not a folder of this user alone (choose another place with XDG_STATE_HOME=DIR" in said.err
    assert executed == []


def test_a_link_in_place_of_the_state_folder_is_refused(call: Call, home: Path, executed: list[list[str]]) -> None:
    home.parent.mkdir(parents=True)
    (home.parent / "elsewhere").mkdir()
    home.symlink_to("elsewhere")
    assert call("run").code == 1
    assert executed == []


def test_the_banner_of_the_embedded_default_has_under_10_lines_and_exact_commands() -> None:
    lines = run.for_embedded("/state/tree", "appliance").splitlines()
    assert len(lines) < 10
    assert "TFTP on {tftp}, anonymous FTP on {ftp}" in lines[0]
    text = "\n".join(lines)
    for words in ("curl -o hello.txt tftp://{tftp}/hello.txt", "-T hello.txt ftp://{ftp}/incoming/", "Ctrl-C"):
        assert words in text
    assert "{confinement}" in text
    assert "  appliance status" in lines


def test_the_banner_of_a_file_has_two_lines_and_names_it() -> None:
    assert run.for_file("/etc/appliance/appliance.yaml").splitlines() == [
        "Serving by /etc/appliance/appliance.yaml: TFTP on {tftp}, FTP on {ftp}",
        "Confinement {confinement}",
    ]


def test_the_program_is_named_as_it_can_be_called_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin" / "appliance"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [str(program), "run"])
    monkeypatch.setenv("PATH", "/nowhere")
    assert run._program() == "bin/appliance"
    monkeypatch.setenv("PATH", str(program.parent))
    assert run._program() == "appliance"


def test_a_state_folder_that_cannot_be_made_is_told_with_the_way_out(
    call: Call, home: Path, executed: list[list[str]]
) -> None:
    home.parent.write_text("a file is in the way")
    said = call("run")
    assert said.code == 1
    assert said.err.startswith(f"appliance: cannot make {home}: ")
    assert "XDG_STATE_HOME=DIR, or use -c FILE" in said.err
    assert executed == []
