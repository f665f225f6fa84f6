"""A DHCP client on the other host of a lab: udhcpc, and what it was told."""

from __future__ import annotations

import subprocess

from tests.qemu.lab import Lab


def leased(room: Lab, *more: str) -> dict[str, str]:
    """What a client is told, by the variables that udhcpc hands to its script."""
    told = room.home / "told"
    script = room.home / "script"
    script.write_text(f"#!/bin/sh\n[ $1 = bound ] && env > {told}\nexit 0\n")
    script.chmod(0o755)
    argv = room.enter(
        "busybox", "udhcpc", "-i", "wire", "-n", "-q", "-t", "4", "-s", str(script), *more, elsewhere=True
    )
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return dict(line.split("=", 1) for line in told.read_text().splitlines() if "=" in line)


def firmware(arch: int) -> tuple[str, ...]:
    """The words with which it asks as a boot ROM of this architecture does (RFC 4578; PXE 2.1)."""
    return "-V", f"PXEClient:Arch:{arch:05}:UNDI:003016", "-x", f"0x5d:{arch:04x}"


def ipxe(arch: int) -> tuple[str, ...]:
    """As iPXE asks on such a machine."""
    return *firmware(arch), "-x", "0x4d:" + b"iPXE".hex()
