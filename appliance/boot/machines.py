"""Which group a machine belongs to, which profile and variables it has. Pure: values in, values out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from appliance.boot.model import ARCHES, CPUS, Group, Machine, Manifest, Profile, Selector, Var

MENU = ""  # the name of no profile: such a machine gets the menu


@dataclass(frozen=True, slots=True)
class Choice:
    """What a machine boots and why. `profile` is None for the menu; `rule` is the key that chose it.

    `missing` is the name of a profile that an older release has not: such a machine gets the menu.
    """

    machine: Machine
    group: Group | None
    profile: Profile | None
    rule: str
    missing: str = ""


def fits(match: Selector, machine: Machine) -> bool:
    """Whether a selector names this machine. What is not known of a machine fits nothing that asks for it."""
    return (
        (not match.macs or any(mac.startswith(start) for mac in machine.macs for start in match.macs))
        and (not match.uuids or machine.uuid in match.uuids)
        and (not match.serials or machine.serial in match.serials)
        and (not match.networks or any(within(machine.ip, net) for net in match.networks))
        and (not match.arches or machine.arch in match.arches)
        and set(match.labels) <= set(machine.labels)
    )


def within(address: str, network: str) -> bool:
    """Whether an address, if there is one, is in a network."""
    if not address:
        return False
    one, net = ip_address(address), ip_network(network)
    return one.version == net.version and one in net


def covers(wide: Selector, narrow: Selector) -> bool:
    """Whether `wide` fits every machine that `narrow` fits."""
    return (
        _all(wide.macs, narrow.macs, _begins)
        and _all(wide.uuids, narrow.uuids, str.__eq__)
        and _all(wide.serials, narrow.serials, str.__eq__)
        and _all(wide.networks, narrow.networks, _net_covers)
        and _all(wide.arches, narrow.arches, str.__eq__)
        and set(wide.labels) <= set(narrow.labels)
    )


def _all(wide: tuple[str, ...], narrow: tuple[str, ...], within_one: Callable[[str, str], bool]) -> bool:
    return not wide or (bool(narrow) and all(any(within_one(one, other) for one in wide) for other in narrow))


def _begins(start: str, mac: str) -> bool:
    return mac.startswith(start)


def _net_covers(wide: str, narrow: str) -> bool:
    one, other = ip_network(wide), ip_network(narrow)
    if one.version != other.version:
        return False
    return int(one.network_address) <= int(other.network_address) and (
        int(other.broadcast_address) <= int(one.broadcast_address)
    )


def fits_cpu(profile: Profile, arch: str) -> bool:
    """Whether a client of that architecture can run a profile."""
    return not profile.arch or bool(set(profile.arch) & set(CPUS[arch]))


def choose(manifest: Manifest, machine: Machine, profile: str = "") -> Choice:
    """What a machine boots: the profile that is given, else its own, its group's, the default, the menu."""
    known = {one.name: one for one in manifest.profiles}
    group = next((one for one in manifest.groups if fits(one.match, machine)), None)
    ways = (
        (profile, f"machines.{machine.name}.once"),
        (machine.profile, f"machines.{machine.name}.profile"),
        (group.profile if group else "", f"groups.{group.name if group else ''}"),
        (manifest.default, "default"),
    )
    for name, rule in ways:
        if name:
            return Choice(machine, group, known.get(name), rule, "" if name in known else name)
    return Choice(machine, group, None, "menu")


def variables(manifest: Manifest, choice: Choice) -> dict[str, object]:
    """Variables of a machine; the closest wins: manifest, profile, group, machine."""
    layers = (
        manifest.vars,
        choice.profile.vars if choice.profile else (),
        choice.group.vars if choice.group else (),
        choice.machine.vars,
    )
    return {var.name: var.value for layer in layers for var in layer}


def facts(machine: Machine) -> dict[str, object]:
    """What a template can say of a machine as `machine`."""
    mac = machine.macs[0] if machine.macs else ""
    return {
        "name": machine.name,
        "mac": mac,
        "macs": list(machine.macs),
        "mac_dashes": mac.replace(":", "-"),
        "mac_plain": mac.replace(":", ""),
        "uuid": machine.uuid,
        "serial": machine.serial,
        "ip": machine.ip,
        "arch": machine.arch,
        "labels": labels(machine.labels),
    }


def labels(pairs: tuple[Var, ...]) -> Mapping[str, object]:
    """Labels as a mapping."""
    return {var.name: var.value for var in pairs}


def arch_of(number: int) -> str | None:
    """Our name of an architecture of option 93; None for one we know nothing of."""
    return next((name for name, numbers in ARCHES.items() if number in numbers), None)
