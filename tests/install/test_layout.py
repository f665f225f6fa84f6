"""What is laid over a target: accounts, folders, owners, and which files are the operator's."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.boot.judge import judge
from appliance.install import layout
from appliance.settings import describe
from appliance.settings.main import Settings
from appliance.wiring import FIXED_UIDS
from tests.support import ROOT

TOP = Path(__file__).parents[2]
ITEMS = {item.path: item for item in layout.items(layout.PROGRAM, {})}
EXAMPLES = "/usr/share/appliance/examples"
SYSUSERS = "/usr/lib/sysusers.d/appliance.conf"
TMPFILES = "/usr/lib/tmpfiles.d/appliance.conf"


def lines(path: str) -> list[list[str]]:
    return [line.split() for line in ITEMS[path].content.decode().splitlines() if line and not line.startswith("#")]


def test_every_account_of_the_wiring_is_made_with_its_number() -> None:
    made = {words[1]: int(words[2]) for words in lines(SYSUSERS)}
    assert made.items() >= FIXED_UIDS.items()
    assert len(set(made.values())) == len(made)


def test_what_is_served_belongs_to_root_and_uploads_to_their_keeper_alone() -> None:
    owners = {words[1]: words[2:] for words in lines(TMPFILES)}
    settings = Settings()
    for root in (settings.tftp.root, settings.ftp.root):
        assert owners[root] == ["0755", "root", "root"]
    for box in (
        f"{settings.ftp.root}/{settings.ftp.incoming.path}",
        f"{settings.tftp.root}/{settings.tftp.uploads.path}",
    ):
        assert owners[box] == ["0700", "appliance-custody", "appliance-custody"]


@pytest.mark.root
@pytest.mark.skipif(not ROOT, reason="needs root: files of other accounts")
def test_systemd_makes_the_accounts_and_folders_in_an_empty_root(tmp_path: Path) -> None:
    for item in ITEMS.values():
        place = tmp_path / item.path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(item.content)
    (tmp_path / "srv/appliance/ftp/incoming").mkdir(parents=True)
    subprocess.run(["systemd-sysusers", f"--root={tmp_path}", "appliance.conf"], check=True, capture_output=True)
    said = subprocess.run(
        ["systemd-tmpfiles", f"--root={tmp_path}", "--create", "appliance.conf"], check=True, capture_output=True
    )
    assert said.stderr == b""
    found = (tmp_path / "srv/appliance/ftp/incoming").stat()
    assert (found.st_uid, found.st_mode & 0o7777) == (FIXED_UIDS["appliance-custody"], 0o700)
    assert (tmp_path / "srv/appliance/tftp").stat().st_uid == 0
    owners = {"boot": "boot", "boot-spool": "fetch", "boot-apt": "fetch", "boot-unpack": "unpack"}
    found_there = {f"var/lib/appliance/{name}": account for name, account in owners.items()}
    for path, account in {**found_there, "srv/appliance/tftp/.releases": "boot"}.items():
        assert (tmp_path / path).stat().st_uid == FIXED_UIDS[f"appliance-{account}"], path
    assert re.search(r"^appliance-tftp:!?\*?:\d", (tmp_path / "etc/shadow").read_text(), re.M), "no password"


def test_the_configuration_that_is_laid_says_the_defaults_explained() -> None:
    assert ITEMS["/etc/appliance/appliance.yaml"].content.decode() == describe.commented(Settings())


def test_the_manifest_that_is_laid_is_the_example_that_has_no_finding() -> None:
    assert ITEMS["/etc/appliance/boot.yaml"].content == (TOP / "config/boot.yaml").read_bytes()
    boot = replace(Settings().boot, manifest=str(TOP / "config/boot.yaml"))
    assert judge(boot, "/nonexistent", "/nonexistent", 1, events=True) == []


def test_only_what_lies_under_etc_is_the_operators() -> None:
    assert {path for path, item in ITEMS.items() if item.config} == {p for p in ITEMS if p.startswith("/etc/")}


def test_another_program_stands_in_every_file_that_starts_one() -> None:
    moved = {item.path: item.content for item in layout.items("/opt/a/bin/appliance", {})}
    assert b"ExecStart=/opt/a/bin/appliance run" in moved[f"{layout.UNITS}/appliance.service"]
    assert not [path for path, content in moved.items() if b"/usr/bin/appliance" in content]


def test_only_programs_can_be_run() -> None:
    assert {path for path, item in ITEMS.items() if item.mode & 0o111} == {
        "/etc/update-motd.d/60-appliance",
        f"{EXAMPLES}/hooks/webhook",
    }


@pytest.mark.parametrize("name", ["hooks/webhook", "observe/alerts.yaml", "observe/grafana.json"])
def test_what_the_documentation_names_as_an_example_is_laid(name: str) -> None:
    assert ITEMS[f"{EXAMPLES}/{name}"].content == (TOP / "config" / name).read_bytes()
