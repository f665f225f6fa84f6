"""Packages from the configured APT archives, by APT itself: its lists, its signatures, its downloads.

APT runs as the fetcher's account with a state of its own below state_dir, so that neither the system's lists nor its
locks are touched, and what it trusts is what the system trusts: /etc/apt. That folder of state is not the spool: the
fetcher that talks to mirrors in Python cannot reach it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.boot import programs
from appliance.boot.records import BootError
from appliance.observe.text import printable

_APT = "/usr/bin/apt-get"
_UPDATE_S, _DOWNLOAD_S = 1800.0, 7200.0
_URI = re.compile(r"'([^' ]+)' ([^ /]+\.deb) ([0-9]+) SHA256:([0-9a-f]{64})\s*")
_PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy")


@dataclass(frozen=True, slots=True)
class Package:
    """A package that APT would fetch: `file` is how it names the download."""

    uri: str
    file: str
    size: int
    sha256: str


class Apt:
    """APT with a state of its own in the open folder at `work`, which belongs to `account`."""

    def __init__(self, work: str, account: tuple[int, int], etc: str, architectures: Sequence[str]) -> None:
        """`etc`: the folder that stands for /etc/apt. Raises BootError where there is no APT, or no such folder."""
        if not os.access(_APT, os.X_OK):
            raise BootError("this machine has no apt-get, so nothing of kind deb can be fetched (name a url)")
        if not os.path.isdir(etc):
            raise BootError(f"{etc} is not there (boot.fetch.apt names the folder of APT's sources)")
        self._work, self._account, self._etc = work, account, etc
        self._architectures = architectures
        self._complaint = ""

    def update(self) -> str:
        """Fetch the lists of all archives; APT checks their signatures, and takes none older than the one it has.

        What APT complains of, or an empty text: an archive that cannot be reached or believed leaves the list there is.
        """
        for folder in ("state/lists/partial", "cache/archives/partial", "log", "debs"):
            self._make(folder)
        Path(self._work, "status").touch()
        said = self._run(["update"], _UPDATE_S)
        self._complaint = f"; APT said: {_complaint(said.err)}" if said.code else ""
        return _complaint(said.err) if said.code else ""

    def find(self, name: str) -> Package:
        """What a package is now. Raises BootError for one that no archive has."""
        said = self._run(["--print-uris", "download", name], _UPDATE_S)
        found = _URI.fullmatch(said.out.decode("utf-8", "replace").strip()) if not said.code else None
        if found is None:
            remedy = "add an archive that has it to APT's sources, or take the package out of the manifest"
            raise BootError(f"no archive has the package {name}: {_complaint(said.err)} ({remedy}){self._complaint}")
        return Package(found[1], found[2], int(found[3]), found[4])

    def find_all(self, names: Sequence[str]) -> dict[str, Package]:
        """The same for several at once, where every archive has them; else none, and `find` tells which is missing."""
        said = self._run(["--print-uris", "download", *names], _UPDATE_S)
        lines = said.out.decode("utf-8", "replace").splitlines()
        found = [_URI.fullmatch(line.strip()) for line in lines]
        packages = [Package(one[1], one[2], int(one[3]), one[4]) for one in found if one is not None]
        by_name = {name: [p for p in packages if p.file.startswith(f"{name.partition(':')[0]}_")] for name in names}
        if said.code or len(packages) != len(names) or any(len(some) != 1 for some in by_name.values()):
            return {}
        return {name: some[0] for name, some in by_name.items()}

    def fetch(self, name: str, package: Package, most: int) -> str:
        """Fetch it; the path of the file. Raises BootError."""
        if package.size > most:
            raise BootError(f"the package has {package.size} bytes, and max_size is {most}")
        said = self._run(["download", name], _DOWNLOAD_S, fsize=most)
        path = f"{self._work}/debs/{package.file}"
        if said.code or not os.path.isfile(path):
            raise BootError(f"APT cannot fetch {name}: {_complaint(said.err)}")
        return path

    def _make(self, folder: str) -> None:
        above = self._work
        for part in folder.split("/"):
            above = f"{above}/{part}"
            try:
                os.mkdir(above, 0o755)
            except FileExistsError:
                continue
            if os.geteuid() == 0:
                os.chown(above, *self._account, follow_symlinks=False)

    def _run(self, arguments: list[str], seconds: float, fsize: int = 1 << 40) -> programs.Said:
        command = [_APT, "-qq", *(part for option in self._options() for part in ("-o", option)), *arguments]
        environment = {name: os.environ[name] for name in _PROXIES if name in os.environ}
        work = f"{self._work}/debs"
        config = f"{self._work}/apt.conf"
        Path(config).write_text("".join(f"{line}\n" for line in self._first()))
        environment["APT_CONFIG"] = config
        return programs.run(
            command,
            self._account,
            self._work if arguments[0] != "download" else work,
            network=True,
            seconds=seconds,
            environment=environment,
            fsize=fsize,
        )

    def _first(self) -> list[str]:
        """Read before /etc/apt/apt.conf.d: where that lies."""
        return [f'Dir::Etc "{self._etc}";', f'Dir::Etc::trustedparts "{self._etc}/trusted.gpg.d/";']

    def _options(self) -> list[str]:
        """Given last, so that nothing in /etc/apt weakens them."""
        work = self._work
        return [
            f"Dir::State={work}/state",
            f"Dir::State::lists={work}/state/lists",
            f"Dir::State::status={work}/status",
            f"Dir::Cache={work}/cache",
            f"Dir::Log={work}/log",
            "APT::Sandbox::User=",
            "APT::Get::AllowUnauthenticated=false",
            "Acquire::AllowInsecureRepositories=false",
            "Acquire::AllowWeakRepositories=false",
            "Acquire::AllowDowngradeToInsecureRepositories=false",
            "Acquire::Check-Valid-Until=true",
            "Acquire::Languages=none",
            "Acquire::Retries=3",
            "APT::Update::Post-Invoke=",
            "APT::Update::Post-Invoke-Success=",
            "APT::Update::Pre-Invoke=",
            "Dir::Bin::dpkg=/bin/true",
            *(f"APT::Architectures::={name}" for name in self._architectures),
        ]


def _complaint(err: bytes) -> str:
    """The first thing that APT complains of."""
    lines = [line for line in err.decode("utf-8", "replace").splitlines() if line.startswith(("E:", "W:", "Err"))]
    first = next((line for line in lines if line.startswith("E:")), lines[0] if lines else "no reason was given")
    return printable(first.removeprefix("E: "), 400)
