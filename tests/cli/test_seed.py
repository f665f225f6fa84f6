"""`appliance seed`: looked at anywhere, put in place once, and never by halves."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.cli.main import main
from tests.install.test_seed import KEY

TEXT = f"ssh_keys: [{KEY}]\nconfiguration: {{ftp: {{incoming: {{enabled: true}}}}}}\n"


def files(place: Path) -> list[str]:
    return sorted(str(path.relative_to(place)) for path in place.rglob("*") if path.is_file())


def test_a_seed_is_looked_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "seed.yaml").write_text(TEXT)
    assert main(["seed", str(tmp_path / "seed.yaml")]) == 0
    assert "a configuration, 1 keys of SSH" in capsys.readouterr().out
    assert main(["seed", str(tmp_path / "none.yaml")]) == 1
    assert "No such file" in capsys.readouterr().err


def test_it_is_put_in_place_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given, data = tmp_path / "given", tmp_path / "data"
    given.mkdir()
    (given / "seed.yaml").write_text(TEXT)
    assert main(["seed", str(given), "--apply", str(data)]) == 0
    assert files(data) == ["etc/appliance/conf.d/seed.yaml", "etc/seeded", "etc/ssh/authorized_keys"]
    assert (data / "etc/ssh/authorized_keys").stat().st_mode & 0o777 == 0o600
    assert (data / "etc/ssh/authorized_keys").read_text() == f"{KEY}\n"
    (given / "seed.yaml").write_text(f"ssh_keys: [{KEY} another]\n")
    assert main(["seed", str(given), "--apply", str(data)]) == 0
    assert "seeded before" in capsys.readouterr().out
    assert (data / "etc/ssh/authorized_keys").read_text() == f"{KEY}\n"


def test_without_a_seed_the_first_boot_is_over_all_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "given").mkdir()
    assert main(["seed", str(tmp_path / "given"), "--apply", str(tmp_path / "data")]) == 0
    assert "the defaults" in capsys.readouterr().out
    assert files(tmp_path / "data") == ["etc/seeded"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("runcmd: [reboot]\n", "unknown key"),
        ("configuration: {ftp: {limits: {sessions: 0}}}\n", "sessions"),
        (f"ssh_keys: [{KEY}]\nconfiguration: {{ftp: {{nonsense: 1}}}}\n", "nonsense"),
    ],
)
def test_a_wrong_one_changes_nothing_and_can_be_mended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, told: str
) -> None:
    (tmp_path / "seed.yaml").write_text(text)
    assert main(["seed", str(tmp_path), "--apply", str(tmp_path / "data")]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "data").exists()
    (tmp_path / "seed.yaml").write_text(TEXT)
    assert main(["seed", str(tmp_path), "--apply", str(tmp_path / "data")]) == 0


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "seed.yaml").write_text(TEXT)
    (tmp_path / "data").write_text("a file")
    assert main(["seed", str(tmp_path), "--apply", str(tmp_path / "data")]) == 1
    assert "data" in capsys.readouterr().err
