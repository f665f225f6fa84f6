"""The TFTP side of dnsmasq.conf (dnsmasq(8)) to our settings; DHCP and DNS stay with dnsmasq. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any

from appliance.migrate.common import Imported, Left, listens

_QUIET = {
    "tftp-secure",
    "tftp-no-fail",
    "enable-tftp",
    "tftp-root",
    "bind-interfaces",
    "bind-dynamic",
    "conf-dir",
    "conf-file",
}
_WHY = {
    "tftp-lowercase": "names are found as they are written first, then in any case",
    "tftp-secure": "only files that everybody may read are served; chmod a+r what belongs to dnsmasq",
    "tftp-mtu": "the kernel's knowledge of each path decides; tftp.blksize_max bounds it",
}


def convert(files: Iterable[tuple[str, str]]) -> Imported:
    """From name and text of the main file and of those it includes, in their order."""
    made = Imported()
    made.put("ftp.enabled", False)
    addresses: list[str] = []
    others = 0
    served = False
    for name, text in files:
        for number, line in enumerate(text.splitlines(), 1):
            key, _, value = line.split(" #")[0].strip().partition("=")
            key, value = key.strip(), value.strip()
            if not key or key.startswith("#"):
                continue
            if key == "listen-address":
                addresses += [one.strip() for one in value.split(",")]
            elif key in {"interface", "except-interface"}:
                made.left.append(
                    Left(name, number, line.strip(), "listen names addresses: write those of the interface")
                )
            elif key in _QUIET or key.startswith("tftp-"):
                served |= key == "enable-tftp"
                _tftp(made, (name, number, line.strip()), key, value)
            elif key.startswith(("dhcp-", "pxe-")):
                made.left.append(
                    Left(name, number, line.strip(), "stays with dnsmasq; the server it names must be this machine")
                )
            else:
                others += 1
    if not served:
        made.left.append(Left("dnsmasq", 0, "enable-tftp", "it is not switched on: there is nothing to take over"))
    elif others or made.left:
        made.left.append(
            Left("dnsmasq", 0, "enable-tftp", "take it out, so that dnsmasq lets go of port 69; DNS and DHCP go on")
        )
    if not made.get("tftp.root"):
        made.put("tftp.root", "/srv/tftp")
    texts = [text for one in addresses if _numeric(one) for text in listens(one, 69)]
    made.put("tftp.listen", texts or listens("", 69))
    return made


def _numeric(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _tftp(made: Imported, place: tuple[str, int, str], key: str, value: str) -> None:
    name, number, line = place
    if key == "tftp-root":
        folder, _, interface = value.partition(",")
        if interface or made.get("tftp.root"):
            made.left.append(Left(name, number, line, "a root for one interface: tftp.sites, for its address"))
        else:
            made.put("tftp.root", folder)
    elif key == "enable-tftp" and value:
        made.left.append(Left(name, number, line, "listen names addresses: write those of the interface"))
    elif key == "tftp-unique-root" and value == "mac":
        made.left.append(Left(name, number, line, "one entry of tftp.machines for each machine, with its root"))
    elif (carried := _carried(key, value)) is not None:
        made.put(*carried)
    elif key not in _QUIET:
        made.left.append(Left(name, number, line, _WHY.get(key, "no option of TFTP in dnsmasq that we know")))


def _carried(key: str, value: str) -> tuple[str, Any] | None:
    if key == "tftp-max" and value.isdigit():
        return "tftp.limits.transfers", min(65536, max(1, int(value)))
    if key == "tftp-port-range" and value.replace(",", "").isdigit():
        return "tftp.port_range", value.replace(",", "-")
    return {
        "tftp-single-port": ("tftp.single_port", True),
        "tftp-no-blocksize": (
            "tftp.networks",
            [{"net": n, "refuse_options": ["blksize"]} for n in ("0.0.0.0/0", "::/0")],
        ),
        "tftp-lowercase": ("tftp.case_insensitive", True),
        "tftp-unique-root": ("tftp.remap", [{"match": "^", "to": r"\i/"}]),
    }.get(key)
