"""One QEMU machine without a screen: it boots from the network, and what it says on its serial console is read here."""

from __future__ import annotations

import os
import select
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

OVMF = Path("/usr/share/OVMF")
# The machine, its firmware, and its network card. The BIOS card boots by iPXE's ROM; the UEFI card has no ROM, so that
# the firmware's own PXE (EDK2) does it.
KINDS: dict[str, tuple[str, ...]] = {
    "bios": ("qemu-system-x86_64", "-M", "pc", "-cpu", "qemu64", "-boot", "n",
             "-device", "e1000,netdev=net,mac={mac}"),
    "uefi": ("qemu-system-x86_64", "-M", "q35", "-cpu", "qemu64",
             "-drive", "if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd",
             "-drive", "if=pflash,format=raw,file={vars}",
             "-device", "virtio-net-pci,netdev=net,mac={mac},romfile=,bootindex=1"),
    "image-bios": ("qemu-system-x86_64", "-M", "pc", "-cpu", "qemu64",
                   "-device", "virtio-net-pci,netdev=net,mac={mac},romfile="),
    "u-boot": ("qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a53",
               "-bios", "/usr/lib/u-boot/qemu_arm64/u-boot.bin", "-device", "virtio-net-pci,netdev=net,mac={mac}"),
}  # fmt: skip


class Machine:
    """`said` is all it wrote on its serial console since it was powered on; `mark` is how much of it was waited for."""

    def __init__(self, home: Path, name: str, kind: str, mac: str, memory: int) -> None:
        self.name, self.kind, self.mac, self._memory = name, kind, mac, memory
        self._home = home
        self.said = b""
        self.mark = 0
        self.powered_on = 0.0
        self._process: subprocess.Popen[bytes] | None = None
        self._serial: socket.socket | None = None

    def power_on(self, enter: Callable[..., list[str]], tap: str, more: Sequence[str], *, reboots: bool) -> None:
        """Start it on a port of the bridge. `more` are further words for QEMU; a reset ends it unless it `reboots`."""
        nvram = self._home / f"{self.name}.fd"
        if self.kind == "uefi":
            shutil.copyfile(OVMF / "OVMF_VARS_4M.fd", nvram)
        ours, theirs = socket.socketpair()
        words = [word.format(mac=self.mac, vars=nvram) for word in KINDS[self.kind]]
        argv = enter(
            *words, "-m", str(self._memory), "-display", "none", "-nodefaults", "-no-user-config",
            *(() if reboots else ("-no-reboot",)),
            "-netdev", f"tap,id=net,ifname={tap},script=no,downscript=no",
            "-chardev", f"socket,id=serial,fd={theirs.fileno()}", "-serial", "chardev:serial", *more,
        )  # fmt: skip
        self.powered_on = time.monotonic()
        with (self._home / f"{self.name}.qemu").open("ab") as out:
            self._process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, pass_fds=[theirs.fileno()]
            )
        theirs.close()
        self._serial = ours

    def wait(self, text: bytes, seconds: float) -> float:
        """Until it says `text`, after what was waited for before; seconds since power-on. Fails after `seconds`."""
        deadline = time.monotonic() + seconds
        while (found := self.said.find(text, self.mark)) < 0:
            if not self._hear(deadline):
                pytest.fail(f"{self.name} did not say {text!r} within {seconds} s; its console:\n{self.console()}")
        self.mark = found + len(text)
        return time.monotonic() - self.powered_on

    def wait_for_any(self, texts: Sequence[bytes], seconds: float) -> bytes:
        """The first of `texts` that it says."""
        deadline = time.monotonic() + seconds
        while not (hits := [(at, text) for text in texts if (at := self.said.find(text, self.mark)) >= 0]):
            if not self._hear(deadline):
                pytest.fail(f"{self.name} said none of {texts!r} within {seconds} s:\n{self.console()}")
        at, text = min(hits)
        self.mark = at + len(text)
        return text

    def listen_until(self, fact: Callable[[], object], seconds: float, what: str) -> None:
        """Hear what it says until a fact of others holds: a console that nobody reads stops the machine."""
        deadline = time.monotonic() + seconds
        while not fact():
            self._hear(min(deadline, time.monotonic() + 1))
            if time.monotonic() > deadline:
                pytest.fail(f"not within {seconds} s: {what}; its console:\n{self.console()}")

    def type(self, text: bytes) -> None:
        """On its serial console."""
        assert self._serial is not None
        self._serial.sendall(text)

    def console(self) -> str:
        """The end of what it said, for people."""
        return self.said[-4000:].decode("ascii", "backslashreplace")

    def ended(self, seconds: float) -> int:
        """Wait until the machine is off (it powered off, or rebooted: QEMU ends then); QEMU's exit status."""
        deadline = time.monotonic() + seconds
        assert self._process is not None
        while self._hear(deadline):
            pass
        return self._process.wait(max(1.0, deadline - time.monotonic()))

    def power_off(self) -> None:
        """Pull the plug."""
        (self._home / f"{self.name}.console").write_bytes(self.said)
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        if self._serial is not None:
            self._serial.close()
            self._serial = None

    def _hear(self, deadline: float) -> bool:
        """Take what it says next; False at the deadline or when it is off."""
        left = deadline - time.monotonic()
        if self._serial is None or left <= 0 or not select.select([self._serial], [], [], left)[0]:
            return False
        try:
            more = self._serial.recv(65536)
        except ConnectionError:
            more = b""
        self.said += more
        return bool(more)


def missing(*paths: str) -> str:
    """Of these firmware files, the first that is not here; empty if all are."""
    return next((path for path in paths if not os.path.exists(path)), "")
