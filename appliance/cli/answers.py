"""What DHCP tells the machines on an interface: who answers, and whether they are sent here. Nothing is leased."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING

from appliance.cli import reach
from appliance.cli.reach import Finding
from appliance.errors import StartError
from appliance.observe.text import printable

if TYPE_CHECKING:
    from appliance.dhcp.discover import Offer

KINDS = {0: "BIOS", 7: "UEFI x64"}  # RFC 4578 section 2.1, and IANA's registry
_SNIPPET = "appliance boot dhcp"


def findings(interface: str) -> Iterator[Finding]:
    """One for each kind of machine and each server that answers it, and one where nobody does."""
    from appliance.dhcp import lan

    try:
        found = lan.boots(interface, lan.address(interface), tuple(KINDS))
    except StartError as error:
        what, _, remedy = str(error).partition("; ")
        yield Finding("dhcp", "error", what, remedy or "as root: appliance doctor --dhcp INTERFACE")
        return
    for arch, offers in found.items():
        sent_here = [one for one in offers if one.file and _here(str(one.next_server))]
        for one in offers:
            yield _judged(one, KINDS[arch], interface, others=bool(sent_here) and one not in sent_here)
        if not offers:
            what = f"nobody answers a {KINDS[arch]} machine on {interface}"
            yield Finding("dhcp", "warning", what, f"boot.dhcp: range, or a DHCP server with: {_SNIPPET} dnsmasq")


def _judged(offer: Offer, kind: str, interface: str, *, others: bool) -> Finding:
    gives = f"offers {offer.address}" if int(offer.address) else "answers beside another server"
    who = f"{offer.server} on {interface} {gives} to a {kind} machine"
    if not offer.file:  # some servers name themselves all the same
        if others:  # addresses come from one server, and files from a proxy
            return Finding("dhcp", "ok", f"{who}, and leaves what it boots to another server")
        remedy = f"{_SNIPPET} dnsmasq, or boot.dhcp: proxy"
        return Finding("dhcp", "warning", f"{who}, and tells it nothing to boot", remedy)
    sends = f"{who}, and sends it to {offer.next_server} for {printable(offer.file)}"
    if not _here(str(offer.next_server)):
        return Finding("dhcp", "warning", f"{sends}, which is not this machine", f"{_SNIPPET} dnsmasq")
    try:
        answer = reach.tftp(str(offer.next_server), 69, offer.file)
    except OSError as error:
        return Finding("dhcp", "error", f"{sends}: no TFTP answer there: {error}", "systemctl start appliance")
    if answer[:2] == b"\0\5":
        return Finding("dhcp", "error", f"{sends}, a file that is not served", "appliance boot publish")
    return Finding("dhcp", "ok", f"{sends}: this machine, and the file is served")


def _here(address: str) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind((address, 0))
        except OSError:
            return False
    return address != "0.0.0.0"
