"""What each boot loader reads: configurations written out with the quoting of each, and the names it looks for. Pure.

The names and their order were seen on the wire with Debian 12's builds of each loader, where docs/BOOT.md does not say
otherwise. Invariant: no title and no argument can end its line or become a command of the loader.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, ip_network

from appliance.boot.model import CPUS, Loader, Machine, Profile

CONFIGURATIONS = ("pxelinux", "grub", "ipxe", "uboot", "rpi")  # in which order a machine of unknown kind is looked at
_QUOTED = re.compile(r'[^\s"]*"[^"]*"[^\s"]*|\S+')
_GRUB_PLAIN = re.compile(r"[A-Za-z0-9_./:=,@%+-]+")


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing to boot, with its arguments finished. Paths are those of the TFTP root."""

    label: str
    title: str
    profile: Profile
    args: str


@dataclass(frozen=True, slots=True)
class Screen:
    """What a configuration says: one entry that boots at once, or a menu. `timeout` in seconds, 0 waits."""

    entries: tuple[Entry, ...]
    default: str
    title: str = ""
    timeout: float = 0.0
    serial: bool = False

    @property
    def menu(self) -> bool:
        """Whether a person chooses."""
        return bool(self.title)


def kind_of(loader: Loader) -> str:
    """The kind of configuration that a loader ends up reading: shim loads GRUB."""
    return "grub" if loader.kind == "shim" else loader.kind


def beside(loader: Loader) -> str:
    """The folder a loader looks into, with a final slash unless it is the root."""
    folder = posixpath.dirname(loader.file)
    return f"{folder}/" if folder else ""


def prefix(loader: Loader) -> str:
    """The folder of the configurations, with a final slash."""
    kind = kind_of(loader)
    if kind in ("pxelinux", "uboot"):
        return f"{beside(loader)}pxelinux.cfg/"
    return f"{loader.prefix}/" if loader.prefix else ""


def hex_ip(address: str) -> str:
    """10.77.0.101 as 0A4D0065."""
    return f"{int(IPv4Address(address)):08X}"


def hex_prefixes(network: str) -> tuple[str, ...]:
    """The beginnings of hexadecimal addresses that together are an IPv4 network: at most eight."""
    net = ip_network(network)
    if not isinstance(net, IPv4Network) or net.prefixlen == 0:
        return ()
    digits = -(-net.prefixlen // 4)
    first = int(net.network_address) >> (32 - 4 * digits)
    return tuple(f"{first + i:0{digits}X}" for i in range(1 << (4 * digits - net.prefixlen)))


def own_names(loader: Loader, machine: Machine) -> tuple[str, ...]:
    """Where the configuration of one machine is put: under the names that are asked for first."""
    folder = prefix(loader)
    kind = kind_of(loader)
    dashed = [mac.replace(":", "-") for mac in machine.macs]
    if kind in ("pxelinux", "uboot"):
        ids = [*([machine.uuid] if machine.uuid else []), *(f"01-{mac}" for mac in dashed)]
        return tuple(f"{folder}{name}" for name in ids or ([hex_ip(machine.ip)] if machine.ip else []))
    if kind == "grub":
        names = [f"01-{mac}" for mac in dashed] or ([hex_ip(machine.ip)] if machine.ip else [])
        uuids = [f"{folder}uuid-{machine.uuid}.cfg"] if machine.uuid and not dashed else []
        return (*uuids, *(f"{folder}grub.cfg-{name}" for name in names))
    if kind == "ipxe":
        ids = [f"mac-{mac}" for mac in dashed] or [
            f"{what}-{value}"
            for what, value in (("uuid", machine.uuid), ("serial", machine.serial), ("ip", machine.ip))
            if value
        ]
        return tuple(f"{folder}{name}.ipxe" for name in ids if name.isprintable() and "/" not in name)
    return tuple(f"{name}/config.txt" for name in rpi_folders(machine))


def rpi_folders(machine: Machine) -> tuple[str, ...]:
    """The prefix of a Raspberry Pi: its serial number's last eight digits, or its MAC address with dashes."""
    serial = machine.serial[-8:].lower()
    if re.fullmatch("[0-9a-f]{8}", serial):
        return (serial,)
    return tuple(mac.replace(":", "-") for mac in machine.macs)


def network_names(loader: Loader, network: str) -> tuple[str, ...]:
    """Where a configuration is put for every machine of a network that has none of its own."""
    kind, folder = kind_of(loader), prefix(loader)
    if kind in ("pxelinux", "uboot"):
        return tuple(f"{folder}{start}" for start in hex_prefixes(network))
    if kind == "grub":
        return tuple(f"{folder}grub.cfg-{start}" for start in hex_prefixes(network))
    return ()


def common_names(loader: Loader) -> tuple[str, ...]:
    """Where the configuration for everybody else is put."""
    kind, folder = kind_of(loader), prefix(loader)
    if kind == "pxelinux":
        return (f"{folder}default",)
    if kind == "uboot":
        return (f"{folder}default-arm",)  # asked for before `default`, which a PC may want too
    if kind == "grub":
        return (f"{folder}grub.cfg",)
    if kind == "ipxe":
        return (loader.file,) if loader.arch == "ipxe" else ()
    return ()


def write(kind: str, screen: Screen, arches: tuple[str, ...]) -> str:
    """The text of one configuration for clients of some architectures."""
    entries = tuple(entry for entry in screen.entries if _runs(kind, entry, arches))
    return _WRITERS[kind](Screen(entries, screen.default, screen.title, screen.timeout, screen.serial), arches)


def starts(kind: str, screen: Screen, arches: tuple[str, ...]) -> bool:
    """Whether anything of it is left for clients of these architectures."""
    return any(_runs(kind, entry, arches) for entry in screen.entries)


def _runs(kind: str, entry: Entry, arches: tuple[str, ...]) -> bool:
    profile = entry.profile
    if kind in ("uboot", "rpi") and profile.action == "chain":
        return False  # they load kernels only
    if profile.action == "none" or (profile.action == "linux" and not profile.kernel):
        return False
    if profile.action == "chain" and not chain_file(profile, arches):
        return False
    return not profile.arch or any(set(CPUS[arch]) & set(profile.arch) for arch in arches if arch in CPUS)


def chain_file(profile: Profile, arches: tuple[str, ...]) -> str:
    """The file that a chain means to these architectures."""
    known = {var.name: str(var.value) for var in profile.chain}
    return next((known[arch] for arch in arches if arch in known), "")


def _pxelinux(screen: Screen, arches: tuple[str, ...]) -> str:
    lines = ["SERIAL 0 115200"] if screen.serial else []
    if screen.menu:
        lines += ["UI menu.c32", f"MENU TITLE {screen.title}", f"TIMEOUT {int(screen.timeout * 10)}"]
        lines += [f"ONTIMEOUT {screen.default}"] if screen.timeout and screen.default else []
    else:
        lines += ["PROMPT 0", "TIMEOUT 0"]
    lines += [f"DEFAULT {screen.default}"] if screen.default and not screen.menu else []
    for entry in screen.entries:
        lines += [f"LABEL {entry.label}", f"  MENU LABEL {entry.title}"]
        lines += ["  MENU DEFAULT"] if screen.menu and entry.label == screen.default else []
        lines += _pxelinux_entry(entry, arches)
    return _text(lines)


def _pxelinux_entry(entry: Entry, arches: tuple[str, ...]) -> list[str]:
    profile = entry.profile
    if profile.action == "local":
        return ["  LOCALBOOT 0"]
    if profile.action == "chain":
        return [f"  KERNEL ::{chain_file(profile, arches)}", *_line("  APPEND ", entry.args)]
    initrd = [f"  INITRD {','.join(f'::{path}' for path in profile.initrd)}"] if profile.initrd else []
    return [f"  KERNEL ::{profile.kernel}", *initrd, *_line("  APPEND ", entry.args)]


def _uboot(screen: Screen, arches: tuple[str, ...]) -> str:
    del arches
    lines = [f"menu title {screen.title}"] if screen.menu else []
    lines += [f"timeout {int(screen.timeout * 10)}", "prompt 0"]
    lines += [f"default {screen.default}"] if screen.default else []
    for entry in screen.entries:
        profile = entry.profile
        lines += [f"label {entry.label}", f"  menu label {entry.title}"]
        if profile.action == "local":
            lines += ["  localboot 1"]
            continue
        lines += [f"  kernel {profile.kernel}"]
        lines += [f"  initrd {profile.initrd[0]}"] if profile.initrd else []
        lines += [f"  {'fdtdir' if profile.fdt.endswith('/') else 'fdt'} {profile.fdt}"] if profile.fdt else []
        lines += _line("  append ", entry.args)
    return _text(lines)


def _grub(screen: Screen, arches: tuple[str, ...]) -> str:
    lines = ["serial --unit=0 --speed=115200", "terminal_input serial console", "terminal_output serial console"]
    lines = lines if screen.serial else []
    default = next((i for i, entry in enumerate(screen.entries) if entry.label == screen.default), 0)
    wait = (int(screen.timeout) or -1) if screen.menu else 0
    lines += [f"set default={default}", f"set timeout={wait}"]
    for entry in screen.entries:
        profile = entry.profile
        lines.append(f"menuentry {_grub_word(entry.title)} --id {_grub_word(entry.label)} {{")
        if profile.action == "local":
            lines += _GRUB_DISK
        elif profile.action == "chain":
            given = [f"/{chain_file(profile, arches)}", *words_of(entry.args)]
            lines.append(f"  chainloader {' '.join(map(_grub_word, given))}")
        else:
            words = " ".join(_grub_word(word) for word in words_of(entry.args))
            lines.append(f"  linux {_grub_word(f'/{profile.kernel}')} {words}".rstrip())
            lines += (
                [f"  initrd {' '.join(_grub_word(f'/{path}') for path in profile.initrd)}"] if profile.initrd else []
            )
            lines += [f"  devicetree {_grub_word(f'/{profile.fdt}')}"] if profile.fdt[-1:] not in ("", "/") else []
        lines.append("}")
    return _text(lines)


# After `exit` many a firmware shows its menu instead of going on, so the loader on the disk is looked for.
_GRUB_DISK = (
    "  for file in BOOT/BOOTX64.EFI BOOT/BOOTAA64.EFI debian/shimx64.efi ubuntu/shimx64.efi fedora/shimx64.efi "
    "rocky/shimx64.efi redhat/shimx64.efi opensuse/shim.efi Microsoft/Boot/bootmgfw.efi; do",
    "    if search --no-floppy --set=disk --file /EFI/$file; then",
    "      chainloader ($disk)/EFI/$file",
    "      boot",
    "    fi",
    "  done",
    "  exit",
)


def words_of(args: str) -> list[str]:
    """The arguments of a kernel; double quotes hold one together, as the kernel reads them."""
    return [word.replace('"', "") for word in _QUOTED.findall(args)]


def _grub_word(word: str) -> str:
    return word if _GRUB_PLAIN.fullmatch(word) else "'" + word.replace("'", "'\\''") + "'"


def _ipxe(screen: Screen, arches: tuple[str, ...]) -> str:
    lines = ["#!ipxe"]
    if screen.menu:
        lines += [":menu", f"menu {_ipxe_text(screen.title)}"]
        lines += [f"item {entry.label} {_ipxe_text(entry.title)}" for entry in screen.entries]
        wait = f"--timeout {int(screen.timeout * 1000)} " if screen.timeout and screen.default else ""
        chosen = f"--default {screen.default} " if screen.default else ""
        lines += [f"choose {chosen}{wait}target || exit", "goto ${target}"]
    for entry in screen.entries:
        lines.append(f":{entry.label}")
        lines += _ipxe_entry(entry, arches)
    return _text(lines)


def _ipxe_entry(entry: Entry, arches: tuple[str, ...]) -> list[str]:
    profile = entry.profile
    if profile.action == "local":
        # A BIOS that is told to go on boots the network again where that stands first, so the disk is named; a UEFI
        # goes on to its next boot option only after a failure, which the script that came here passes on.
        return ["set leave yes", "iseq ${platform} pcbios && sanboot --no-describe --drive 0x80 || exit 1"]
    if profile.action == "chain":
        return [f"chain /{chain_file(profile, arches)} {entry.args}".rstrip()]
    names = [posixpath.basename(path) for path in profile.initrd]
    given = "".join(f" initrd={name}" for name in names)  # how a kernel started through EFI finds them
    lines = [f"kernel /{profile.kernel}{given} {entry.args}".rstrip()]
    lines += [f"initrd --name {name} /{path}" for name, path in zip(names, profile.initrd, strict=True)]
    return [*lines, "boot"]


def _ipxe_text(text: str) -> str:
    return text.replace("${", "$ {")


def ipxe_entrance(loader: Loader, screen: Screen) -> str:
    """The script that every iPXE gets: to the machine's own, else to the menu."""
    folder = f"/{prefix(loader)}"
    asked = ("mac-${netX/mac:hexhyp}", "mac-${net0/mac:hexhyp}", "uuid-${uuid}", "serial-${serial}", "ip-${ip}")
    lines = ["#!ipxe", "clear leave"]
    for name in asked:  # a script that ends well ends iPXE; one that is not there leads to the next
        lines += [f"chain {folder}{name}.ipxe && exit ||", "isset ${leave} && exit 1 ||"]
    arches = ("bios", "x64-efi", "arm64-efi", "ia32-efi", "arm32-efi", "ipxe")
    return _text(lines) + write("ipxe", screen, arches).removeprefix("#!ipxe\n")


def grub_entrance(loader: Loader, screen: Screen, arches: tuple[str, ...]) -> str:
    """grub.cfg: Debian's signed image asks for nothing else, so this one asks for the machine's own file."""
    folder = f"/{prefix(loader)}"
    pairs = ":".join(["(..)"] * 6)
    sets = " ".join(f"--set={i}:mac{i}" for i in range(1, 7))
    dashed = "-".join(f"${{mac{i}}}" for i in range(1, 7))
    lines = [
        f"if regexp {sets} '^{pairs}$' \"$net_default_mac\"; then",
        f"  configfile {folder}grub.cfg-01-{dashed}",
        "fi",
        "if smbios -t 1 -u 8 --set machine_uuid; then",
        f"  configfile {folder}uuid-$machine_uuid.cfg",
        "fi",
    ]
    return _text(lines) + write("grub", screen, arches)


def _rpi(screen: Screen, arches: tuple[str, ...]) -> str:
    """config.txt of a Raspberry Pi; its command line is a file beside it (`rpi_arguments`)."""
    del arches
    lines: list[str] = []
    for entry in screen.entries[:1]:
        profile = entry.profile
        lines += ["arm_64bit=1"] if "arm64" in profile.arch else []
        lines.append(f"kernel={posixpath.basename(profile.kernel)}")
        lines += [f"initramfs {posixpath.basename(profile.initrd[0])} followkernel"] if profile.initrd else []
        lines += ["enable_uart=1"] if screen.serial else []
    return _text(lines)


def _line(start: str, text: str) -> list[str]:
    return [f"{start}{text}"] if text else []


def _text(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


_WRITERS: dict[str, Callable[[Screen, tuple[str, ...]], str]] = {
    "pxelinux": _pxelinux,
    "uboot": _uboot,
    "grub": _grub,
    "ipxe": _ipxe,
    "rpi": _rpi,
}
