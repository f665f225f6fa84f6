"""The configurations in config/ are real: each passes its own check without a warning, starts and serves (in a
namespace with the real ports and the real folders)."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.system.running import PROGRAM

CONFIG = Path(__file__).parents[2] / "config"
SCRIPT = r"""
set -eu
ip link set lo up
ip addr add 192.0.2.1/24 dev lo
for place in /srv /var/lib /run; do mount -t tmpfs -o size=20g,mode=755 tmpfs $place; done
mkdir -p /srv/appliance/tftp /srv/appliance/ftp /srv/mirror
for place in /srv/appliance/tftp /srv/appliance/ftp /srv/mirror; do echo served > $place/file; done
"$@" check -c "$CONFIG" --json
"$@" run -c "$CONFIG" >&2 & run=$!
"$@" status -c "$CONFIG" --wait 20 --json
for url in $URLS; do curl -sS --interface 192.0.2.1 "$url" >&2; done
kill -TERM $run
wait $run
"""


@pytest.mark.root
@pytest.mark.skipif(not ROOT, reason="needs root for namespaces and low ports")
@pytest.mark.parametrize(
    ("name", "urls"),
    [
        ("appliance", "tftp://192.0.2.1/file ftp://192.0.2.1/file"),
        ("pxe-lab", "tftp://192.0.2.1/file ftp://192.0.2.1/file"),
        ("mirror", "ftp://192.0.2.1/file"),
        ("dropbox", "ftp://192.0.2.1/file"),
    ],
)
def test_a_shipped_configuration_passes_its_check_and_serves(name: str, urls: str) -> None:
    config = CONFIG / f"{name}.yaml"
    argv = ["unshare", "--net", "--mount", "sh", "-c", SCRIPT, "sh", *PROGRAM]
    environment = {"CONFIG": str(config), "URLS": urls, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/nonexistent"}
    done = subprocess.run(argv, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    check, status = (json.loads(line) for line in _documents(done.stdout))
    assert (check["ok"], check["problems"]) == (True, [])
    assert status["ready"] is True
    assert {w["confinement"]["level"] for s in status["services"].values() for w in s["workers"]} == {"full"}
    assert done.stderr.count("served\n") == len(urls.split())


def _documents(text: str) -> list[str]:
    decoder, found = json.JSONDecoder(), []
    while text := text.lstrip():
        _, end = decoder.raw_decode(text)
        found.append(text[:end])
        text = text[end:]
    return found
