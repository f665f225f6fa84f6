"""`check` judges the programs of hooks by the rights of their account, and each finding has its remedy."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from appliance import programs
from appliance.machine import Machine
from appliance.settings import rules
from appliance.settings.hooks import Hook
from appliance.settings.main import Settings
from tests.support import ROOT, needs_root

OURSELVES = Machine()


def hooked(*words: str, **changes: object) -> Settings:
    return replace(Settings(), observe=replace(Settings().observe, hooks=(Hook(("fault",), words),), **changes))


def found(settings: Settings, machine: Machine = OURSELVES) -> list[str]:
    return [f"{one.severity}: {one.key}: {one.what} ({one.remedy})" for one in programs.hooks(settings, machine)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for above in (*tmp_path.parents[:2], tmp_path):
        above.chmod(0o755)
    return tmp_path


def program(folder: Path, text: str = "#!/bin/sh\n", mode: int = 0o755) -> str:
    path = folder / "program"
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def test_a_program_that_can_be_run_is_no_finding(folder: Path) -> None:
    assert found(hooked("/bin/true")) == []
    if ROOT:
        assert found(hooked(program(folder))) == []


def test_a_program_that_is_not_there_or_none_is_an_error(folder: Path) -> None:
    for path in (f"{folder}/none", f"{folder}/none/none"):
        assert found(hooked(path)) == [f"error: observe.hooks[0].run: {path} is not there (ls -l {path})"]
    assert found(hooked(str(folder))) == [f"error: observe.hooks[0].run: {folder} is no program (ls -l {folder})"]


@needs_root[0]
@needs_root[1]
def test_what_the_account_may_not_enter_run_or_read_is_an_error(folder: Path) -> None:
    path = program(folder, mode=0o744)
    assert found(hooked(path)) == [f"error: observe.hooks[0].run: uid 64625 may not run {path} (chmod a+rx {path})"]
    path = program(folder, mode=0o711)
    assert "may not read the script" in found(hooked(path))[0]
    path = program(folder, "\x7fELF", mode=0o711)
    assert found(hooked(path)) == []
    folder.chmod(0o700)
    assert f"uid 64625 may not enter {folder}" in found(hooked(path))[0]


def test_a_script_without_its_interpreter_is_an_error(folder: Path) -> None:
    for first in ("#!/nonexistent/python -I\n", "#!\n"):
        path = program(folder, first)
        assert "is a script for" in found(hooked(path))[0]


def test_a_program_that_others_could_replace_is_warned_of(folder: Path) -> None:
    path = program(folder, mode=0o757)
    assert found(hooked(path))[0].startswith(f"warning: observe.hooks[0].run: {path} can be written by others")
    path = program(folder)
    folder.chmod(0o777)
    assert found(hooked(path))[0].startswith(f"warning: observe.hooks[0].run: {folder} can be written by others")
    folder.chmod(0o755)
    if ROOT:
        os.chown(path, 64625, 64625)
        assert f"{path} can be written by others" in found(hooked(path))[0]
        os.chown(path, 0, 64625)
        Path(path).chmod(0o775)
        assert f"{path} can be written by others" in found(hooked(path))[0]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755


def test_without_landlock_hooks_are_not_run_unless_the_confinement_is_best_effort(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(programs.landlock, "abi", lambda: 0)
    assert "which this kernel does not have" in found(hooked("/bin/true"))[0]
    assert found(replace(hooked("/bin/true"), confinement="best-effort")) == []


def test_the_words_of_the_configuration_are_judged_together() -> None:
    def wrong(settings: Settings) -> list[str]:
        return [finding.what for finding in rules.judge(settings)]

    assert wrong(hooked("/bin/true")) == []
    assert "'true' is not the whole path of a program" in wrong(hooked("true"))
    assert found(hooked("true")) == []  # told once
    assert "hooks live on events, which are off" in wrong(hooked("/bin/true", events=False))
    inside = f"{Settings().ftp.root}/program"
    assert f"{inside} lies inside ftp.root" in wrong(hooked(inside))
    served_whole = replace(hooked("/bin/true"), tftp=replace(Settings().tftp, root="/"))
    assert not [what for what in wrong(served_whole) if "lies inside tftp.root" in what]
