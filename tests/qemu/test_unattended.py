"""An installation without a question, as far as it needs nothing but this server: answers by FTP, a mirror by FTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.qemu.lab import CONFIG, SERVER, Lab, boot, lab, needs_lab

pytestmark = [*needs_lab, pytest.mark.exhaustive]
MAC = "52:54:00:00:00:01"
MINUTE = 60
HASH = "$6$salt$0123456789abcdef"
MANIFEST = """\
server: 192.0.2.1
recipes: [pxelinux, debian-12, local-disk]
secrets: {home}/secrets.yaml
menu: {{serial: true}}
vars: {{console: "ttyS0,115200"}}
profiles:
  auto:
    inherit: debian-12-auto
    more_args: DEBIAN_FRONTEND=text
    vars: {{mirror_protocol: ftp, mirror_host: "192.0.2.1"}}
"""


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Lab]:
    for folder in (*tmp_path.parents[:2], tmp_path):
        folder.chmod(0o755)
    with lab(tmp_path) as made:
        yield made


def test_debians_installer_takes_its_answers_and_asks_our_mirror_without_a_question(room: Lab) -> None:
    (room.home / "boot.yaml").write_text(MANIFEST.format(home=room.home))
    secrets = room.home / "secrets.yaml"
    secrets.write_text(f"user_password_hash: {HASH}\n")
    secrets.chmod(0o600)
    made = room.appliance(CONFIG + "boot: {{enabled: true, manifest: {home}/boot.yaml}}\n")
    boot(made, "fetch")
    boot(made, "publish")
    boot(made, "host", "set", MAC, "--name", "m1", "--profile", "local-disk")
    boot(made, "host", "set", "m1", "--profile", "auto", "--once")
    names = f"dhcp-option=option:dns-server,{SERVER}"  # told none, the installer asks for name servers
    room.dnsmasq("dhcp-range=192.0.2.50,192.0.2.99,255.255.255.0,1h", names, f"dhcp-boot=pxelinux.0,,{SERVER}")
    machine = room.machine("bios", MAC)
    machine.wait(b"Linux version", 10 * MINUTE)
    machine.listen_until(lambda: "debian/dists/" in made.log.read_text(), 15 * MINUTE, "it asks for the mirror")
    said = made.log.read_text()
    answers = next(line for line in said.splitlines() if "answers/m1/preseed.cfg" in line)
    assert '"room": "ftp"' in answers and HASH not in said
    assert "Choose language" not in machine.console()
