"""The wheel carries every file that the program reads or lays: catalogue, page of the board, rootfs and units."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.install import layout
from tests.support import ROOT

TOP = Path(__file__).parents[2]
SOURCE = TOP / "appliance"
LAID = ("install/rootfs", "install/systemd")  # links in the sources, folders in the wheel
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, because the builder leaves folders beside the sources and takes old ones for new."""
    place = tmp_path_factory.mktemp("wheel")
    copy = place / "sources"
    shutil.copytree(SOURCE, copy / "appliance", symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("rootfs", "systemd", "config"):
        shutil.copytree(TOP / name, copy / name, symlinks=True)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(TOP / name, copy / name)
    argv = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-index",
            "--no-build-isolation", "--wheel-dir", str(place), str(copy)]  # fmt: skip
    done = subprocess.run(argv, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    (made,) = place.glob("appliance-*.whl")
    return made


def sources() -> Iterator[Path]:
    """Every file below the sources, those behind the two links too."""
    for top in (SOURCE, *(SOURCE / name for name in LAID)):
        yield from (path for path in top.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


def test_the_wheel_holds_every_file_of_the_sources_with_its_bytes_and_no_other(wheel: Path) -> None:
    wanted = {f"appliance/{path.relative_to(SOURCE)}": path.read_bytes() for path in sources()}
    with zipfile.ZipFile(wheel) as archive:
        found = {name: archive.read(name) for name in archive.namelist() if ".dist-info/" not in name}
    assert sorted(set(wanted) - set(found)) == [], "missing: add it to package-data of pyproject.toml"
    assert sorted(set(found) - set(wanted)) == []
    assert [name for name, content in wanted.items() if found[name] != content] == []


@pytest.mark.parametrize(
    "name",
    ["py.typed", "board/page/index.html", "board/page/board.js", "board/page/board.css", "boot/catalog/debian-13.yaml",
     "install/systemd/appliance.service", "install/systemd/appliance@.service", "install/systemd/appliance-tftp.socket",
     "install/rootfs/etc/appliance/appliance.yaml", "install/rootfs/usr/lib/sysusers.d/appliance.conf",
     "install/rootfs/usr/lib/tmpfiles.d/appliance.conf", "install/rootfs/etc/logrotate.d/appliance"],
)  # fmt: skip
def test_the_wheel_holds_what_an_installation_cannot_do_without(wheel: Path, name: str) -> None:
    with zipfile.ZipFile(wheel) as archive:
        assert len(archive.read(f"appliance/{name}")) > 0 or name == "py.typed"


@pytest.mark.root
@pytest.mark.skipif(not ROOT, reason="needs root: files of other accounts")
def test_what_the_wheel_lays_is_what_lies_in_rootfs_and_systemd(wheel: Path, tmp_path: Path) -> None:
    library, system = tmp_path / "library", tmp_path / "system"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(library)
    program = system / "opt/appliance/bin/appliance"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    code = (
        f"import sys; sys.path.insert(0, {str(library)!r}); import appliance; "
        f"assert appliance.__file__.startswith({str(library)!r}); from appliance.cli.main import main; "
        f"sys.exit(main(['install', '--root', {str(system)!r}, '--program', '/opt/appliance/bin/appliance']))"
    )
    done = subprocess.run([sys.executable, "-I", "-B", "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    for item in layout.items("/opt/appliance/bin/appliance", {}):
        place = system / item.path.lstrip("/")
        assert place.read_bytes() == item.content, item.path
        assert place.stat().st_mode & 0o777 == item.mode, item.path
    for page in ("man8/appliance.8.gz", "man5/appliance.yaml.5.gz"):
        assert (system / "usr/share/man" / page).exists()
