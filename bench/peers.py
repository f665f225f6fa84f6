"""The servers we are measured against: Debian's own packages, unpacked into a folder, started in the foreground.

Nothing is installed: `apt-get download` and `dpkg -x`, the libraries that the machine lacks beside them.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from bench.processes import Server

_INST = re.compile(r"^Inst (\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a peer serves: the tree, its address, and a folder of its own for what it writes."""

    root: Path
    host: str
    port: int
    scratch: Path


@dataclass(frozen=True, slots=True)
class Peer:
    """One server: its package, the program in it, and how it is told to serve a place in the foreground."""

    name: str
    package: str
    program: str
    arguments: Callable[[Place], list[str]]


class Store:
    """Unpacked packages in `folder`; what is there already is not fetched again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.root = folder / "root"
        self._facts = folder / "versions.json"
        self.versions: dict[str, str] = json.loads(self._facts.read_text()) if self._facts.exists() else {}

    def fetch(self, packages: Iterable[str]) -> None:
        """Make sure that these are there. Raises CalledProcessError, with what apt said on the terminal."""
        missing = [package for package in packages if package not in self.versions]
        if not missing:
            return
        debs = self._folder / "debs"
        debs.mkdir(parents=True, exist_ok=True)
        debs.chmod(0o777)  # apt downloads under an account of its own
        for package in missing:
            said = _run("apt-get", "--simulate", "--no-install-recommends", "install", package)
            _run("apt-get", "--quiet", "download", *sorted({package, *_INST.findall(said)}), cwd=debs)
        for deb in debs.glob("*.deb"):
            _run("dpkg", "-x", str(deb), str(self.root))
            name, version = _run("dpkg-deb", "-W", "--showformat=${Package} ${Version}", str(deb)).split()
            self.versions[name] = version
        self._facts.write_text(json.dumps(self.versions))

    def start(self, peer: Peer, place: Place, cpus: set[int] | None = None) -> Server:
        """Start a fetched peer, on `cpus` only if given. It is not known to serve yet: ask it."""
        libraries = ":".join(str(path) for path in self.root.glob("**/*-linux-gnu") if path.is_dir())
        environment = {**os.environ, "LD_LIBRARY_PATH": libraries}
        argv = [str(self.root / peer.program), *peer.arguments(place)]
        return Server(peer.name, argv, place.scratch / "log", cpus=cpus, environment=environment)


def _run(*argv: str, cwd: Path | None = None) -> str:
    return subprocess.run(argv, cwd=cwd, check=True, stdout=subprocess.PIPE, text=True).stdout
