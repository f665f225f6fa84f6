"""`appliance install`: files over a root, nothing of the operator's overwritten, and never out of the root."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from appliance.errors import ApplianceError
from appliance.install import lay
from appliance.install.layout import Item
from tests.cli.conftest import Call
from tests.support import ROOT

CONFIG = Item("/etc/appliance/a.yaml", 0o644, b"ours\n", True)
UNIT = Item("/usr/lib/systemd/system/a.service", 0o644, b"unit\n", False)
SCRIPT = Item("/etc/update-motd.d/60-a", 0o755, b"#!/bin/sh\n", True)


def laid(root: Path, *items: Item) -> dict[str, str]:
    planned = lay.plan(str(root), items)
    return {step.path: step.verb for step in lay.carry_out(str(root), planned, ("/etc/appliance/conf.d",))}


def test_what_is_missing_is_laid_whole_with_its_permissions(tmp_path: Path) -> None:
    assert set(laid(tmp_path, CONFIG, UNIT, SCRIPT).values()) == {"new"}
    assert (tmp_path / "etc/appliance/a.yaml").read_bytes() == b"ours\n"
    assert stat.S_IMODE((tmp_path / "etc/update-motd.d/60-a").stat().st_mode) == 0o755
    assert (tmp_path / "etc/appliance/conf.d").is_dir()
    assert set(laid(tmp_path, CONFIG, UNIT, SCRIPT).values()) == {"same"}


def test_a_configuration_that_differs_is_kept_and_a_unit_is_replaced(tmp_path: Path) -> None:
    laid(tmp_path, CONFIG, UNIT)
    (tmp_path / "etc/appliance/a.yaml").write_text("mine\n")
    (tmp_path / "usr/lib/systemd/system/a.service").write_text("older\n")
    assert laid(tmp_path, CONFIG, UNIT) == {CONFIG.path: "kept", UNIT.path: "replaced"}
    assert (tmp_path / "etc/appliance/a.yaml").read_text() == "mine\n"
    assert (tmp_path / "etc/appliance/a.yaml.new").read_text() == "ours\n"


def test_a_link_that_leads_out_of_the_root_is_refused(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "root/etc").symlink_to(tmp_path / "outside")
    with pytest.raises(ApplianceError, match="leads out of"):
        lay.plan(str(tmp_path / "root"), [CONFIG])
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_disk_that_is_full_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = lay.plan(str(tmp_path), [CONFIG])

    def full(_: int) -> None:
        raise OSError(28, "No space left on device", "there")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ApplianceError, match=r"No space left on device .*do it again"):
        list(lay.carry_out(str(tmp_path), planned, ()))
    assert list((tmp_path / "etc/appliance").iterdir()) == []
    monkeypatch.undo()
    assert laid(tmp_path, CONFIG) == {CONFIG.path: "new"}


def test_a_root_that_is_none_or_belongs_to_dpkg_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ApplianceError, match="is not a folder"):
        lay.plan(str(tmp_path / "gone"), [CONFIG])
    (tmp_path / "var/lib/dpkg/info").mkdir(parents=True)
    (tmp_path / "var/lib/dpkg/info/appliance.list").write_text("")
    with pytest.raises(ApplianceError, match="the Debian package is installed"):
        lay.plan(str(tmp_path), [CONFIG])


def test_a_folder_in_the_place_of_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "etc/appliance/a.yaml").mkdir(parents=True)
    with pytest.raises(ApplianceError, match="move it away"):
        lay.plan(str(tmp_path), [CONFIG])


@pytest.fixture
def system(tmp_path: Path) -> Path:
    """A root with the program in it."""
    program = tmp_path / "opt/appliance/bin/appliance"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    return tmp_path


def test_a_dry_run_tells_every_file_and_lays_none(call: Call, system: Path) -> None:
    options = ("--root", system, "--program", "/opt/appliance/bin/appliance")
    said: dict[str, Any] = call("install", *options, "--dry-run", "--json").json()
    paths = {one["path"] for one in said["files"]}
    assert {"/etc/appliance/appliance.yaml", "/usr/share/man/man8/appliance.8.gz"} <= paths
    assert {one["verb"] for one in said["files"]} == {"new"} and not said["done"]
    assert {path.name for path in system.iterdir()} == {"opt"}
    assert "new       /etc/appliance/appliance.yaml" in call("install", *options, "--dry-run").out


def test_without_the_program_in_the_target_nothing_is_laid(call: Call, tmp_path: Path) -> None:
    done = call("install", "--root", tmp_path, "--program", "/opt/none")
    assert done.code == 1 and "install the wheel into that system first" in done.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.root
@pytest.mark.skipif(not ROOT, reason="needs root: files of other accounts")
def test_a_system_gets_units_accounts_and_folders(call: Call, system: Path) -> None:
    done = call("install", "--root", system, "--program", "/opt/appliance/bin/appliance")
    assert done.code == 0, done.err
    assert f"systemctl --root={system} enable appliance" in done.err
    unit = (system / "usr/lib/systemd/system/appliance.service").read_text()
    assert "ExecStart=/opt/appliance/bin/appliance run" in unit
    assert "appliance-tftp:x:64610:64610" in (system / "etc/passwd").read_text()
    assert (system / "srv/appliance/tftp").is_dir()
