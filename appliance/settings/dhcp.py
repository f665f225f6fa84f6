"""Settings of the DHCP server that boot provisioning can run: dnsmasq, as a child of the supervisor."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Annotated, Literal

from annotated_types import Ge, Le, MaxLen, MinLen

from appliance.settings.types import AddressRange, Help, Interface, Ipv4, LoaderPath, Unit


@dataclass(frozen=True, slots=True)
class DhcpFiles:
    """The file that each kind of client is told to load, from the TFTP root; null tells it none."""

    bios: Annotated[LoaderPath | None, Help("PCs with a BIOS")] = "pxelinux.0"
    ia32_efi: Annotated[LoaderPath | None, Help("UEFI, 32 bits")] = None
    x64_efi: Annotated[
        Literal["auto"] | LoaderPath | None,
        Help(
            "UEFI, x86-64; auto: under `range` shimx64.efi, which starts GRUB and passes Secure Boot, under `proxy` "
            "snponly.efi, because GRUB knows of no proxy"
        ),
    ] = "auto"
    arm32_efi: Annotated[LoaderPath | None, Help("UEFI, ARM, 32 bits")] = None
    arm64_efi: Annotated[LoaderPath | None, Help("UEFI, ARM, 64 bits")] = None
    uboot: Annotated[
        LoaderPath | None, Help("U-Boot: beside this name it looks for pxelinux.cfg, and for all it loads")
    ] = "boot.scr.uimg"
    ipxe: Annotated[LoaderPath | None, Help("iPXE itself, whatever it runs on")] = "boot.ipxe"


_AUTO = {"range": "shimx64.efi", "proxy": "snponly.efi"}


def told(mode: str, files: DhcpFiles) -> dict[str, str]:
    """What each kind of client is told to load under a mode of `boot.dhcp`, by its key in `files:`; off: nothing."""
    if mode not in _AUTO:
        return {}
    named = {one.name: getattr(files, one.name) for one in fields(files)}
    return {name: _AUTO[mode] if file == "auto" else file for name, file in named.items() if file}


@dataclass(frozen=True, slots=True)
class DhcpSettings:
    """The `boot.dhcp_server:` section."""

    interface: Annotated[Interface | None, Help("network interface that the machines are on; it has to be named")] = (
        None
    )
    range: Annotated[
        AddressRange | None, Help("addresses that machines are given under `range`, in the network of the interface")
    ] = None
    router: Annotated[Ipv4 | None, Help("default gateway told under `range`; null tells none")] = None
    dns: Annotated[tuple[Ipv4, ...], MinLen(0), MaxLen(4), Help("name servers told under `range`")] = ()
    lease: Annotated[float, Unit("duration", 120, 31_536_000), Help("how long an address is given for")] = 3600.0
    leases: Annotated[int, Ge(1), Le(65536), Help("addresses given out at once")] = 1000
    files: Annotated[DhcpFiles, Help("What each kind of client loads.")] = field(default_factory=DhcpFiles)
