"""The values of boot provisioning: manifest, machines and plan, as plain frozen data. Pure.

Invariant: every value here survives `settings.plain.encode`, JSON, and `decode` unchanged, and none holds a secret's
value: a release carries its manifest, so that machines can be rendered against it again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Root: TypeAlias = Literal["tftp", "ftp"]
Kind: TypeAlias = Literal["deb", "https", "http", "ftp", "tftp", "file", "dir"]

# What a client is (RFC 4578 section 2.1 and IANA's registry of processor architecture types), and what it can run.
ARCHES: dict[str, tuple[int, ...]] = {
    "bios": (0,),
    "ia32-efi": (6,),
    "x64-efi": (7, 9, 16),  # 16: HTTP boot; such a client asks by TFTP as 7
    "arm32-efi": (10,),
    "arm64-efi": (11,),
    "arm32-uboot": (21,),
    "arm64-uboot": (22,),
    "rpi": (41,),
}
CPUS: dict[str, tuple[str, ...]] = {
    "bios": ("x86_64", "i386"),
    "ia32-efi": ("i386",),
    "x64-efi": ("x86_64",),
    "arm32-efi": ("armhf",),
    "arm64-efi": ("arm64",),
    "arm32-uboot": ("armhf",),
    "arm64-uboot": ("arm64",),
    "rpi": ("arm64", "armhf"),
}
LoaderKind: TypeAlias = Literal["pxelinux", "grub", "shim", "ipxe", "uboot", "rpi"]
Action: TypeAlias = Literal["linux", "chain", "local", "none"]


@dataclass(frozen=True, slots=True)
class Sums:
    """A list of digests and who signed it. `signature` is empty when the list itself is a clear-signed text."""

    url: str
    signature: str
    keyring: str  # absolute path of a file of OpenPGP keys


@dataclass(frozen=True, slots=True)
class Source:
    """Something to fetch, and what makes it genuine: APT's chain (deb), `sha256`, `sums`, or nothing (`unverified`)."""

    name: str
    kind: Kind
    at: str  # the package, the URL, or the absolute path
    # `none`: one file (dir: a folder); `grub`: an image of GRUB is made of the modules in a Debian package
    unpack: Literal["none", "tar", "iso", "deb", "grub"] = "none"
    sha256: str = ""
    sums: Sums | None = None
    unverified: bool = False
    max_size: int = 8 << 30  # bytes, of the download and of what is unpacked from it
    redirects: tuple[str, ...] = ()  # hosts a redirect may lead to although their address is private
    experimental: str = ""  # why nobody should rely on it yet; shown wherever it is listed


@dataclass(frozen=True, slots=True)
class Take:
    """One member of a source that becomes a file of the release; both end in "/" for a folder with all below it.

    `member` is empty for a source that is not unpacked. Links in the source are followed inside it.
    """

    source: str
    member: str
    path: str
    roots: tuple[Root, ...]
    optional: bool = False  # a member that is not there is no error


@dataclass(frozen=True, slots=True)
class Var:
    """One variable; a list of texts is the only compound value."""

    name: str
    value: str | int | float | bool | tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Loader:
    """The file that DHCP names to clients of an architecture, and what it is. `arch` "ipxe": given to iPXE itself."""

    arch: str
    file: str
    kind: LoaderKind
    prefix: str = ""  # folder where it looks for its configuration, as it was built; empty: beside `file`


@dataclass(frozen=True, slots=True)
class Answer:
    """A file rendered for each machine of a profile: preseed, kickstart, user-data ... `path` is a template too."""

    path: str
    template: str  # name of a template
    roots: tuple[Root, ...]
    escape: str


@dataclass(frozen=True, slots=True)
class Profile:
    """What a machine boots. Paths are those of the TFTP root."""

    name: str
    title: str
    action: Action = "linux"
    arch: tuple[str, ...] = ()  # processors it is for; empty: any
    kernel: str = ""
    initrd: tuple[str, ...] = ()
    args: str = ""  # a template
    chain: tuple[Var, ...] = ()  # architecture -> file that is loaded instead of a kernel
    fdt: str = ""  # device tree, or a folder of them with a final "/" (U-Boot)
    files: str = ""  # folder whose files a Raspberry Pi finds below its own prefix
    memory: int = 0  # bytes of RAM that a machine needs for it; 0: not known
    answers: tuple[Answer, ...] = ()
    vars: tuple[Var, ...] = ()
    experimental: str = ""
    confirm: str = ""  # a template: the path that an installer of a one-shot boot fetches when it is done


@dataclass(frozen=True, slots=True)
class Selector:
    """Which machines; every field that is not empty must fit, and within a field any value."""

    macs: tuple[str, ...] = ()  # whole addresses or prefixes: 52:54:00
    uuids: tuple[str, ...] = ()
    serials: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    arches: tuple[str, ...] = ()
    labels: tuple[Var, ...] = ()


@dataclass(frozen=True, slots=True)
class Group:
    """The first group that fits a machine gives what the machine does not say itself."""

    name: str
    match: Selector
    profile: str = ""
    vars: tuple[Var, ...] = ()


@dataclass(frozen=True, slots=True)
class Once:
    """Boot `profile` one time, until `until` (seconds since 1970); `id` tells this arming from every other."""

    profile: str
    until: int
    id: str


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine. `name` is its key everywhere; at least one of macs, uuid, serial and ip is there."""

    name: str
    macs: tuple[str, ...] = ()  # 52:54:00:12:34:56
    uuid: str = ""  # lower case
    serial: str = ""
    ip: str = ""
    arch: str = ""
    labels: tuple[Var, ...] = ()
    profile: str = ""
    vars: tuple[Var, ...] = ()
    once: Once | None = None
    origin: str = ""  # file:line


@dataclass(frozen=True, slots=True)
class FileRule:
    """A file for each machine that fits, whatever asks for it (phones, switches); `path` and content are templates."""

    name: str
    path: str
    template: str
    match: Selector
    roots: tuple[Root, ...]
    escape: str


@dataclass(frozen=True, slots=True)
class Menu:
    """What a machine sees that nothing was said about."""

    title: str = "Boot menu"
    timeout: float = 30.0  # seconds; 0 waits for a person
    default: str = ""
    entries: tuple[str, ...] = ()
    serial: bool = False  # also on the first serial line


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest with its recipes merged in, inheritance resolved and the texts of its templates: all that is needed.

    `secrets` are the names of the values that come from the secrets file; the values are never in here.
    """

    server: str
    sources: tuple[Source, ...]
    takes: tuple[Take, ...]
    loaders: tuple[Loader, ...]
    profiles: tuple[Profile, ...]
    groups: tuple[Group, ...]
    machines: tuple[Machine, ...]
    files: tuple[FileRule, ...]
    templates: tuple[Var, ...]  # name -> text
    vars: tuple[Var, ...]
    menu: Menu
    default: str  # profile of machines that nothing else gives one; empty: the menu
    secrets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class File:
    """A rendered file."""

    root: Root
    path: str
    text: str

    @property
    def data(self) -> bytes:
        """What is served."""
        return self.text.encode()


@dataclass(frozen=True, slots=True)
class Alias:
    """A path of the overlay that is the file `target` of the release (both end in "/": a folder)."""

    root: Root
    path: str
    target: str


@dataclass(frozen=True, slots=True)
class Owned:
    """What belongs to one machine in the overlay, or in `once/` when `once` is there.

    `configs`: the loader configurations, in TFTP; who fetches one of them is this machine. `loads`: kernel and initrd
    in the order they are asked for; whoever was sent all of them whole has loaded the profile.
    """

    key: str
    profile: str
    configs: tuple[str, ...]
    loads: tuple[str, ...]
    files: tuple[File, ...]
    aliases: tuple[Alias, ...] = ()
    once: Once | None = None
    confirm: str = ""  # the path by which a one-shot boot is confirmed


@dataclass(frozen=True, slots=True)
class Overlay:
    """Everything that depends on machines. `once`: the variants of armed machines; those hold secrets, if any do.

    `warnings`: machines that want a profile which this release, an older one, has not; they get the menu.
    """

    machines: tuple[Owned, ...]
    once: tuple[Owned, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be fetched and published. A release stores `manifest`; `overlay` is made anew for every change."""

    manifest: Manifest
    sources: tuple[Source, ...]  # those of `manifest` that `takes` need
    takes: tuple[Take, ...]
    files: tuple[File, ...]  # common rendered files of the release
    overlay: Overlay
