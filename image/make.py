"""Build the image: a Debian with the package in it, on a disk that boots by UEFI and by BIOS.

``python image/make.py [--out FILE] [--kernel PACKAGE] [--slot MIB] [--data MIB]``; `make image` calls it. Needs root.
Prints the path of the image, its size and how long it took.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
import uuid
from pathlib import Path

HERE = Path(__file__).resolve().parent
TOP = HERE.parent
sys.path[:0] = [str(HERE), str(TOP / "deb")]

import build as deb  # noqa: E402
import disk  # noqa: E402

PACKAGES = (
    "systemd", "systemd-sysv", "systemd-resolved", "systemd-timesyncd", "udev", "kmod", "iproute2", "initramfs-tools",
    "zstd", "busybox", "e2fsprogs", "openssh-server", "ca-certificates", "logrotate", "python3", "python3-yaml", "gpgv",
    "libgcc-s1",
)  # fmt: skip
SHIM = Path("/usr/lib/shim/shimx64.efi.signed")
SIGNED = Path("/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed")
BIOS = Path("/usr/lib/grub/i386-pc")
MODULES = (
    "biosdisk", "part_gpt", "fat", "ext2", "search", "search_label", "normal", "linux", "serial", "terminal", "echo",
    "test", "configfile", "ls", "minicmd", "reboot", "halt",
)  # fmt: skip
EARLY = "search --no-floppy --set=root --label APPLIANCE\nset prefix=($root)/EFI/debian\nconfigfile $prefix/grub.cfg\n"
TOOLS = {
    "mmdebstrap": "mmdebstrap", "sfdisk": "fdisk", "mkfs.vfat": "dosfstools", "mcopy": "mtools", "mke2fs": "e2fsprogs",
    "grub-mkimage": "grub-common", str(BIOS / "boot.img"): "grub-pc-bin", str(SHIM): "shim-signed",
    str(SIGNED): "grub-efi-amd64-signed",
}  # fmt: skip


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--out", type=Path, default=TOP / "build" / "appliance.img")
    options.add_argument("--deb", type=Path, help="the package that goes in; without it one is built")
    options.add_argument("--release", default="bookworm")
    options.add_argument("--mirror", default="", help="a Debian archive; without it those of this machine's APT")
    options.add_argument(
        "--kernel", default="linux-image-cloud-amd64", help="linux-image-amd64 for machines that are not virtual"
    )
    options.add_argument("--slot", type=int, default=1024, help="MiB of each of the two places for a system")
    options.add_argument("--data", type=int, default=1024, help="MiB of the data partition")
    chosen = options.parse_args()
    began = time.monotonic()
    ready()
    os.environ["SOURCE_DATE_EPOCH"] = deb.epoch()
    os.umask(0o022)
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="image-") as place:
        home = Path(place)
        home.chmod(0o755)
        package = chosen.deb or built(home)
        tree(home, package, chosen)
        half = chosen.out.with_name(f".{chosen.out.name}.new")
        try:
            assemble(half, home, chosen)
            half.rename(chosen.out)
        finally:
            half.unlink(missing_ok=True)
    used = chosen.out.stat().st_blocks * 512
    took = time.monotonic() - began
    print(f"{chosen.out}\n{used >> 20} MiB of {chosen.out.stat().st_size >> 20} MiB are used; {took:.0f} s")
    return 0


def ready() -> None:
    """End with what is missing."""
    if os.geteuid() != 0:
        raise SystemExit("an image holds files of many accounts, so it is built as root: sudo make image")
    missing = [package for tool, package in TOOLS.items() if not (Path(tool).exists() or shutil.which(tool))]
    if missing:
        raise SystemExit(f"missing: apt-get install {' '.join(missing)}")


def built(home: Path) -> Path:
    """The package, made now."""
    said = disk.run(sys.executable, str(TOP / "deb/build.py"), "--out", str(home / "deb"), "--compression", "none")
    return Path(said.strip())


def tree(home: Path, package: Path, chosen: argparse.Namespace) -> None:
    """The root of the system, in `home`/root."""
    include = ",".join((*PACKAGES, chosen.kernel))
    argv = ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", f"--include={include}"]
    argv += ["--dpkgopt=force-unsafe-io", '--aptopt=Acquire::Languages "none"']
    for when, option in (("before", "essential"), ("after", "customize")):
        argv.append(f'--{option}-hook={HERE / "hook"} {when} "$1"')
    environment = {"IMAGE_FILES": str(HERE / "files"), "IMAGE_DEB": str(package.resolve())}
    sources = [chosen.mirror] if chosen.mirror else archives(chosen.release)
    disk.run(*argv, chosen.release, str(home / "root"), *sources, **environment)


def archives(release: str) -> list[str]:
    """The Debian archives that this machine's APT has for a release, that of security updates among them."""
    form = "deb $(REPO_URI) $(CODENAME) $(COMPONENT)"
    said = disk.run("apt-get", "indextargets", "--format", form, "Created-By: Packages", "Origin: Debian")
    found = sorted({line for line in said.splitlines() if line.split()[2].partition("-")[0] == release})
    if not found:
        raise SystemExit(f"APT of this machine knows no Debian archive of {release}: name one with --mirror")
    return [line for line in found if line.split()[3] == "main"]


def assemble(image: Path, home: Path, chosen: argparse.Namespace) -> None:
    """The disk, from the tree."""
    names = uuid.uuid5(uuid.NAMESPACE_URL, f"appliance {os.environ['SOURCE_DATE_EPOCH']}")
    found = disk.parts(chosen.slot * disk.MIB, chosen.data * disk.MIB)
    bios, esp, seed, slot, _other, data = found
    disk.partition(image, str(names), found)
    core = home / "core.img"
    (home / "early.cfg").write_text(EARLY)
    disk.run("grub-mkimage", "-O", "i386-pc", "-d", str(BIOS), "-o", str(core), "-p", "/EFI/debian",
             "-c", str(home / "early.cfg"), *MODULES)  # fmt: skip
    disk.boot_by_bios(image, (BIOS / "boot.img").read_bytes(), core.read_bytes(), bios)
    loaders = {
        "EFI/BOOT/BOOTX64.EFI": SHIM.read_bytes(),
        "EFI/BOOT/grubx64.efi": SIGNED.read_bytes(),
        "EFI/debian/grub.cfg": (HERE / "grub.cfg").read_bytes(),
    }
    disk.fat(image, esp, "APPLIANCE", f"{names.int & 0xFFFFFFFF:08x}", loaders, home)
    note = {"README.txt": (HERE / "README-seed.txt").read_text().replace("\n", "\r\n").encode()}
    disk.fat(image, seed, "SEED", f"{names.int >> 32 & 0xFFFFFFFF:08x}", note, home)
    disk.ext4(image, slot, str(uuid.uuid5(names, "root")), home / "root", journal=False)
    disk.ext4(image, data, str(uuid.uuid5(names, "data")), None, journal=True)


if __name__ == "__main__":
    sys.exit(main())
