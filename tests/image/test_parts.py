"""What the image is made of: partitions, units, the example of a seed. The rest is seen when it boots."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import struct
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

from appliance.install import seed

TOP = Path(__file__).parents[2]
FILES = TOP / "image/files"
UNITS = FILES / "etc/systemd/system"


@pytest.fixture(scope="module")
def disk() -> ModuleType:
    spec = importlib.util.spec_from_file_location("image_disk", TOP / "image/disk.py")
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["image_disk"] = made
    spec.loader.exec_module(made)
    return made


def test_partitions_follow_each_other_and_there_is_room_for_a_second_system(disk: ModuleType) -> None:
    found = disk.parts(1 << 30, 2 << 30)
    assert [part.start for part in found[1:]] == [part.start + part.size for part in found[:-1]]
    sizes = {part.name: part.size for part in found}
    assert sizes["appliance-root-a"] == sizes["appliance-root-b"] == 1 << 30 and sizes["appliance-data"] == 2 << 30
    said = (TOP / "docs/INSTALL.md").read_text()
    place = next(part.start for part in found if part.name == "appliance-seed")
    assert f"appliance.img@@{place}" in said, "where docs/INSTALL.md says that the seed goes"


def test_the_bios_finds_grubs_core(disk: ModuleType, tmp_path: Path) -> None:
    place = disk.parts(1 << 20, 1 << 20)[0]
    image = tmp_path / "disk"
    image.write_bytes(bytes(4 << 20))
    disk.boot_by_bios(image, b"\xeb" * 512, b"\xaa" * 1024, place)
    made = image.read_bytes()
    assert struct.unpack_from("<Q", made, 0x5C)[0] * 512 == place.start
    assert made[440:512] == bytes(72), "the disk's own signature and table stay"
    assert struct.unpack_from("<Q", made, place.start + 500)[0] * 512 == place.start + 512
    with pytest.raises(SystemExit):
        disk.boot_by_bios(image, b"\xeb" * 512, bytes(place.size + 1), place)


def test_the_note_on_the_partition_shows_a_seed_that_is_right() -> None:
    example = (TOP / "image/README-seed.txt").read_text()
    text = re.search(r"ssh_keys:.*?\n\n", example, re.S)
    assert text
    blob = "AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
    assert len(seed.read("seed.yaml", text[0].replace("AAAA...", blob).encode()).ssh_keys) == 1


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
def test_systemd_knows_every_line(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for unit in (path for path in UNITS.iterdir() if path.is_file()):
        text = re.sub(r"/usr/(bin/appliance|lib/appliance-image/console)\b", str(program), unit.read_text())
        (tmp_path / unit.name).write_text(text)
    found = sorted(str(path) for path in tmp_path.iterdir() if path.suffix in {".service", ".mount"})
    assert len(found) == 4
    said = subprocess.run(["systemd-analyze", "verify", "--man=no", *found], capture_output=True, text=True, timeout=60)
    assert (said.returncode, said.stdout, said.stderr) == (0, "", "")


@pytest.mark.parametrize(
    "script",
    ["etc/initramfs-tools/scripts/local-bottom/appliance", "etc/initramfs-tools/hooks/appliance",
     "usr/lib/appliance-image/console", "../hook"],
)  # fmt: skip
def test_every_script_can_be_run_and_read_by_a_plain_shell(script: str) -> None:
    place = FILES / script
    assert os.access(place, os.X_OK)
    shell = ["busybox", "sh"] if shutil.which("busybox") else ["sh"]
    assert subprocess.run([*shell, "-n", str(place)], capture_output=True).stderr == b""
