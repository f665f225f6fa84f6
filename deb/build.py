"""Build the Debian package: a plain tree and `dpkg-deb`, the same bytes from the same sources (SOURCE_DATE_EPOCH).

``python deb/build.py [--version V] [--out DIR]``; `make deb` calls it. Prints the path of the package.
"""

from __future__ import annotations

import argparse
import gzip
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
TOP = HERE.parent
sys.path[:0] = [str(TOP), str(HERE)]

import wheels  # noqa: E402
from appliance import __version__  # noqa: E402
from appliance.cli import papers  # noqa: E402
from appliance.cli.main import program  # noqa: E402
from appliance.install import layout  # noqa: E402

LIBRARY = "usr/lib/appliance"
LAUNCHER = b"""#!/usr/bin/python3 -I
import sys

sys.path.insert(0, "/usr/lib/appliance")
from appliance.cli.main import main

sys.exit(main())
"""


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--version", default=__version__)
    options.add_argument("--out", type=Path, default=TOP / "build")
    options.add_argument("--cache", type=Path, default=TOP / "build" / "wheels")
    options.add_argument("--compression", choices=("xz", "none"), default="xz", help="none: for tests, in a second")
    chosen = options.parse_args()
    found = wheels.fetch(TOP / "requirements" / "run.txt", chosen.cache)
    chosen.out.mkdir(parents=True, exist_ok=True)
    os.umask(0o022)
    with tempfile.TemporaryDirectory(prefix="deb-") as place:
        tree = Path(place) / "tree"
        lay(tree, found, chosen.version)
        control(tree, chosen.version)
        made = chosen.out / f"appliance_{chosen.version}_{architecture()}.deb"
        settle(tree, epoch())
        how = ["--root-owner-group", "--threads-max=1", f"-Z{chosen.compression}"]
        pack = ["dpkg-deb", *how, "--build", str(tree), str(made)]
        subprocess.run(pack, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "SOURCE_DATE_EPOCH": epoch()})
    print(made)
    return 0


def lay(tree: Path, found: list[Path], version: str) -> None:
    """The files of the package below `tree`."""
    library = tree / LIBRARY
    for wheel in found:
        wheels.unpack(wheel, library)
    for source in sorted((TOP / "appliance").rglob("*")):
        name = source.relative_to(TOP)
        laid = str(name).startswith(("appliance/install/rootfs/", "appliance/install/systemd/"))
        if source.is_file() and not laid and "__pycache__" not in name.parts:
            put(library / name, source.read_bytes(), 0o644)
    made = {"/usr/bin/appliance": LAUNCHER, **papers.generated(program())}
    for item in layout.items(layout.PROGRAM, made):
        put(tree / item.path.lstrip("/"), item.content, item.mode)
    for folder in layout.folders():
        (tree / folder.lstrip("/")).mkdir(parents=True, exist_ok=True)
    documents = tree / "usr/share/doc/appliance"
    put(documents / "copyright", copyright_text(library).encode(), 0o644)
    put(documents / "changelog.gz", gzip.compress(changelog(version).encode(), 9, mtime=0), 0o644)
    put(documents / "NEWS.gz", gzip.compress((TOP / "CHANGELOG.md").read_bytes(), 9, mtime=0), 0o644)
    put(tree / "usr/share/lintian/overrides/appliance", (HERE / "lintian-overrides").read_bytes(), 0o644)


def put(place: Path, content: bytes, mode: int) -> None:
    """One file with its folders."""
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    place.chmod(mode)


def control(tree: Path, version: str) -> None:
    """DEBIAN/: control, the scripts, the list of configuration files, the sums."""
    files = [path for path in sorted(tree.rglob("*")) if path.is_file()]
    size = sum(-(-path.stat().st_size // 1024) for path in files)
    values = {"version": version, "architecture": architecture(), "maintainer": maintainer(), "size": size}
    text = (HERE / "control").read_text().format(**values)
    put(tree / "DEBIAN/control", text.encode(), 0o644)
    for name in ("postinst", "prerm", "postrm"):
        script = (HERE / name).read_text().replace("{accounts}", " ".join(accounts()))
        put(tree / "DEBIAN" / name, script.encode(), 0o755)
    etc = [f"/{path.relative_to(tree)}\n" for path in files if path.relative_to(tree).parts[0] == "etc"]
    put(tree / "DEBIAN/conffiles", "".join(etc).encode(), 0o644)
    names = [str(path.relative_to(tree)) for path in files]
    sums = subprocess.run(["md5sum", *names], cwd=tree, check=True, capture_output=True).stdout
    put(tree / "DEBIAN/md5sums", sums, 0o644)


def accounts() -> list[str]:
    """The accounts that the package makes."""
    text = (TOP / "rootfs/usr/lib/sysusers.d/appliance.conf").read_text()
    return [line.split()[1] for line in text.splitlines() if line.startswith("u ")]


def settle(tree: Path, when: str) -> None:
    """The same time on every file, so that the same sources make the same bytes."""
    for path in [tree, *tree.rglob("*")]:
        os.utime(path, (int(when), int(when)), follow_symlinks=False)


def epoch() -> str:
    """SOURCE_DATE_EPOCH (reproducible-builds.org), else the time of the last commit, else the first second of 2026."""
    if stated := os.environ.get("SOURCE_DATE_EPOCH"):
        return stated
    git = shutil.which("git")
    if git:
        asked = [git, "-C", str(TOP), "log", "-1", "--format=%ct"]
        said = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
        if said.isdecimal():
            return said
    return "1767225600"


def architecture() -> str:
    """As dpkg names it."""
    return subprocess.run(["dpkg", "--print-architecture"], check=True, capture_output=True, text=True).stdout.strip()


def maintainer() -> str:
    """Who builds it answers for it (DEBFULLNAME and DEBEMAIL, deb-control(5)); otherwise nobody in particular."""
    name, mail = os.environ.get("DEBFULLNAME", "Local build"), os.environ.get("DEBEMAIL", "root@localhost")
    return f"{name} <{mail}>"


def changelog(version: str) -> str:
    """A Debian changelog of one entry; what changed stands in NEWS."""
    when = subprocess.run(
        ["date", "-u", "-R", "-d", f"@{epoch()}"], check=True, capture_output=True, text=True, env={"LC_ALL": "C"}
    ).stdout.strip()
    return f"appliance ({version}) stable; urgency=medium\n\n  * See NEWS.gz.\n\n -- {maintainer()}  {when}\n"


def copyright_text(library: Path) -> str:
    """Our licence, and that of every library inside, as its authors wrote it."""
    parts = [(TOP / "LICENSE").read_text(), "The libraries below /usr/lib/appliance have licences of their own.\n"]
    for folder in sorted(library.glob("*.dist-info")):
        name = re.sub(r"-([0-9.]+)\.dist-info$", r" \1", folder.name)
        texts = sorted(path for path in folder.rglob("*") if re.search("licen|copying|notice", path.name, re.I))
        texts = [path for path in texts if path.is_file()]
        metadata = (folder / "METADATA").read_text()
        terms = re.search(r"^License(?:-Expression)?: (.+)$", metadata, re.M)
        said = "\n".join(path.read_text() for path in texts) or f"{terms[1] if terms else 'see its METADATA'}\n"
        parts.append(f"{'-' * 70}\n{name}\n\n{said}")
    return "\n".join(parts)


if __name__ == "__main__":
    sys.exit(main())
