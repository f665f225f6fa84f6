"""The configuration of dnsmasq, written value by value. Pure.

Invariant: every value is of a form that can neither end its line nor begin another field, so nothing but the directives
below can come out: no script, no include, no name server, no TFTP.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface

# A path of the TFTP root, an interface, an address: none of them needs a separator of dnsmasq (comma, space, quote, #).
_WORD = re.compile(r"[A-Za-z0-9_./:@+=-]{1,255}")
_TITLE = "Network boot"

# tag -> the architectures of RFC 4578 (and IANA's registry) that carry it, and what dnsmasq calls them in a PXE menu
ARCHES: dict[str, tuple[tuple[int, ...], tuple[str, ...]]] = {
    "bios": ((0,), ("x86PC",)),
    "ia32_efi": ((6,), ("IA32_EFI",)),
    "x64_efi": ((7, 9), ("BC_EFI", "x86-64_EFI")),
    "arm32_efi": ((10,), ("ARM32_EFI",)),
    "arm64_efi": ((11,), ("ARM64_EFI",)),
    "uboot": ((21, 22), ()),
}


class Unwritable(Exception):
    """A value that has no place in the configuration; the text says which."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What it is to do: `mode` proxy or range, on `interface`, whose own address and network are `here`."""

    mode: str
    interface: str
    here: IPv4Interface
    leasefile: str
    files: dict[str, str]  # tag of ARCHES, or "ipxe" -> file
    first: IPv4Address | None = None
    last: IPv4Address | None = None
    router: str = ""
    dns: tuple[str, ...] = ()
    lease_s: int = 3600
    leases: int = 1000


def configuration(wanted: Wanted) -> str:
    """The text of the file. Raises Unwritable."""
    return "".join(f"{line}\n" for line in (*_common(wanted), *_MODES[wanted.mode](wanted)))


def _common(wanted: Wanted) -> Iterator[str]:
    # no DNS; nothing that would need CAP_NET_RAW (pings) or the neighbour table (unicast to who has no address yet)
    yield from ("port=0", "no-hosts", "no-resolv", "no-ping", "dhcp-broadcast", "dhcp-ignore-names")
    yield from ("bind-interfaces", "except-interface=lo", _line("interface", wanted.interface))
    yield _line("dhcp-leasefile", wanted.leasefile)
    yield _line("dhcp-lease-max", str(wanted.leases))
    yield "dhcp-userclass=set:ipxe,iPXE"
    yield "log-dhcp"  # tells the vendor class, and so which machines boot
    for tag, (numbers, _names) in ARCHES.items():
        if tag in wanted.files:
            yield from (_line("dhcp-match", f"set:{tag}", "option:client-arch", str(number)) for number in numbers)


def _range(wanted: Wanted) -> Iterator[str]:
    if wanted.first is None or wanted.last is None:
        raise Unwritable("no range of addresses")
    _inside(wanted)
    yield "dhcp-authoritative"
    yield _line(
        "dhcp-range", str(wanted.first), str(wanted.last), str(wanted.here.netmask), str(max(120, wanted.lease_s))
    )
    yield _line("dhcp-option", "option:router", *([wanted.router] if wanted.router else []))
    yield _line("dhcp-option", "option:dns-server", *wanted.dns)
    for tag, file in wanted.files.items():
        tags = ["tag:ipxe"] if tag == "ipxe" else [f"tag:{tag}", "tag:!ipxe"]
        yield f"{_line('dhcp-boot', *tags, file)},,{wanted.here.ip}"


def _inside(wanted: Wanted) -> None:
    assert wanted.first is not None and wanted.last is not None
    net = wanted.here.network
    for address in (wanted.first, wanted.last):
        if address not in net or address in (net.network_address, net.broadcast_address):
            raise Unwritable(f"{address} is no address for a machine of {net}, the network of {wanted.interface}")
    if wanted.first <= wanted.here.ip <= wanted.last:
        raise Unwritable(f"{wanted.here.ip} is this server's own address and lies in the range")


def _proxy(wanted: Wanted) -> Iterator[str]:
    yield _line("dhcp-range", str(wanted.here.network.network_address), "proxy", str(wanted.here.netmask))
    for tag, file in wanted.files.items():
        for name in ARCHES[tag][1] if tag in ARCHES else ():
            yield _service("tag:!ipxe", name, file, wanted)
    for name in (name for tag, (_numbers, names) in ARCHES.items() for name in names if "ipxe" in wanted.files):
        yield _service("tag:ipxe", name, wanted.files["ipxe"], wanted)


def _service(tag: str, name: str, file: str, wanted: Wanted) -> str:
    return f'pxe-service={tag},{name},"{_TITLE}",{_word("pxe-service", file)},{wanted.here.ip}'


def _line(key: str, *values: str) -> str:
    return f"{key}={','.join(value if value[:4] in ('tag:', 'set:') else _word(key, value) for value in values)}"


def _word(key: str, value: str) -> str:
    if not _WORD.fullmatch(value):
        raise Unwritable(f"{key}: {value!r} has a character that does not belong into a configuration of dnsmasq")
    return value


_MODES = {"range": _range, "proxy": _proxy}
