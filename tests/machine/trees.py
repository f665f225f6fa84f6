"""Fresh Debian root trees for machine tests, made once by mmdebstrap and kept in a cache outside of the project.

The mirror is what this machine's own APT uses.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

# what the package depends on, so that it installs without a network, and what the tests look with
PACKAGES = ("systemd", "systemd-sysv", "python3", "python3-yaml", "logrotate", "nftables", "iproute2")
# APT there does without gpgv; the others are for what is tried on one release only
MORE = {"trixie": ("gpgv", "dnsmasq-base", "fail2ban", "python3-systemd")}
_LEAN = ("/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/man/*")


def tree(release: str) -> Path:
    """The root tree of a Debian release; made when it is not in the cache."""
    wanted = hashlib.sha256(repr((release, _packages(release), _LEAN)).encode()).hexdigest()[:12]
    place = cache() / f"{release}-{wanted}"
    if not place.is_dir():
        place.parent.mkdir(parents=True, exist_ok=True)
        half = Path(tempfile.mkdtemp(prefix=f".{release}-", dir=place.parent))
        try:
            _make(release, half)
            half.rename(place)
        except OSError:
            if not place.is_dir():  # another run was quicker
                raise
        finally:
            shutil.rmtree(half, ignore_errors=True)
    return place


def _packages(release: str) -> tuple[str, ...]:
    return (*PACKAGES, *MORE.get(release, ()))


def cache() -> Path:
    """Where trees are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "/var/cache") / "appliance-tests"


def mirror() -> str:
    """The first Debian archive of this machine's APT configuration."""
    form = "$(LABEL) $(REPO_URI)"
    argv = ["apt-get", "indextargets", "--format", form, "Created-By: Packages", "Origin: Debian"]
    lines = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.splitlines()
    return next(line.removeprefix("Debian ") for line in lines if line.startswith("Debian "))


def _make(release: str, place: Path) -> None:
    argv = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(_packages(release))}"]
    argv += ['--aptopt=Acquire::Languages "none"', *(f"--dpkgopt=path-exclude={path}" for path in _LEAN)]
    made = subprocess.run([*argv, release, str(place), mirror()], capture_output=True, text=True, timeout=1500)
    if made.returncode:
        raise RuntimeError(f"mmdebstrap {release}: {made.stderr[-2000:]}")
