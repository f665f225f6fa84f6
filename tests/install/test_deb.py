"""The Debian package: the same bytes twice, both Pythons inside, nothing that Debian's own checker objects to."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from appliance import __version__
from tests.machine.packages import TOP, build

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="needs dpkg-deb")]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("deb"))


def said(*argv: str | Path) -> str:
    return subprocess.run([*map(str, argv)], check=True, capture_output=True, text=True, timeout=300).stdout


def test_the_same_sources_make_the_same_bytes(package: Path, tmp_path: Path) -> None:
    mask = os.umask(0o077)
    try:
        again = build(tmp_path)
    finally:
        os.umask(mask)
    assert again.read_bytes() == package.read_bytes()


def test_both_pythons_find_their_compiled_libraries(package: Path) -> None:
    listed = said("dpkg-deb", "--contents", package)
    for python in ("311", "313"):
        assert f"pydantic_core/_pydantic_core.cpython-{python}-" in listed
    assert "/yaml/" not in listed, "Debian's own"
    assert "root/root" in listed and " appliance/" not in listed
    fields = said("dpkg-deb", "--field", package)
    assert "python3 (>= 3.11), python3 (<< 3.12) | python3 (>= 3.13), python3 (<< 3.14), python3-yaml" in fields
    assert f"Version: {__version__}" in fields
    assert "Conflicts:" not in fields, "another server may stay installed, for its ports or its configuration"


def test_every_file_under_etc_is_a_conffile(package: Path) -> None:
    listed = {line.split()[-1].lstrip(".") for line in said("dpkg-deb", "--contents", package).splitlines()}
    etc = {name for name in listed if name.startswith("/etc/") and not name.endswith("/")}
    assert set(said("dpkg-deb", "--info", package, "conffiles").split()) == etc
    assert "/etc/appliance/appliance.yaml" in etc


def test_the_program_runs_from_the_tree(package: Path, tmp_path: Path) -> None:
    subprocess.run(["dpkg-deb", "--extract", str(package), str(tmp_path)], check=True)
    code = (
        "import sys; sys.path[:] = [p for p in sys.path if 'site-packages' not in p]; "
        f"sys.path[:0] = [{str(tmp_path / 'usr/lib/appliance')!r}]; "
        "from appliance.cli.main import main; import appliance; print(appliance.__file__); sys.exit(main(['version']))"
    )
    where, version = said(sys.executable, "-I", "-S", "-B", "-c", code).splitlines()[:2]
    assert where.startswith(str(tmp_path)) and __version__ in version


@pytest.mark.skipif(not shutil.which("lintian"), reason="needs lintian")
def test_lintian_has_nothing_to_say(tmp_path: Path) -> None:
    package = build(tmp_path, "--compression", "xz")  # as it is given away; lintian does not read one without
    found = subprocess.run(
        ["lintian", "--allow-root", "--fail-on", "error,warning", "--tag-display-limit", "0", str(package)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (found.returncode, [line for line in found.stdout.splitlines() if line[:2] in {"E:", "W:"}]) == (0, [])


def test_the_copyright_file_names_every_library(package: Path, tmp_path: Path) -> None:
    subprocess.run(["dpkg-deb", "--extract", str(package), str(tmp_path)], check=True)
    text = (tmp_path / "usr/share/doc/appliance/copyright").read_text()
    inside = {path.name for path in (tmp_path / "usr/lib/appliance").glob("*.dist-info")}
    assert len(inside) > 10
    for name in inside:
        assert name.removesuffix(".dist-info").rsplit("-", 1)[0] in text
    assert (TOP / "LICENSE").read_text() in text
