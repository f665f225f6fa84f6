"""What a file is to a booting machine, told by its name alone. Pure.

The names are those that firmware and loaders were seen to ask for: PXELINUX, GRUB, iPXE, shim, U-Boot, Raspberry Pi,
the installers of the distributions.
"""

from __future__ import annotations

import re

from appliance.observe.macs import slashed

ORDER = ("dhcp", "loader", "module", "configuration", "kernel", "initrd", "image", "answers")
"""The stages in the order in which a boot passes them; what is none of them is `other`."""

# The first pattern that fits decides. They look at the last part of a path, lower case, unless they hold a slash.
_PATTERNS: tuple[tuple[str, str], ...] = (
    ("configuration", r"(^|/)pxelinux\.cfg/"),
    ("configuration", r"(^|/)grub\.cfg([-.].*)?$"),
    ("configuration", r"(^|/)(extlinux\.conf|boot\.scr(\.uimg)?|(config|cmdline)\.txt|(menu|isolinux|syslinux)\.cfg)$"),
    ("configuration", r"\.ipxe$"),
    ("answers", r"(^|/)([^/]*preseed[^/]*|ks\.cfg|(user|meta|vendor)-data|autoinst\.xml)$"),
    ("answers", r"(^|/)(kickstart|autoinstall)[^/]*$|\.(ks|seed)$"),
    ("initrd", r"(^|/)(initrd|initramfs|rootfs\.cpio)[^/]*$"),
    ("initrd", r"\.(initrd|cpio)(\.(gz|xz|zst|lz4|bz2))?$"),
    ("kernel", r"(^|/)(xen|kernel[0-9]*)(\.gz|\.img)?$"),
    ("image", r"\.(squashfs|iso|wim|img|sfs)$"),
    ("module", r"\.(c32|mod|lst|pf2|dtb|dtbo)$"),
    ("module", r"(^|/)(revocations_[a-z]+|shim_certificate_[0-9]+)\.efi$"),
    ("kernel", r"(^|/)(vmlinuz|vmlinux|bzimage|zimage|image|uimage|kernel|wimboot|memdisk)([-._0-9][^/]*)?(\.gz)?$"),
    ("kernel", r"(^|/)linux(-[^/]*|26|64)?$"),
    ("kernel", r"(^|/)(memtest|mt86|mt64)[^/]*$"),
    ("loader", r"\.(efi|0|kpxe|kkpxe|kkkpxe|pxe|lkrn|n12|com|krn)$"),
    ("loader", r"(^|/)(bootcode\.bin|start[^/]*\.elf|fixup[^/]*\.dat|u-boot[^/]*|bootmgr[^/]*)$"),
)  # fmt: skip
_COMPILED = tuple((stage, re.compile(pattern)) for stage, pattern in _PATTERNS)


def stage_of(name: str) -> str:
    """The stage of a file, by its name; `other` where the name tells nothing."""
    name = slashed(name)
    return next((stage for stage, pattern in _COMPILED if pattern.search(name)), "other")
