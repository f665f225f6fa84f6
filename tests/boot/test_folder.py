"""What is read from the disk: manifest, templates, machines, catalogue, secrets."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.boot import folder, plan
from appliance.errors import ConfigError
from tests.boot.support import LINUX, MAC

ROOT = Path(__file__).parents[2]


def said(manifest: Path, state: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        folder.load(str(manifest), str(state))
    return [str(problem) for problem in caught.value.problems]


def test_the_manifest_that_is_shipped_makes_a_plan() -> None:
    found = folder.load(str(ROOT / "config/boot.yaml"), "/nonexistent").resolved
    done = plan.plan(found.manifest, found.hosts, {}, 0)
    assert {file.path for file in done.files} >= {"pxelinux.cfg/default", "grub/grub.cfg"}
    assert all(source.kind == "deb" for source in done.sources)


def test_a_template_lies_beside_the_manifest_and_machines_in_hosts_d(tmp_path: Path) -> None:
    (tmp_path / "boot.yaml").write_text(LINUX + "templates: {a: {file: t/a.cfg}}")
    (tmp_path / "t").mkdir()
    (tmp_path / "t/a.cfg").write_text("x\n")
    (tmp_path / "hosts.d").mkdir()
    (tmp_path / "hosts.d/a.yaml").write_text(f"machines: {{m: {{mac: '{MAC}', profile: linux}}}}")
    (tmp_path / "hosts.d/a.yaml~").write_text("{")
    found = folder.load(str(tmp_path / "boot.yaml"), str(tmp_path)).resolved
    assert [var.value for var in found.manifest.templates] == ["x\n"]
    assert [machine.name for machine in found.hosts] == ["m"]


@pytest.mark.parametrize(
    ("content", "cause"), [(b"\xff", "not UTF-8"), (b"x" * ((1 << 20) + 1), "a template of more than 1 MiB")]
)
def test_a_template_that_is_no_text_or_too_long_is_told(tmp_path: Path, content: bytes, cause: str) -> None:
    (tmp_path / "boot.yaml").write_text("templates: {a: {file: a.cfg}}")
    (tmp_path / "a.cfg").write_bytes(content)
    assert cause in said(tmp_path / "boot.yaml", tmp_path)[0]


def test_a_manifest_that_is_not_there_is_told_with_what_to_do(tmp_path: Path) -> None:
    assert said(tmp_path / "boot.yaml", tmp_path) == [
        f"{tmp_path}/boot.yaml: cannot be read: No such file or directory "
        "(write it (docs/BOOT.md has an example), or name another: boot.manifest)"
    ]


def test_a_manifest_that_may_not_be_read_is_told_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(ConfigError, match=r"Permission denied \(chmod a\+r /x, or run as root\)"):
        folder.load("/x", "/nonexistent")


def test_a_name_that_no_file_can_have_is_told() -> None:
    with pytest.raises(ConfigError, match="null byte"):
        folder.load("/x\0", "/nonexistent")


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    (tmp_path / "boot.yaml").write_text(f"secrets: {tmp_path}/secrets.yaml")
    path = tmp_path / "secrets.yaml"
    path.touch(0o600)
    return path


def test_secrets_are_read_from_a_file_of_ones_own(tmp_path: Path, secret: Path) -> None:
    secret.write_text("root: $6$x\npin: 0012\n")
    loaded = folder.load(str(tmp_path / "boot.yaml"), str(tmp_path))
    assert loaded.secrets == {"root": "$6$x", "pin": "0012"}
    assert loaded.resolved.manifest.secrets == ("pin", "root")
    secret.write_text("# none yet\n")
    assert folder.load(str(tmp_path / "boot.yaml"), str(tmp_path)).secrets == {}


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o620, 0o601])
def test_secrets_that_others_can_read_or_change_are_refused(tmp_path: Path, secret: Path, mode: int) -> None:
    secret.chmod(mode)
    assert said(tmp_path / "boot.yaml", tmp_path) == [
        f"{secret}: secrets: others may read or change it (chmod 0600 {secret})"
    ]


@pytest.mark.parametrize("text", ["geheim", "a: {b: geheim}", "a-b: geheim", 'a: "geheim', "a: geheim\na: geheim\n"])
def test_what_is_wrong_with_secrets_never_repeats_one(tmp_path: Path, secret: Path, text: str) -> None:
    secret.write_text(text)
    found = said(tmp_path / "boot.yaml", tmp_path)
    assert found and all("geheim" not in line and str(secret) in line for line in found)


def test_secrets_that_are_not_there_are_told(tmp_path: Path, secret: Path) -> None:
    secret.unlink()
    assert "secrets: cannot be read: No such file or directory" in said(tmp_path / "boot.yaml", tmp_path)[0]


def test_a_wrong_manifest_and_wrong_secrets_are_told_together(tmp_path: Path, secret: Path) -> None:
    secret.chmod(0o644)
    with (tmp_path / "boot.yaml").open("a") as file:
        file.write("\nserver: a b\n")
    assert len(said(tmp_path / "boot.yaml", tmp_path)) == 2


def test_every_recipe_can_be_used_alone_and_together(tmp_path: Path) -> None:
    names = sorted(folder.catalog())
    for chosen in [[name] for name in names] + [names]:
        (tmp_path / "boot.yaml").write_text(f"server: 192.0.2.1\nrecipes: [{', '.join(chosen)}]")
        found = folder.load(str(tmp_path / "boot.yaml"), str(tmp_path)).resolved
        plan.plan(found.manifest, found.hosts, {}, 0)


def test_every_recipe_says_what_it_is_and_whether_anybody_saw_it_work() -> None:
    for name, recipe in folder.catalog().items():
        assert recipe.problems == [], name
        assert recipe.title and bool(recipe.seen) != bool(recipe.experimental), name
        if recipe.experimental:
            assert recipe.experimental == "never fetched here"
