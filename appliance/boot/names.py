"""The files that a machine asks for, in their order, from the firmware's first to the kernel. Pure.

The order of each loader was seen on the wire with Debian 12's builds (docs/BOOT.md); a Raspberry Pi's and U-Boot's are
those of their documentation. Lint, `boot explain` and its tests all ask here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from appliance.boot import loaders
from appliance.boot.model import Loader, LoaderKind, Machine, Manifest, Profile

_GRUB_BESIDE = {
    "x64-efi": "grubx64.efi",
    "ia32-efi": "grubia32.efi",
    "arm64-efi": "grubaa64.efi",
    "arm32-efi": "grubarm.efi",
}
_GRUB_MODULES = {"x64-efi": "x86_64-efi", "ia32-efi": "i386-efi", "arm64-efi": "arm64-efi", "arm32-efi": "arm-efi"}
_SHIM_EXTRAS = ("revocations_sku.efi", "revocations_sbat.efi", "shim_certificate_0.efi")


@dataclass(frozen=True, slots=True)
class Ask:
    """One name. `needed`: the boot ends when it is not there. `choice`: the first hit of a run of them is used."""

    path: str
    what: str  # loader, module, configuration, kernel, initrd, device tree
    why: str
    needed: bool = True
    choice: bool = False


# What a file is, by its name, where a DHCP service names another than the manifest does.
_KINDS: tuple[tuple[str, LoaderKind], ...] = (
    ("pxelinux", "pxelinux"),
    ("shim", "shim"),
    ("grub", "grub"),
    ("snponly", "ipxe"),
    ("undionly", "ipxe"),
    ("ipxe", "ipxe"),
)


def as_told(loaders_: Sequence[Loader], told: Mapping[str, str]) -> tuple[Loader, ...]:
    """The loaders that machines come by when `told` (boot.dhcp_server.files, names with _ for -) says what they load.

    Without `told` they are those of the manifest. A board with U-Boot or of Raspberry asks for its own names whatever
    it is told.
    """
    if not told:
        return tuple(loaders_)
    known = {one.arch: one for one in loaders_}
    own = tuple(one for one in loaders_ if one.kind in ("uboot", "rpi"))
    arches = {key.replace("_", "-"): file for key, file in told.items() if key != "uboot"}
    return (*own, *(_named(arch, file, known.get(arch), loaders_) for arch, file in arches.items()))


def _named(arch: str, file: str, same: Loader | None, others: Sequence[Loader]) -> Loader:
    """The loader that a file is, to clients of an architecture."""
    if same is not None and same.file == file:
        return same
    name = file.rpartition("/")[2].lower()
    kind = next((kind for start, kind in _KINDS if name.startswith(start)), same.kind if same else "ipxe")
    made = Loader(arch, file, kind)
    return next(
        (replace(made, prefix=one.prefix) for one in others if loaders.kind_of(one) == loaders.kind_of(made)), made
    )


def of_loader(loader: Loader, machine: Machine, manifest: Manifest, *, menu: bool) -> Iterator[Ask]:
    """From the name that DHCP gives to the configuration, by a loader and its successors."""
    if loader.kind == "rpi":
        yield from _rpi(machine)
        return
    if loader.file:
        yield Ask(loader.file, "loader", f"DHCP names it to clients of {loader.arch}")
    yield from _AFTER[loader.kind](loader, machine, manifest)
    if loader.kind == "pxelinux" and menu:
        for module in ("menu.c32", "libutil.c32"):
            yield Ask(f"{loaders.beside(loader)}{module}", "module", "the menu of PXELINUX needs it")


def of_profile(profile: Profile, arches: tuple[str, ...]) -> Iterator[Ask]:
    """What a configuration that boots a profile makes its loader ask for."""
    if profile.action == "chain":
        if file := loaders.chain_file(profile, arches):
            yield Ask(file, "kernel", f"the profile {profile.name} hands over to it")
    elif profile.action == "linux":
        kernel = [Ask(profile.kernel, "kernel", f"kernel: of the profile {profile.name}")] if profile.kernel else []
        yield from kernel
        for path in profile.initrd:
            yield Ask(path, "initrd", f"initrd: of the profile {profile.name}")
        if profile.fdt and not profile.fdt.endswith("/"):
            yield Ask(profile.fdt, "device tree", f"fdt: of the profile {profile.name}")


def _pxelinux(loader: Loader, machine: Machine, manifest: Manifest) -> Iterator[Ask]:
    del manifest
    yield Ask(f"{loaders.beside(loader)}ldlinux.c32", "module", "PXELINUX consists of two files")
    yield from _syslinux_names(loaders.prefix(loader), machine, ("default",))


def _uboot(loader: Loader, machine: Machine, manifest: Manifest) -> Iterator[Ask]:
    del manifest
    yield from _syslinux_names(loaders.prefix(loader), machine, ("default-arm", "default"))


def _syslinux_names(folder: str, machine: Machine, last: tuple[str, ...]) -> Iterator[Ask]:
    found = [(machine.uuid, "the UUID of the machine")] if machine.uuid else []
    found += [(f"01-{mac.replace(':', '-')}", "its MAC address") for mac in machine.macs[:1]]
    if machine.ip:
        whole = loaders.hex_ip(machine.ip)
        found += [(whole[:digits], f"its address {machine.ip}, {digits} digits of it") for digits in range(8, 0, -1)]
    found += [(name, "for everybody") for name in last]
    for name, why in found:
        yield Ask(f"{folder}{name}", "configuration", why, choice=True)


def _shim(loader: Loader, machine: Machine, manifest: Manifest) -> Iterator[Ask]:
    beside = loaders.beside(loader)
    for name in _SHIM_EXTRAS:
        yield Ask(f"{beside}{name}", "module", "shim looks for it, and goes on without", needed=False)
    yield Ask(f"{beside}{grub_beside(loader)}", "loader", "shim looks for GRUB beside itself")
    yield from _grub_configuration(loader, machine, manifest, signed=True)


def grub_beside(loader: Loader) -> str:
    """The name under which a shim looks for GRUB."""
    return _GRUB_BESIDE.get(loader.arch, "grubx64.efi")


def _grub(loader: Loader, machine: Machine, manifest: Manifest) -> Iterator[Ask]:
    yield from _grub_configuration(loader, machine, manifest, signed=False)


def _grub_configuration(loader: Loader, machine: Machine, manifest: Manifest, *, signed: bool) -> Iterator[Ask]:
    """Debian's signed image asks for grub.cfg only, and ours leads on; others look for the machine's file first."""
    del manifest
    folder = loaders.prefix(loader)
    own = [(f"grub.cfg-01-{mac.replace(':', '-')}", "its MAC address") for mac in machine.macs[:1]]
    modules = _GRUB_MODULES.get(loader.arch, "x86_64-efi")
    lists = [
        Ask(f"{folder}{modules}/{name}.lst", "module", "GRUB looks for it, and goes on without", needed=False)
        for name in ("command", "fs", "crypto", "terminal")
    ]
    if signed:
        yield from lists
        yield Ask(f"{folder}grub.cfg", "configuration", "the only name that a signed GRUB looks for")
        if not machine.macs and machine.uuid:
            own = [(f"uuid-{machine.uuid}.cfg", "the UUID of the machine")]
    elif machine.ip:
        whole = loaders.hex_ip(machine.ip)
        own += [(f"grub.cfg-{whole[:n]}", f"its address {machine.ip}, {n} digits of it") for n in range(8, 0, -1)]
    for name, why in own:
        yield Ask(f"{folder}{name}", "configuration", why, needed=False, choice=True)
    if not signed:
        yield from lists
        yield Ask(f"{folder}grub.cfg", "configuration", "for everybody", choice=True)


def _ipxe(loader: Loader, machine: Machine, manifest: Manifest) -> Iterator[Ask]:
    """iPXE asks DHCP again, now as iPXE, and gets a script."""
    entrance = next((one for one in manifest.loaders if one.arch == "ipxe"), None)
    if entrance is None:
        return
    if entrance.file != loader.file:
        yield Ask(entrance.file, "configuration", "DHCP names it to iPXE (user class iPXE)")
    folder = loaders.prefix(entrance)
    mac = machine.macs[0].replace(":", "-") if machine.macs else ""
    names = (("mac", mac), ("uuid", machine.uuid), ("serial", machine.serial), ("ip", machine.ip))
    for what, value in names:
        if value:
            yield Ask(f"{folder}{what}-{value}.ipxe", "configuration", f"its {what}", needed=False, choice=True)


def _rpi(machine: Machine) -> Iterator[Ask]:
    for folder in (*loaders.rpi_folders(machine), ""):
        start = f"{folder}/" if folder else ""
        why = "below its own prefix" if folder else "without a prefix, when there is no start file below it"
        for name in ("start4.elf", "start.elf"):
            yield Ask(f"{start}{name}", "loader", why, needed=False, choice=True)
    for folder in loaders.rpi_folders(machine)[:1]:
        yield Ask(f"{folder}/config.txt", "configuration", "what its firmware loads")
        yield Ask(f"{folder}/cmdline.txt", "configuration", "the arguments of its kernel", needed=False)


_AFTER: dict[str, Callable[[Loader, Machine, Manifest], Iterator[Ask]]] = {
    "pxelinux": _pxelinux,
    "uboot": _uboot,
    "shim": _shim,
    "grub": _grub,
    "ipxe": _ipxe,
}
