"""As the unit starts it: root with seven capabilities, which is less than root."""

from __future__ import annotations

import io
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import needs_root, until
from tests.system.running import PROGRAM, Appliance, tftp_read

pytestmark = needs_root
UNIT = Path(__file__).parents[2] / "systemd" / "appliance.service"


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder below folders that everybody may pass, as /srv and /var are."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        yield Path(place)


def start(made: Appliance, *, without: str = "", wait: bool = True) -> None:
    found = re.search(r"^CapabilityBoundingSet=(.*)$", UNIT.read_text(), re.M)
    assert found
    kept = [name for name in found[1].split() if name != without]
    few = ",".join(["-all", *(f"+{name.removeprefix('CAP_').lower()}" for name in kept)])
    argv = ["setpriv", "--bounding-set", few, "--inh-caps=-all", *PROGRAM, "run", "-c", str(made.config)]
    with made.log.open("ab") as log:
        made.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    if wait:
        until(lambda: made.ready() or made.ended(), 30, "ready")


def test_it_serves_takes_uploads_and_starts_again_on_its_own_folders(home: Path) -> None:
    made = Appliance(home, confinement="required")
    try:
        for turn in range(2):  # the second time the drop box is there, and closed to everybody but its keeper
            start(made)
            assert tftp_read(made.address("tftp"), b"hello.txt") == b"hello, network\n"
            with made.ftp() as client:
                client.storbinary(f"STOR incoming/{turn}.txt", io.BytesIO(b"mine"))
            workers = made.workers("ftp") + made.workers("custody")
            assert {worker["confinement"]["level"] for worker in workers} == {"full"}
            made.stop()
    finally:
        made.stop()
    assert sorted(path.name for path in (home / "tree/incoming").iterdir()) == ["0.txt", "1.txt"]


def test_a_folder_that_only_its_own_group_may_read_is_served(home: Path) -> None:
    made = Appliance(home, confinement="required", incoming="false")
    made.tree.chmod(0o750)
    os.chown(made.tree, 12345, 64611)
    made.write(made.config.read_text().replace("tftp:\n", "tftp:\n  enabled: false\n"))
    try:
        start(made)
        with made.ftp() as client:
            assert "hello.txt" in client.nlst()
    finally:
        made.stop()


def test_a_container_without_the_right_to_chroot_is_told_what_to_do(home: Path) -> None:
    made = Appliance(home, confinement="required", incoming="false")
    try:
        start(made, without="CAP_SYS_CHROOT", wait=False)
        assert made.wait() == 1
        said = made.log.read_text()
        assert "start as root with CAP_SYS_CHROOT, or allow user namespaces" in said
    finally:
        made.stop()
