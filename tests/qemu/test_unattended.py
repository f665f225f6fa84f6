"""An installation without a question: its answers, and the installer's own parts, by FTP from this server."""

from __future__ import annotations

import pytest

from tests.qemu import archive
from tests.qemu.lab import CONFIG, SERVER, Lab, boot, needs_lab

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


def test_debians_installer_takes_answers_and_its_own_parts_from_us_without_a_question(room: Lab) -> None:
    (room.home / "boot.yaml").write_text(MANIFEST.format(home=room.home))
    secrets = room.home / "secrets.yaml"
    secrets.write_text(f"user_password_hash: {HASH}\n")
    secrets.chmod(0o600)
    made = room.appliance(CONFIG + "boot: {{enabled: true, manifest: {home}/boot.yaml}}\n")
    archive.lay(room.home / "pub/debian", room.home / "apt")
    boot(made, "fetch")
    boot(made, "publish")
    boot(made, "host", "set", MAC, "--name", "m1", "--profile", "local-disk")
    boot(made, "host", "set", "m1", "--profile", "auto", "--once")
    room.dnsmasq("dhcp-range=192.0.2.50,192.0.2.99,255.255.255.0,1h", f"dhcp-boot=pxelinux.0,,{SERVER}")
    machine = room.machine("bios", MAC)
    machine.wait(b"Linux version", 10 * MINUTE)
    # it has believed the signature of the index (the archive's own) when it asks for a part
    machine.listen_until(
        lambda: "/debian/pool/main/" in made.log.read_text(), 20 * MINUTE, "it asks for a part of itself"
    )
    got = [line for line in made.log.read_text().splitlines() if '"verb": "RETR"' in line]
    for path in ("answers/m1/preseed.cfg", "dists/bookworm/Release", "dists/bookworm/Release.gpg", "Packages.xz"):
        assert any(f'{path}"' in line and '"result": "complete"' in line for line in got), path
    assert HASH not in made.log.read_text()
    before, loads, _after = machine.said.partition(b"Loading additional components")
    assert loads and b"Prompt: '?' for help" not in before  # how its text frontend asks
