"""A tree to boot from, made by hand out of Debian's packages: what an administrator does today with tftpd-hpa.

The packages are fetched once by apt into the cache of whoever runs the tests and unpacked there. Nothing is installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "appliance-tests"
PACKAGES = ("debian-installer-12-netboot-amd64", "debian-installer-12-netboot-arm64", "pxelinux", "syslinux-common",
            "grub-efi-amd64-signed", "shim-signed", "ipxe", "memtest86+")  # fmt: skip
IMAGES = "usr/lib/debian-installer/images/12"
MODULES = "usr/lib/syslinux/modules/bios"
FILES = {  # in the tree -> package, and where in it
    "debian-12/linux": (PACKAGES[0], f"{IMAGES}/amd64/text/debian-installer/amd64/linux"),
    "debian-12/initrd.gz": (PACKAGES[0], f"{IMAGES}/amd64/text/debian-installer/amd64/initrd.gz"),
    "debian-12-arm64/linux": (PACKAGES[1], f"{IMAGES}/arm64/text/debian-installer/arm64/linux"),
    "debian-12-arm64/initrd.gz": (PACKAGES[1], f"{IMAGES}/arm64/text/debian-installer/arm64/initrd.gz"),
    "pxelinux.0": ("pxelinux", "usr/lib/PXELINUX/pxelinux.0"),
    "lpxelinux.0": ("pxelinux", "usr/lib/PXELINUX/lpxelinux.0"),
    **{name: ("syslinux-common", f"{MODULES}/{name}") for name in ("ldlinux.c32", "menu.c32", "libutil.c32")},
    "snponly.efi": ("ipxe", "usr/lib/ipxe/snponly.efi"),
    "undionly.kpxe": ("ipxe", "usr/lib/ipxe/undionly.kpxe"),
    "shimx64.efi": ("shim-signed", "usr/lib/shim/shimx64.efi.signed"),
    "grubx64.efi": ("grub-efi-amd64-signed", "usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed"),
    "memtest.bin": ("memtest86+", "boot/memtest86+x64.bin"),
}
ARGS = "console=ttyS0,115200 DEBIAN_FRONTEND=text"
PXELINUX = f"""\
SERIAL 0 115200
UI menu.c32
MENU TITLE Boot menu
TIMEOUT 600
LABEL local
  MENU LABEL Local disk
  LOCALBOOT 0
LABEL memtest
  MENU LABEL Memory test
  LINUX memtest.bin
  APPEND console=ttyS0,115200
LABEL debian
  MENU LABEL Debian 12
  KERNEL debian-12/linux
  INITRD debian-12/initrd.gz
  APPEND {ARGS}
"""
IPXE = f"""\
#!ipxe
kernel debian-12/linux initrd=initrd.gz {ARGS}
initrd debian-12/initrd.gz
boot
"""
GRUB = f"""\
serial --unit=0 --speed=115200
terminal_input serial console
terminal_output serial console
set timeout=0
menuentry 'Debian 12' {{
  linux /debian-12/linux {ARGS}
  initrd /debian-12/initrd.gz
}}
"""
GRUB_ENTRANCE = r"""
regexp --set=1:a --set=2:b --set=3:c --set=4:d --set=5:e --set=6:f '^(..):(..):(..):(..):(..):(..)$' "$net_default_mac"
configfile /grub/grub.cfg-01-$a-$b-$c-$d-$e-$f
"""
UBOOT = """\
timeout 10
default debian
label debian
  kernel debian-12-arm64/linux
  initrd debian-12-arm64/initrd.gz
  append console=ttyAMA0 DEBIAN_FRONTEND=text
"""


def package(name: str) -> Path:
    """The folder of an unpacked package. Raises CalledProcessError with what apt said on the terminal."""
    folder = CACHE / "packages" / name
    if not folder.exists():
        fresh = folder.with_name(f"{name}.{os.getpid()}")
        fresh.mkdir(parents=True, mode=0o755)
        subprocess.run(["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", name], cwd=fresh, check=True)
        subprocess.run(["dpkg", "-x", str(next(fresh.glob("*.deb"))), str(fresh)], check=True)
        for deb in fresh.glob("*.deb"):
            deb.unlink()
        fresh.rename(folder)
    return folder


def make(root: Path, *names: str) -> None:
    """Copy these files of `FILES` (all, if none is named) and write the loaders' configurations."""
    for name in names or FILES:
        origin, inside = FILES[name]
        put = root / name
        put.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(package(origin) / inside, put)
    for name, text in (("boot.ipxe", IPXE), ("pxelinux.cfg/default", PXELINUX), ("pxelinux.cfg/default-arm", UBOOT),
                       ("grub/grub.cfg", GRUB_ENTRANCE)):  # fmt: skip
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text)


def grub_for(root: Path, mac: str) -> None:
    """What GRUB finds for one machine."""
    (root / f"grub/grub.cfg-01-{mac.replace(':', '-')}").write_text(GRUB)
