"""The image boots by both firmwares, is seeded once, keeps what it must, and nothing but the appliance listens."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.image.computer import DHCP, HERE, Computer, build, reachable
from tests.qemu.lab import Lab, lab, needs_lab

pytestmark = [
    *needs_lab,
    pytest.mark.slow,
    pytest.mark.exhaustive,
    pytest.mark.skipif(bool(reachable()), reason=f"needs {reachable()}"),
]
BIG = bytes(range(256)) * 4096  # 1 MiB
SEED = "ssh_keys: [{key}]\nconfiguration: {{ftp: {{incoming: {{enabled: true}}}}}}\n"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("image") / "appliance.img")


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Lab]:
    for folder in (*tmp_path.parents[:2], tmp_path):
        folder.chmod(0o755)
    with lab(tmp_path) as made:
        made.dnsmasq(*DHCP)
        yield made


def test_by_uefi_it_serves_as_its_seed_says_and_is_the_same_machine_at_its_second_boot(image: Path, room: Lab) -> None:
    computer = Computer(room, image)
    computer.seed(SEED.format(key=computer.key()))
    machine = computer.power_on("uefi")
    assert b"seeded: configuration, 1 keys of SSH" in machine.said

    # files by TFTP and by FTP, an upload
    computer.ssh(
        "head -c 1000000 /dev/urandom >/srv/appliance/tftp/kernel; cp /srv/appliance/tftp/kernel /srv/appliance/ftp/"
    )
    kernel = computer.fetch(f"tftp://{HERE}/kernel")
    assert len(kernel) == 1_000_000 and computer.fetch(f"ftp://{HERE}/kernel") == kernel
    (room.home / "mine").write_text("mine")
    computer.client("curl", "-sS", "-T", str(room.home / "mine"), f"ftp://{HERE}/incoming/mine")

    # read-only, nobody else listens, nobody has a password
    assert "ro" in computer.ssh("findmnt -n -o OPTIONS /").split(",")
    assert computer.ssh("touch /usr/x /etc/x 2>&1 || echo refused").count("Read-only") == 2
    listening = computer.ssh("ss -H -l -n -t -u | awk '{print $1, $5}'")
    ports = {(line.split()[0], int(line.rpartition(":")[2])) for line in listening.splitlines()}
    assert ports - {("udp", 68), ("udp", 546)} == {("tcp", 21), ("tcp", 22), ("udp", 69)}, listening
    passwords = computer.ssh("cut -d: -f2 /etc/shadow").split()
    assert passwords and set(passwords) <= {"*", "!", "!*"}
    status = computer.ssh("appliance status")
    assert "full" in status, status
    assert computer.ssh("systemctl --failed --plain --no-legend") == ""

    before = computer.ssh("cat /etc/machine-id /data/etc/ssh/ssh_host_ed25519_key.pub")
    assert re.match(r"[0-9a-f]{32}\nssh-ed25519 ", before)
    computer.power_off()

    # another seed is not read; the host key is the one that ssh has seen
    computer.seed("configuration: {ftp: {enabled: false}}\n")
    machine = computer.power_on("uefi")
    assert b"seeded" not in machine.said
    assert computer.ssh("cat /etc/machine-id /data/etc/ssh/ssh_host_ed25519_key.pub") == before
    assert "mine" in computer.ssh("appliance incoming list")
    assert computer.fetch(f"ftp://{HERE}/kernel") == kernel
    assert computer.fetch(f"tftp://{HERE}/kernel") == kernel


def test_by_bios_it_serves_with_a_wrong_clock_and_says_what_is_wrong_with_its_seed(image: Path, room: Lab) -> None:
    computer = Computer(room, image)
    computer.put_into_the_system(BIG, "/srv/appliance/tftp/kernel")
    computer.seed("runcmd: [reboot]\nconfiguration: {ftp: {incoming: {scan: {command: [/bin/sh]}}}}\n")
    machine = computer.power_on("image-bios", "-rtc", "base=1970-01-01T00:00:00")
    assert b"runcmd: unknown key" in machine.said
    assert b"a seed holds no commands" in machine.said
    machine.wait(b"closed", 60)
    assert computer.fetch(f"tftp://{HERE}/kernel") == BIG
    assert computer.fetch(f"ftp://{HERE}/") == b""
    assert computer.closed(22) and not computer.closed(21)


def test_without_its_data_partition_it_says_what_to_do(image: Path, room: Lab) -> None:
    computer = Computer(room, image)
    data = list(computer.parts).index("appliance-data") + 1
    computer.client("sfdisk", "--quiet", "--part-label", str(computer.disk), str(data), "other")
    drive = ("-drive", f"file={computer.disk},format=raw,if=none,id=disk", "-device", "virtio-blk-pci,drive=disk")
    machine = room.machine("image-bios", "52:54:00:00:00:12", *drive, memory=1024)
    machine.wait(b"there is no partition appliance-data", 900)
