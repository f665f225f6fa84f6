"""Fetch the wheels that requirements/run.txt locks, for several Pythons, and unpack them into one tree.

Every file is checked against the hashes in the list, by pip when it comes and by us at each use. Pure wheels are the
same for all Pythons; compiled ones differ only in the suffix of their libraries, so that one tree serves them all.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

from packaging.markers import Marker, default_environment

PYTHONS = ("3.11", "3.13")  # Debian 12 and 13
FROM_DEBIAN = frozenset({"pyyaml", "zstandard"})  # compiled, and recent enough there


def entries(text: str, python: str) -> dict[str, str]:
    """Name -> lines of a locked list (pip's format) of what a Python on Linux needs."""
    found: dict[str, str] = {}
    for entry in re.split(r"\n(?=\S)", text):
        if match := re.match(r"([A-Za-z0-9._-]+)==[^ ;\\]+ *(?:; *([^\\]*))?", entry):
            environment = {**default_environment(), "python_version": python, "python_full_version": f"{python}.0"}
            if match[2] is None or Marker(match[2].strip()).evaluate(environment):
                found[match[1].lower()] = re.sub(r" *;[^\\]*", " ", entry, count=1)
    return found


def platform() -> str:
    """The wheel platform of this machine, at the age of glibc that every supported Debian has."""
    return sysconfig.get_platform().replace("linux-", "manylinux_2_17_").replace("-", "_").replace(".", "_")


def fetch(locked: Path, cache: Path) -> list[Path]:
    """The wheels for every Python of PYTHONS, from `cache` where they are. Raises CalledProcessError."""
    text = locked.read_text()
    wheels: dict[str, Path] = {}
    for python in PYTHONS:
        folder = cache / f"py{python}"
        wanted = {name: lines for name, lines in entries(text, python).items() if name not in FROM_DEBIAN}
        if set(checked(folder, wanted)) != set(wanted):
            download(folder, wanted, python)
        found = checked(folder, wanted)
        if missing := set(wanted) - set(found):
            raise SystemExit(f"wheels: {', '.join(sorted(missing))} did not come as {locked.name} wants it")
        for path in found.values():
            wheel = path if path.suffix == ".whl" else _built(path, cache / "built")
            wheels[wheel.name] = wheel
    return [wheels[name] for name in sorted(wheels)]


def download(folder: Path, wanted: dict[str, str], python: str) -> None:
    """Have pip fetch what is wanted for a Python. Raises CalledProcessError."""
    folder.mkdir(parents=True, exist_ok=True)
    listed = folder / "wanted.txt"
    listed.write_text("\n".join(wanted.values()) + "\n")
    which = ["--python-version", python, "--implementation", "cp", "--platform", platform()]
    _pip("download", "--no-deps", "--require-hashes", "--no-build-isolation", *which, "-d", folder, "-r", listed)


def checked(folder: Path, wanted: dict[str, str]) -> dict[str, Path]:
    """Name -> file in `folder` whose SHA-256 the list names for it; others do not count."""
    sums = {name: set(re.findall(r"--hash=sha256:([0-9a-f]{64})", lines)) for name, lines in wanted.items()}
    found: dict[str, Path] = {}
    for path in _packages(folder):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        found |= {name: path for name, known in sums.items() if digest in known}
    return found


def unpack(wheel: Path, target: Path) -> None:
    """Unpack a wheel into `target`. Two wheels may hold the same file only with the same bytes."""
    with zipfile.ZipFile(wheel) as archive:
        for item in archive.infolist():
            name = re.sub(r"^[^/]+\.data/(purelib|platlib)/", "", item.filename)
            if item.is_dir() or _left_out(name):
                continue
            place, content = target / name, archive.read(item)
            if ".dist-info/" in name and place.exists():
                continue  # what is said about a wheel differs, the first one speaks for both
            if place.exists() and place.read_bytes() != content:
                raise SystemExit(f"wheels: {wheel.name} has another {name}")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)


def _left_out(name: str) -> bool:
    # RECORD lists files of one wheel, not of the tree; scripts and types have no use there
    return ".data/" in name or name.endswith((".dist-info/RECORD", ".pyi", ".c"))


def _packages(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if path.name.endswith((".whl", ".tar.gz")))


def _built(source: Path, folder: Path) -> Path:
    """A wheel of a package that is published as source only; its hash was checked when it was fetched."""
    made = folder / source.name.removesuffix(".tar.gz")
    if not (made.is_dir() and any(made.glob("*.whl"))):
        _pip("wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", made, source)
    (wheel,) = made.glob("*.whl")
    if not wheel.name.endswith("-none-any.whl"):
        raise SystemExit(f"wheels: {wheel.name} is not pure Python")
    return wheel


def _pip(*arguments: object) -> None:
    options = ("--quiet", "--disable-pip-version-check", "--no-input", "--no-cache-dir")
    subprocess.run([sys.executable, "-m", "pip", *map(str, arguments), *options], check=True, stdout=sys.stderr)
