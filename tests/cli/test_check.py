from __future__ import annotations

import json
from pathlib import Path

import pytest

from appliance import world
from appliance.errors import Problem
from appliance.settings.main import Settings
from tests.cli.conftest import Call, facts, status_server


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """A world whose judgement the test sets; records whether our own supervisor was seen."""
    state: dict[str, object] = {"problems": []}

    def judge(_settings: Settings, *, ours: frozenset[str] | None = frozenset()) -> object:
        state["ours"] = ours
        return state["problems"]

    monkeypatch.setattr(world, "judge", judge)
    return state


@pytest.mark.usefixtures("judged")
def test_a_good_configuration_is_ok(call: Call, config: Path) -> None:
    said = call("check", "-c", config)
    assert (said.code, said.out, said.err) == (0, f"ok: {config}\n", f"configuration: {config}\n")


def test_warnings_are_told_and_leave_it_ok(call: Call, config: Path, judged: dict[str, object]) -> None:
    judged["problems"] = [Problem("warning", "small buffer", "sysctl -w x=1")]
    said = call("check", "-c", config)
    assert (said.code, said.out) == (0, f"{config}: warning: small buffer (sysctl -w x=1)\nok: {config}\n")


def test_a_finding_of_the_world_stands_at_its_key(call: Call, config: Path, judged: dict[str, object]) -> None:
    config.write_text(f"# mine\n{config.read_text()}\ntftp:\n  root: /nowhere\n  listen: ['127.0.0.1:1']\n")
    judged["problems"] = [
        Problem("error", "there is no folder", "make it", "tftp.root"),
        Problem("error", "is taken", "stop it", "tftp.listen[0]"),
    ]
    said = call("check", "-c", config, "--json")
    lines = config.read_text().splitlines()
    places = [(problem["line"], problem["column"]) for problem in json.loads(said.out)["problems"]]
    assert places == [(lines.index("  root: /nowhere") + 1, 9), (lines.index("  listen: ['127.0.0.1:1']") + 1, 12)]


def test_an_error_of_the_world_is_exit_code_2(call: Call, config: Path, judged: dict[str, object]) -> None:
    judged["problems"] = [Problem("error", "is taken", "stop it", "tftp.listen[0]")]
    said = call("check", "-c", config)
    assert (said.code, said.out) == (2, f"{config}: tftp.listen[0]: is taken (stop it)\n")


@pytest.mark.usefixtures("judged")
def test_all_errors_of_the_text_are_told_one_per_line(call: Call, tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("tftp:\n  blksize_maxx: 9\nftpp: {}\n")
    said = call("check", "-c", bad)
    assert said.code == 2
    lines = said.out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"{bad}:2:3: tftp.blksize_maxx: ")
    assert lines[1].startswith(f"{bad}:3:1: ftpp: ")


@pytest.mark.usefixtures("judged")
def test_json_has_every_problem_with_its_place(call: Call, tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("ftpp: {}\n")
    said = call("check", "--json", "-c", bad)
    assert (said.code, said.err) == (2, "")
    plain = said.json()
    assert (plain["config"], plain["ok"]) == (str(bad), False)
    (problem,) = plain["problems"]
    assert problem.keys() == {"severity", "file", "line", "column", "key", "what", "remedy"}
    assert (problem["file"], problem["line"], problem["column"], problem["key"]) == (str(bad), 1, 1, "ftpp")


@pytest.mark.usefixtures("judged")
def test_a_missing_file_is_told_in_the_same_form(call: Call, tmp_path: Path) -> None:
    missing = tmp_path / "missing.yaml"
    assert call("check", "-c", missing).code == 2
    plain = call("check", "--json", "-c", missing).json()
    assert (plain["config"], plain["ok"]) == (str(missing), False)


def test_our_own_supervisor_does_not_count_as_a_stranger_on_the_port(
    call: Call, config: Path, run_dir: Path, judged: dict[str, object]
) -> None:
    call("check", "-c", config)
    assert judged["ours"] == frozenset()
    with status_server(run_dir, json.dumps(facts()).encode()):
        call("check", "-c", config)
    assert judged["ours"] == {"udp 127.0.0.1:6969", "udp [::]:6969"}


@pytest.mark.usefixtures("judged")
def test_a_supervisor_that_may_not_be_asked_counts_as_running(
    call: Call, tmp_path: Path, judged: dict[str, object]
) -> None:
    config = tmp_path / "long.yaml"
    config.write_text(f"run_dir: /{'x' * 300}\n")  # too long a name for any file system: nobody can look
    assert call("check", "-c", config).code == 0
    assert judged["ours"] is None


@pytest.mark.usefixtures("judged")
def test_with_boot_on_the_manifest_is_judged_too(call: Call, config: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "boot.yaml"
    config.write_text(f"{config.read_text()}\nboot: {{enabled: true, manifest: {manifest}}}\n")
    said = call("check", "-c", config)
    assert (said.code, f"{manifest}: cannot be read: No such file or directory" in said.out) == (2, True)
    manifest.write_text("profiles: {p: {kernel: gone}}\ngroups: [{match: {}}]\n")
    assert f"{manifest}:2:10: groups[0]: a group needs a name" in call("check", "-c", config).out
    manifest.write_text("profiles: {p: {kernel: gone}}\n")
    said = call("check", "-c", config)
    assert (said.code, f"{manifest}: profiles.p: gone is missing" in said.out) == (2, True)
    manifest.write_text("profiles: {p: {action: local}}\n")
    assert call("check", "-c", config).code == 0
    config.write_text(config.read_text().replace("enabled: true", "enabled: false"))
    manifest.write_text("- nonsense")
    assert call("check", "-c", config).code == 0


@pytest.mark.usefixtures("judged")
def test_a_machine_that_is_armed_while_nobody_sees_it_boot_is_a_warning(
    call: Call, config: Path, tmp_path: Path
) -> None:
    manifest = tmp_path / "boot.yaml"
    manifest.write_text("recipes: [pxelinux, local-disk]\n")
    (tmp_path / "state" / "hosts.d").mkdir(parents=True)
    for n in (1, 2):
        once = f"{{profile: local-disk, until: {1 << 36}, id: {'a' * 16}}}"
        machine = f"machines: {{m{n}: {{mac: '52:54:00:00:00:0{n}', once: {once}}}}}\n"
        (tmp_path / f"state/hosts.d/m{n}.yaml").write_text(machine)
    text = f"{config.read_text()}\nboot: {{enabled: true, manifest: {manifest}}}\n"
    config.write_text(text)
    assert "one-shot" not in call("check", "-c", config).out
    config.write_text(text + "observe: {events: false}\n")
    said = call("check", "-c", config)
    assert said.code == 0
    assert "machines.m1: observe.events is off" in said.out and "m1 is armed, and 1 more (write observe:" in said.out
