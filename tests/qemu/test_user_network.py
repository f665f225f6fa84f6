"""What the README shows: a machine of QEMU's user network boots from an ordinary user's appliance on a high port."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from appliance.cli import demo
from tests.support import until
from tests.system.running import appliance

README = Path(__file__).parents[2] / "README.md"


@pytest.mark.skipif(not shutil.which("qemu-system-x86_64"), reason="needs qemu-system-x86")
def test_the_command_of_the_readme_boots_a_machine_from_the_demo_files(tmp_path: Path) -> None:
    found = re.search(r"^ {4}(qemu-system-x86_64 .*)$", README.read_text(), re.MULTILINE)
    assert found is not None
    command = found[1]
    assert "tftp://10.0.2.2:6969/boot.ipxe" in command
    with appliance(tmp_path, workers=1, incoming="false") as made:
        shutil.rmtree(made.tree)
        demo.make(str(made.tree), "incoming")
        made.signal(1)  # the folder is another one now
        until(lambda: made.status().get("ready") and "folder" not in str(made.status()["problems"]), 30, "ready")
        argv = shlex.split(command.replace("6969", str(made.address("tftp")[1])))
        said = b""
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as machine:
            try:
                assert machine.stdin is not None and machine.stdout is not None
                while b"iPXE>" not in said and (more := machine.stdout.read1(4096)):
                    said += more
                for letter in b"imgfetch a/one.txt\r":  # as fast as it echoes: its serial line holds 16 characters
                    machine.stdin.write(bytes((letter,)))
                    machine.stdin.flush()
                    said += machine.stdout.read1(4096)
                made.said("file=a/one.txt", 60)
            finally:
                machine.kill()
    assert b"It was sent by TFTP to QEMU" in said
    assert b"hello.txt : 26 bytes" in said
