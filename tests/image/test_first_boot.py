"""What the initial RAM disk does with the data partition: at the first boot, at the next ones, after a power cut."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support import needs_root

SCRIPT = Path(__file__).parents[2] / "image/files/etc/initramfs-tools/scripts/local-bottom/appliance"
PLACES = ("srv", "etc/appliance", "var/lib/appliance", "var/lib/systemd", "var/lib/logrotate", "var/log", "var/cache",
          "var/tmp")  # fmt: skip
pytestmark = [*needs_root, pytest.mark.skipif(not shutil.which("busybox"), reason="needs busybox")]


class Early:
    """A root and a data partition in folders; `boot` runs the script in a mount namespace of its own."""

    def __init__(self, home: Path) -> None:
        self.home, self.root, self.data, self.console = home, home / "root", home / "disk", home / "console"
        for name in ("data", *PLACES):
            (self.root / name).mkdir(parents=True)
        (self.root / "etc/machine-id").touch()
        (self.root / "srv/there").write_text("comes with the image")
        self.data.mkdir()
        (home / "functions").write_text(f'panic() {{ echo "panic: $*" >>{self.console}; exit 1; }}\n')
        text = SCRIPT.read_text()
        for here, there in (
            ("/scripts/functions", str(home / "functions")),
            ("/dev/console", str(self.console)),
            ("/dev/disk/by-partlabel/appliance-data", str(self.data)),
        ):
            assert here in text
            text = text.replace(here, there)
        text = text.replace(f">{self.console}", f">>{self.console}").replace(
            "mount -t ext4 -o nosuid,nodev,noexec,noatime", "mount -o bind"
        )
        (home / "script").write_text(re.sub(r"\be2fsck -p", "true", text).replace("-lt 60", "-lt 1"))

    def boot(self, look: str = "true") -> str:
        """What `look` prints, run as what comes after it."""
        line = f"rootmnt={self.root} busybox sh {self.home}/script; echo $? >{self.home}/code; {look}"
        done = subprocess.run(
            ["unshare", "-m", "busybox", "sh", "-c", line], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def code(self) -> int:
        return int((self.home / "code").read_text())


@pytest.fixture
def early(tmp_path: Path) -> Early:
    return Early(tmp_path)


def test_the_first_boot_takes_over_what_came_with_the_image_and_makes_a_machine_of_its_own(early: Early) -> None:
    machine = early.boot(f"cat {early.root}/etc/machine-id; echo changed >{early.root}/srv/there")
    assert early.code() == 0 and re.fullmatch("[0-9a-f]{32}\n", machine)
    assert (early.data / "srv/there").read_text() == "changed\n"
    assert (early.root / "srv/there").read_text() == "comes with the image", "the system itself is not written"
    assert not list(early.data.rglob("*.new"))
    again = early.boot(f"cat {early.root}/etc/machine-id {early.root}/srv/there")
    assert again == f"{machine}changed\n"


def test_after_a_power_cut_in_the_middle_the_rest_is_made(early: Early) -> None:
    (early.data / "srv.new").mkdir()
    (early.data / "srv.new/half").touch()
    (early.data / "etc").mkdir()
    (early.data / "etc/machine-id").write_text("0123")  # cut off
    machine = early.boot(f"cat {early.root}/etc/machine-id")
    assert re.fullmatch("[0-9a-f]{32}\n", machine)
    assert sorted(path.name for path in (early.data / "srv").iterdir()) == ["there"]


def test_a_folder_that_somebody_removed_is_made_again(early: Early) -> None:
    early.boot()
    shutil.rmtree(early.data / "srv")
    early.boot()
    assert (early.data / "srv/there").exists()


def test_every_place_is_one_of_the_data_partition(early: Early) -> None:
    said = early.boot(f"for place in {' '.join(PLACES)}; do touch {early.root}/$place/made; done")
    assert said == ""
    for place in PLACES:
        assert (early.data / place / "made").exists() and not (early.root / place / "made").exists()


def test_without_a_data_partition_it_says_what_to_do_and_goes_no_further(early: Early) -> None:
    early.data.rmdir()
    early.boot()
    assert early.code() == 1
    said = early.console.read_text()
    assert "there is no partition appliance-data" in said and "panic: no data partition" in said


def test_a_data_partition_that_cannot_be_mounted_is_told_with_the_remedy(early: Early) -> None:
    (early.root / "data").rmdir()
    early.boot()
    assert early.code() == 1
    assert "cannot be mounted (e2fsck -f" in early.console.read_text()
