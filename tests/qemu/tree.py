"""A manifest laid out as a plain folder: planned and rendered by our own code, its packages unpacked by dpkg.

So machines judge recipes and templates by themselves, without fetching and publishing. The packages are fetched once by
apt into the cache of whoever runs the tests; nothing is installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from appliance.boot import folder, layout, plan

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "appliance-tests"


def package(name: str) -> Path:
    """The folder of an unpacked package. Raises CalledProcessError with what apt said on the terminal."""
    where = CACHE / "packages" / name
    if not where.exists():
        fresh = where.with_name(f"{name}.{os.getpid()}")
        fresh.mkdir(parents=True, mode=0o755)
        subprocess.run(["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", name], cwd=fresh, check=True)
        subprocess.run(["dpkg", "-x", str(next(fresh.glob("*.deb"))), str(fresh)], check=True)
        for deb in fresh.glob("*.deb"):
            deb.unlink()
        fresh.rename(where)
    return where


def render(root: Path, manifest: str, home: Path) -> None:
    """Write what the text of a manifest means to TFTP, machines and all, below `root`."""
    (home / "boot.yaml").write_text(manifest)
    loaded = folder.load(str(home / "boot.yaml"), str(home / "state"))
    done = plan.plan(loaded.resolved.manifest, loaded.resolved.hosts, loaded.secrets, 0)
    packages = {source.name: package(source.at.partition(":")[0]) for source in done.sources}
    listings = {name: _listing(where) for name, where in packages.items()}
    placed, _left_out = layout.layout(done.takes, listings)
    for one in placed:
        if one.root == "tftp":
            _folder_of(root / one.path)
            shutil.copyfile(packages[one.source] / one.member, root / one.path)
    owned = [file for machine in done.overlay.machines for file in machine.files]
    for file in (*done.files, *owned):
        if file.root == "tftp":
            _folder_of(root / file.path)
            (root / file.path).write_bytes(file.data)


def _folder_of(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)


def _listing(where: Path) -> dict[str, int]:
    return {
        os.path.relpath(os.path.join(above, name), where): os.stat(os.path.join(above, name)).st_size
        for above, _folders, names in os.walk(where)
        for name in names
        if os.path.exists(os.path.join(above, name))
    }
