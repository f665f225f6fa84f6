"""From power-on to the first line of the kernel, for each firmware, beside the same tree served by dnsmasq's TFTP.

`python -m bench.power_on [--rounds N] [--only bios-ipxe,...] [--write]`, as root. The machines are QEMU's without
hardware virtualisation, so what is compared is what the server adds; the two take turns inside each round.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from bench.results import FILE, machine, write_section
from tests.qemu import tree
from tests.qemu.lab import SERVER, Lab, lab

MAC = "52:54:00:00:00:01"
U_BOOT_MAC = "52:52:52:52:52:52"  # what Debian's U-Boot for QEMU calls itself
MANIFEST = f"""\
recipes: [pxelinux, grub, ipxe, u-boot, debian-12, debian-12-arm64, local-disk]
menu: {{serial: true, default: local-disk, entries: [local-disk]}}
vars: {{console: "ttyS0,115200"}}
machines:
  m1: {{mac: ["{MAC}", "{U_BOOT_MAC}"], profile: PROFILE}}
"""
X86, ARM = "debian-12", "debian-12-arm64"
CASES = {  # the machine, what DHCP names to it (by its user class), and what it boots
    "bios-ipxe": ("bios", (f"dhcp-boot=boot.ipxe,,{SERVER}",), X86),
    "bios-pxelinux": ("bios", (f"dhcp-boot=pxelinux.0,,{SERVER}",), X86),
    "uefi-grub": ("uefi", (f"dhcp-boot=shimx64.efi,,{SERVER}",), X86),
    "uefi-ipxe": (
        "uefi", (f"dhcp-boot=tag:!ipxe,snponly.efi,,{SERVER}", f"dhcp-boot=tag:ipxe,boot.ipxe,,{SERVER}"), X86,
    ),
    "u-boot": ("u-boot", (f"dhcp-boot=boot.scr.uimg,,{SERVER}",), ARM),
}  # fmt: skip
SERVERS = ("ours", "dnsmasq")
HEADING = "From power-on to the kernel"
_LIMIT_S = 900


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.power_on")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", default=",".join(CASES))
    parser.add_argument("--write", action="store_true")
    wanted = parser.parse_args()
    cases = wanted.only.split(",")
    seconds: dict[tuple[str, str], list[float]] = {(case, server): [] for case in cases for server in SERVERS}
    for number in range(wanted.rounds):
        for case in cases:
            for server in SERVERS if number % 2 == 0 else SERVERS[::-1]:
                seconds[case, server].append(boot(case, server))
                print(f"round {number + 1}: {case} from {server}: {seconds[case, server][-1]:.1f} s", flush=True)
    rows = {case: row(case, seconds, wanted.rounds) for case in cases}
    print(report(rows))
    if wanted.write:
        known = written() | rows
        write_section(HEADING, report({case: known[case] for case in CASES if case in known}))


def boot(case: str, server: str) -> float:
    """Seconds from power-on to the kernel's first line."""
    kind, lines, profile = CASES[case]
    with folder() as name, lab(Path(name)) as room:
        home = Path(name)
        home.chmod(0o755)
        (home / "tree").mkdir()
        tree.render(home / "tree", MANIFEST.replace("PROFILE", profile), home)
        _SERVE[server](room, lines)
        made = room.machine(kind, U_BOOT_MAC if kind == "u-boot" else MAC)
        if kind == "u-boot":
            made.wait(b"Hit any key", _LIMIT_S)
            made.type(b" ")
            made.wait(b"=> ", _LIMIT_S)
            made.type(b"setenv autoload no; dhcp; pxe get && pxe boot\r")
        return made.wait(b"Linux version", _LIMIT_S)


def folder() -> AbstractContextManager[str]:
    """A place for one run."""
    return tempfile.TemporaryDirectory(prefix="boot-")


def _ours(room: Lab, lines: tuple[str, ...]) -> None:
    room.appliance()
    room.dnsmasq(*_DHCP, *lines)


def _dnsmasq(room: Lab, lines: tuple[str, ...]) -> None:
    room.dnsmasq(*_DHCP, *lines, "enable-tftp", f"tftp-root={room.home}/tree")


_DHCP = ("dhcp-range=192.0.2.50,192.0.2.99,255.255.255.0,1h", "dhcp-userclass=set:ipxe,iPXE")
_SERVE: dict[str, Callable[[Lab, tuple[str, ...]], None]] = {"ours": _ours, "dnsmasq": _dnsmasq}


def row(case: str, seconds: dict[tuple[str, str], list[float]], rounds: int) -> str:
    """One line of the table."""
    ours, theirs = (seconds[case, server] for server in SERVERS)
    ratio = statistics.median(b / a for a, b in zip(ours, theirs, strict=True))
    cells = [f"{statistics.median(x):.1f} ({min(x):.1f}..{max(x):.1f})" for x in (ours, theirs)]
    return f"| {case} | {cells[0]} | {cells[1]} | {ratio:.2f} | {rounds} |"


def written() -> dict[str, str]:
    """The lines that earlier runs have left: each takes a few minutes, so cases are measured one by one."""
    section = FILE.read_text().partition(f"\n## {HEADING}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return {case: line for line in lines if (case := line.split(" | ")[0].removeprefix("| ")) in CASES}


def report(rows: dict[str, str]) -> str:
    """The table."""
    return "\n".join(
        (
            f"`python -m bench.power_on` on {machine()}. Seconds from power-on to the kernel's first line, median",
            "(min..max); QEMU without hardware virtualisation, Debian 12's netboot kernel and RAM disk (49 MB; arm64:",
            "73 MB), DHCP by dnsmasq in both columns. Ratios above 1: ours is faster. The machine was",
            "shared with other work; the two servers took turns, so compare within a line only.",
            "",
            "| case | ours | dnsmasq's TFTP | ratio | rounds |",
            "|---|---|---|---|---|",
            *rows.values(),
        )
    )


if __name__ == "__main__":
    main()
