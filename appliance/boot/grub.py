"""What is built into an image of GRUB that boots beside another DHCP server: where its configurations are. Pure.

GRUB takes its server from whoever gave the address; under a proxy that is somebody else. So the image is made for the
address in `server:`, and for the folder of the loader that it is.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Mapping

from appliance.boot import loaders
from appliance.boot.model import Manifest

MEMBER = "grub.efi"  # of a source with `unpack: grub`, the only one
MODULES = "usr/lib/grub/"  # in Debian's packages
_PLATFORM = re.compile(r"usr/lib/grub/((?:x86_64|i386|arm64|arm)-efi)/kernel\.img")
_FILE = re.compile(r"[A-Za-z0-9_.-]+\.(?:mod|img|lst)")
# What our configurations use, what they may be made to use by hand, and what reads the disks of the machine.
_WANTED = (
    "boot", "chain", "configfile", "echo", "efinet", "ext2", "fat", "gzio", "halt", "linux", "loadenv", "ls", "minicmd",
    "net", "normal", "part_gpt", "part_msdos", "reboot", "regexp", "search", "search_fs_file", "search_fs_uuid",
    "search_label", "serial", "sleep", "smbios", "terminal", "test", "tftp", "true",
)  # fmt: skip


def images(manifest: Manifest) -> dict[str, str]:
    """The prefix that is built into each source of `unpack: grub`: by the name of the source."""
    made = {source.name for source in manifest.sources if source.unpack == "grub"}
    folders = {loader.file: loaders.prefix(loader) for loader in manifest.loaders}
    found = {}
    for take in manifest.takes:
        if take.source in made:
            beside = posixpath.dirname(take.path)
            folder = folders.get(take.path, f"{beside}/grub/" if beside else "grub/").rstrip("/")
            found[take.source] = f"(tftp,{manifest.server})/{folder}"
    return found


def platform(members: Collection[str]) -> str:
    """Which GRUB a package holds, x86_64-efi for example; empty for none."""
    return next((found[1] for member in sorted(members) if (found := _PLATFORM.fullmatch(member))), "")


def parts(members: Mapping[str, int], kind: str) -> dict[str, int]:
    """The files of one GRUB that an image is made of, by their own names."""
    start = f"{MODULES}{kind}/"
    own = {member.removeprefix(start): number for member, number in members.items() if member.startswith(start)}
    return {name: number for name, number in own.items() if _FILE.fullmatch(name)}


def arguments(kind: str, prefix: str, names: Collection[str]) -> list[str]:
    """What grub-mkimage is told, with the modules that there are."""
    modules = [name for name in _WANTED if f"{name}.mod" in names]
    return ["--format", kind, "--prefix", prefix, *modules]
