"""A machine whose only disk is the image, on the wire of a lab, with a client beside it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from tests.qemu.lab import Lab
from tests.qemu.machine import Machine

TOP = Path(__file__).parents[2]
MINUTE = 60  # an idle machine needs a fifth of the limits below
MAC, HERE = "52:54:00:00:00:11", "192.0.2.60"
DHCP = ("dhcp-range=192.0.2.50,192.0.2.99,255.255.255.0,1h", f"dhcp-host={MAC},{HERE}")


def build(out: Path) -> Path:
    """`make image`, into a file; the path."""
    argv = [sys.executable, str(TOP / "image/make.py"), "--out", str(out)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=40 * MINUTE)
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)
    return out


class Computer:
    """`disk` is a copy of the image. `power_on` it; `client` runs programs of this machine beside it."""

    def __init__(self, room: Lab, image: Path) -> None:
        self.room, self.disk = room, room.home / "disk.img"
        subprocess.run(["cp", "--sparse=always", str(image), str(self.disk)], check=True)
        said = subprocess.run(["sfdisk", "--json", str(self.disk)], check=True, capture_output=True).stdout
        self.parts = {part["name"]: part["start"] * 512 for part in json.loads(said)["partitiontable"]["partitions"]}
        self.machine: Machine | None = None
        self._boots = 0

    def seed(self, text: str) -> None:
        """What a person puts on the partition for it."""
        given = self.room.home / "seed.yaml"
        given.write_text(text)
        drive = f"{self.disk}@@{self.parts['appliance-seed']}"
        subprocess.run(["mcopy", "-o", "-i", drive, str(given), "::seed.yaml"], check=True, capture_output=True)

    def put_into_the_system(self, content: bytes, path: str) -> None:
        """A file that comes with the image."""
        given = self.room.home / "given"
        given.write_bytes(content)
        slot = f"{self.disk}?offset={self.parts['appliance-root-a']}"
        said = subprocess.run(["debugfs", "-w", "-R", f"write {given} {path}", slot], capture_output=True, text=True)
        assert "Allocated inode" in said.stdout, said

    def power_on(self, kind: str, *more: str) -> Machine:
        """Until it says that it serves."""
        self._boots += 1
        drive = ("-drive", f"file={self.disk},format=raw,if=none,id=disk,cache=unsafe")
        device = ("-device", "virtio-blk-pci,drive=disk,bootindex=0")
        name = f"boot{self._boots}"
        self.machine = self.room.machine(
            kind, MAC, *drive, *device, "-smp", "2", *more, memory=1024, name=name, reboots=True
        )
        took = self.machine.wait(b"appliance: serving", 12 * MINUTE)
        print(f"{kind}, boot {self._boots}: serving after {took:.0f} s")
        self.machine.wait(b"appliance: ssh ", 4 * MINUTE)
        return self.machine

    def power_off(self) -> None:
        """As a person types it."""
        assert self.machine is not None
        self.ssh("systemctl poweroff", check=False)
        assert self.machine.ended(5 * MINUTE) == 0
        self.machine.power_off()

    # -- from outside

    def client(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        done = subprocess.run(self.room.enter(*argv), capture_output=True, timeout=240, stdin=subprocess.DEVNULL)
        assert not check or done.returncode == 0, (argv, done.stdout, done.stderr)
        return done

    def fetch(self, url: str) -> bytes:
        """By curl."""
        return self.client("curl", "-sS", "--max-time", "120", url).stdout

    def ssh(self, text: str, *, check: bool = True) -> str:
        """A line of shell in it. The key that it shows the first time is the one it has to show ever after."""
        options = (
            f"UserKnownHostsFile={self.room.home}/known",
            "StrictHostKeyChecking=accept-new",
            "ConnectTimeout=60",
        )
        words = ["-i", str(self.room.home / "key"), *(f"-o{option}" for option in (*options, "BatchMode=yes"))]
        return self.client("ssh", *words, f"root@{HERE}", text, check=check).stdout.decode()

    def key(self) -> str:
        """A new pair of keys; the public one."""
        place = self.room.home / "key"
        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "somebody@outside", "-f", str(place)]
        subprocess.run(argv, check=True)
        return place.with_suffix(".pub").read_text().strip()

    def closed(self, port: int) -> bool:
        """Whether nobody listens at a TCP port."""
        code = f"import socket; raise SystemExit(socket.socket().connect_ex(('{HERE}', {port})))"
        return self.client(sys.executable, "-c", code, check=False).returncode != 0


def reachable() -> str:
    """What the tests of the image lack here, empty when nothing."""
    needed = (
        "mmdebstrap",
        "mcopy",
        "sfdisk",
        "debugfs",
        "grub-mkimage",
        "ssh",
        "qemu-system-x86_64",
        "dnsmasq",
        "curl",
    )
    return " ".join(tool for tool in needed if not shutil.which(tool))
