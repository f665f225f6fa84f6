"""What is written for GRUB is read by GRUB's own parser, whatever titles and arguments hold."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from appliance.boot.loaders import Entry, Screen, grub_entrance, write
from appliance.boot.model import Loader, Profile
from tests.qemu.tree import package

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("apt-get") is None, reason="fetches packages of Debian with apt-get"),
]
LOADER = Loader("x64-efi", "shimx64.efi", "shim", "grub")
TITLES = (
    "Linux",
    "it's $x",
    'a "b" {c}',
    "a; b && c | d",
    "a\\",
    "# no comment",
    "ä ö",
    "a'b'c",
    "--id x",
    "(hd0) [1] <2>",
)
ARGS = ("quiet", "ds=nocloud;s=http://h/", 'a="b c"', "x={y}", "a\\b", "$x", "a&b|c", "#x", "a'b")


def taken(tmp_path: Path, text: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "grub.cfg").write_text(text)
    program = package("grub-common") / "usr/bin/grub-script-check"
    return subprocess.run([program, "-v", tmp_path / "grub.cfg"], capture_output=True, text=True, timeout=30)


def test_every_title_and_argument_stays_one_word(tmp_path: Path) -> None:
    profiles = [Profile(f"p{i}", title, kernel="k", initrd=("i",)) for i, title in enumerate(TITLES)]
    local = Profile("local", "Disk", action="local")
    entries = [Entry(one.name, one.title, one, " ".join(ARGS)) for one in profiles]
    screen = Screen((*entries, Entry("local", "Disk", local, "")), "p1", "Menu", 5, serial=True)
    for text in (write("grub", screen, ("x64-efi",)), grub_entrance(LOADER, screen, ("x64-efi",))):
        done = taken(tmp_path, text)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout


def test_the_check_would_find_a_quote_that_is_left_open(tmp_path: Path) -> None:
    assert taken(tmp_path, "menuentry 'it's {\n}\n").returncode != 0
