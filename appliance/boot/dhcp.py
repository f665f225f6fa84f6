"""What a DHCP server has to say so that machines ask here, in the words of six servers. Pure.

Architectures are those of option 93 (RFC 4578 section 2.1; numbers of IANA's registry). HTTP boot (16 and others) is
left out: a client that offers it asks by TFTP as well. Invariant: nothing of the manifest can end its quotes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from appliance.boot.model import ARCHES, Manifest

_LEFT_OUT = (16,)  # x64 UEFI HTTP
_NO_FILE = ("rpi",)  # a Raspberry Pi asks for its own names, whatever it is told


class NoSnippet(Exception):
    """The manifest says too little for a DHCP server; the text says what to write."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What clients of some architectures are told. `arches` is empty for iPXE, whatever it runs on."""

    name: str
    arches: tuple[int, ...]
    file: str


def offers(manifest: Manifest) -> tuple[Offer, ...]:
    """One for each loader with a file; that of iPXE first, because it has to win."""
    found = [
        Offer(loader.arch, _numbers(loader.arch), loader.file)
        for loader in sorted(manifest.loaders, key=lambda one: one.arch != "ipxe")
        if loader.file and loader.arch not in _NO_FILE
    ]
    if not found:
        raise NoSnippet("the manifest has no loader with a file: name a recipe like pxelinux, grub or ipxe")
    for offer in found:
        if set(offer.file) & set("\"'\\,#") or not offer.file.isascii():
            raise NoSnippet(f"loaders.{offer.name}: {offer.file} cannot be written for every DHCP server: rename it")
    return tuple(found)


def _numbers(arch: str) -> tuple[int, ...]:
    return tuple(number for number in ARCHES.get(arch, ()) if number not in _LEFT_OUT)


def snippet(server: str, manifest: Manifest) -> str:
    """The lines for one of SERVERS. Raises NoSnippet."""
    if not manifest.server:
        raise NoSnippet("the manifest does not say at which address machines reach this server: write server: ADDRESS")
    return _WRITERS[server](offers(manifest), manifest.server)


def _head(mark: str, server: str) -> str:
    return f"{mark} Written by `appliance boot dhcp`: machines boot from {server}.\n"


def _dnsmasq(given: tuple[Offer, ...], server: str) -> str:
    lines = []
    for offer in given:
        if offer.arches:
            lines += [f"dhcp-match=set:{offer.name},option:client-arch,{number}" for number in offer.arches]
        else:
            lines.append("dhcp-userclass=set:ipxe,iPXE")
    ipxe = any(not offer.arches for offer in given)
    for offer in given:
        unless = "tag:!ipxe," if ipxe and offer.arches else ""
        lines.append(f"dhcp-boot={unless}tag:{offer.name},{offer.file},,{server}")
    return _head("#", server) + _text(lines)


def _isc(given: tuple[Offer, ...], server: str) -> str:
    lines = ["option arch code 93 = unsigned integer 16;", f"next-server {server};"]
    word = "if"
    for offer in given:
        test = " or ".join(f"option arch = 00:{number:02x}" for number in offer.arches)
        if not offer.arches:
            test = 'exists user-class and option user-class = "iPXE"'
        lines += [f"{word} {test} {{", f'  filename "{offer.file}";', "}"]
        word = "elsif"
    return _head("#", server) + _text(lines)


def _kea(given: tuple[Offer, ...], server: str) -> str:
    """Members for `Dhcp4`; Kea takes the first class that fits for each of its fields."""
    classes = []
    for offer in given:
        test = " or ".join(f"option[93].hex == 0x{number:04x}" for number in offer.arches)
        if not offer.arches:
            test = "option[77].hex == 'iPXE' or substring(option[77].hex,1,4) == 'iPXE'"
        elif any(not other.arches for other in given):
            test = f"({test}) and not member('appliance-ipxe')"
        lines = [
            f'      "name": "appliance-{offer.name}",',
            f'      "test": "{test}",',
            f'      "next-server": "{server}",',
            f'      "boot-file-name": "{offer.file}"',
        ]
        classes.append("    {\n" + "\n".join(lines) + "\n    }")
    return _head("//", server) + '"client-classes": [\n' + ",\n".join(classes) + "\n]\n"


def _mikrotik(given: tuple[Offer, ...], server: str) -> str:
    """RouterOS 7 (matchers by option); put the name of your DHCP server and network in place of the capitals."""
    lines = [f"/ip dhcp-server network set [find address=NETWORK] next-server={server}"]
    for offer in given:
        name = f"appliance-{offer.name}"
        lines.append(f"/ip dhcp-server option add name={name} code=67 value=\"s'{offer.file}'\"")
        lines.append(f"/ip dhcp-server option sets add name={name} options={name}")
        match = [f'code=93 value="0x{number:04x}"' for number in offer.arches] or ['code=77 value="iPXE"']
        lines += [
            f"/ip dhcp-server matcher add name={name}-{i} server=SERVER {one} option-set={name} address-pool=POOL"
            for i, one in enumerate(match)
        ]
    return _head("#", server) + _text(lines)


def _opnsense(given: tuple[Offer, ...], server: str) -> str:
    """OPNsense with dnsmasq as its DHCP server: a file of /usr/local/etc/dnsmasq.conf.d."""
    name = "/usr/local/etc/dnsmasq.conf.d/appliance.conf"
    return f"# Save as {name}, then restart Dnsmasq in Services.\n" + _dnsmasq(given, server)


def _openwrt(given: tuple[Offer, ...], server: str) -> str:
    """Commands for OpenWrt's uci."""
    lines = []
    ipxe = any(not offer.arches for offer in given)
    for offer in given:
        matches = [f"option:client-arch,{number}" for number in offer.arches]
        for match in matches:
            lines += [
                "uci add dhcp match",
                f"uci set dhcp.@match[-1].networkid='{offer.name}'",
                f"uci set dhcp.@match[-1].match='{match}'",
            ]
        if not matches:
            lines += [
                "uci add dhcp userclass",
                f"uci set dhcp.@userclass[-1].networkid='{offer.name}'",
                "uci set dhcp.@userclass[-1].userclass='iPXE'",
            ]
        tags = [offer.name, *(["!ipxe"] if ipxe and offer.arches else [])]
        lines += [
            "uci add dhcp boot",
            f"uci set dhcp.@boot[-1].filename='{offer.file}'",
            f"uci set dhcp.@boot[-1].serveraddress='{server}'",
            f"uci set dhcp.@boot[-1].servername='{server}'",
            *(f"uci add_list dhcp.@boot[-1].networkid='{tag}'" for tag in tags),
        ]
    return _head("#", server) + _text([*lines, "uci commit dhcp", "service dnsmasq restart"])


def _text(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


_WRITERS: dict[str, Callable[[tuple[Offer, ...], str], str]] = {
    "dnsmasq": _dnsmasq,
    "isc": _isc,
    "kea": _kea,
    "mikrotik": _mikrotik,
    "opnsense": _opnsense,
    "openwrt": _openwrt,
}
SERVERS = tuple(_WRITERS)
