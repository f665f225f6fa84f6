"""What a configuration lets in: ports, addresses and networks of each service, and firewall rules for that. Pure.

TFTP and FTP need no connection-tracking helper here: a TFTP transfer leaves from the server to the client first, active
FTP connects from the server, and passive FTP has a fixed range of ports.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from appliance.settings.forms import endpoint_parts
from appliance.settings.main import Settings

_WILDCARDS = ("0.0.0.0", "::")


@dataclass(frozen=True, slots=True)
class Door:
    """Ports (first, last) of one protocol that clients come to at `address`, "" for all of the family `version`."""

    name: str
    protocol: str
    address: str
    version: int
    ports: tuple[tuple[int, int], ...]
    allow: tuple[str, ...]
    deny: tuple[str, ...]


def doors(settings: Settings) -> list[Door]:
    """Every door of the enabled services; a port that is picked at the start (0) has none."""
    found: list[Door] = []
    tftp, ftp = settings.tftp, settings.ftp
    if tftp.enabled:
        texts = (*tftp.listen, *(site.listen for site in tftp.sites))
        found += _doors(("tftp", "udp"), texts, (), (tftp.allow, tftp.deny))
    if ftp.enabled:
        secure = ftp.tls.implicit_listen if ftp.tls.mode != "off" else ()
        texts = (*ftp.listen, *(one for site in ftp.sites for one in site.listen), *secure)
        first, last = (int(port) for port in ftp.passive_ports.split("-"))
        found += _doors(("ftp", "tcp"), texts, ((first, last),), (ftp.allow, ftp.deny))
    return found


def _doors(
    what: tuple[str, str],
    texts: Iterable[str],
    more: tuple[tuple[int, int], ...],
    networks: tuple[tuple[str, ...], tuple[str, ...]],
) -> Iterator[Door]:
    by_address: dict[str, set[int]] = {}
    for address, port in map(endpoint_parts, texts):
        if port:
            by_address.setdefault(address, set()).add(port)
    for address, ports in by_address.items():
        version = 6 if ":" in address else 4
        ranges = tuple(sorted({*((port, port) for port in ports), *more}))
        where = "" if address in _WILDCARDS else address.partition("%")[0]
        allow, deny = (_family(one, version) for one in networks)
        yield Door(*what, where, version, ranges, allow, deny)


def rules(settings: Settings) -> list[str]:
    """Lines for the input chain of nft(8)."""
    lines: list[str] = []
    named = {"tftp": bool(settings.tftp.allow), "ftp": bool(settings.ftp.allow)}
    for door in doors(settings):
        if named[door.name] and not door.allow:
            continue  # nobody of this family is served
        family = "ip6" if door.version == 6 else "ip"
        where = f"{family} daddr {door.address} " if door.address else f"meta nfproto ipv{door.version} "
        ports = f"{door.protocol} dport {_set(f'{a}-{b}' if a != b else str(a) for a, b in door.ports)}"
        if door.deny:
            lines.append(f"{where}{family} saddr {_set(door.deny)} {ports} drop")
        source = f"{family} saddr {_set(door.allow)} " if door.allow else ""
        lines.append(f'{where}{source}{ports} accept comment "appliance {door.name}"')
    return lines


def table(lines: list[str], also: tuple[int, ...]) -> str:
    """A whole firewall for a machine that does nothing else: what is not named is dropped."""
    more = [f'tcp dport {_set(map(str, sorted(also)))} accept comment "besides the appliance"'] if also else []
    inside = (
        "type filter hook input priority filter; policy drop;",
        "ct state established,related accept",
        "ct state invalid drop",
        "iif lo accept",
        "meta l4proto { icmp, ipv6-icmp } accept",
        "udp sport 67 udp dport 68 accept",
        "udp sport 547 udp dport 546 accept",
        *lines,
        *more,
    )
    body = "".join(f"        {line}\n" for line in inside)
    afresh = "table inet appliance\ndelete table inet appliance\n"  # made if it is missing, so that it can be removed
    return f"{afresh}table inet appliance {{\n    chain input {{\n{body}    }}\n}}\n"


def drop_in(settings: Settings) -> str:
    """A drop-in for appliance.service: systemd lets no other network reach any of our processes, where all is named."""
    services = [service for service in (settings.tftp, settings.ftp) if service.enabled]
    if not services or not all(service.allow for service in services):
        return "# Some service is open to everybody (no allow), so there is nothing that systemd could deny.\n"
    networks = {ipaddress.ip_network(text, strict=False) for service in services for text in service.allow}
    ordered = sorted(networks, key=lambda network: (network.version, network))
    allowed = "".join(f"IPAddressAllow={network}\n" for network in ordered)
    return f"[Service]\nIPAddressDeny=any\nIPAddressAllow=localhost\n{allowed}"


def _family(networks: tuple[str, ...], version: int) -> tuple[str, ...]:
    parsed = (ipaddress.ip_network(text, strict=False) for text in networks)
    own = [network for network in parsed if network.version == version]
    return tuple(str(network) for network in ipaddress.collapse_addresses(own))  # type: ignore[type-var]


def _set(items: Iterable[str]) -> str:
    found = list(items)
    return found[0] if len(found) == 1 else f"{{ {', '.join(found)} }}"
