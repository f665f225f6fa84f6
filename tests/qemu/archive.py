"""The beginning of a mirror of Debian 12, as its installer reads it: the signed index of its parts.

Fetched by APT, checked by APT, with a state of its own; nothing is installed and no list of the machine is touched.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.machine.trees import mirror

_INDEX = "main/debian-installer/binary-amd64/Packages.xz"
_SIGNED = ("Release", "Release.gpg", "main/binary-amd64/Release")  # by the last it tells that there is its architecture
_KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
_CONFIG = """\
Dir::State "{work}/state"; Dir::State::status "{work}/status"; Dir::Cache "{work}/cache"; Dir::Etc "{work}/etc";
Dir::Etc::sourceparts "/dev/null"; APT::Architecture "amd64"; APT::Sandbox::User "root"; Acquire::Languages "none";
Acquire::IndexTargets::deb::Packages::KeepCompressedAs "xz"; Acquire::CompressionTypes::Order {{ "xz"; }};
Acquire::GzipIndexes "true";
"""


def lay(where: Path, work: Path) -> None:
    """Put it below `where`; `work` is a folder for APT, which is made."""
    archive = mirror().rstrip("/")
    for folder in ("state/lists/partial", "cache/archives/partial", "etc/apt.conf.d", "etc/preferences.d"):
        (work / folder).mkdir(parents=True)
    (work / "status").touch()
    (work / "apt.conf").write_text(_CONFIG.format(work=work))
    (work / "etc/sources.list").write_text(f"deb [signed-by={_KEYS}] {archive} bookworm main/debian-installer\n")
    _run(work, "apt-get", "update", "-qq")
    suite = where / "dists/bookworm"
    for name in (*_SIGNED, _INDEX):
        (suite / name).parent.mkdir(parents=True, exist_ok=True)
    for name in _SIGNED:
        _run(work, "/usr/lib/apt/apt-helper", "download-file", f"{archive}/dists/bookworm/{name}", str(suite / name))
    (index,) = (work / "state/lists").glob("*_debian-installer_binary-amd64_Packages.xz")
    shutil.copyfile(index, suite / _INDEX)


def _run(work: Path, *argv: str) -> None:
    environment = {**os.environ, "APT_CONFIG": str(work / "apt.conf")}
    done = subprocess.run(argv, cwd=work, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
