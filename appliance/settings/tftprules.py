"""What keys of TFTP may not say together. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network

from appliance.settings import patterns
from appliance.settings.finding import Finding, Path
from appliance.settings.forms import endpoint_parts, port_range_parts
from appliance.settings.main import Settings
from appliance.settings.rulefacts import Rules, dotted, listeners
from appliance.settings.tftp import TftpNetwork
from appliance.settings.units import format_duration, format_size


def _transfer_ports(settings: Settings) -> Iterator[Finding]:
    tftp, key = settings.tftp, ("tftp", "port_range")
    if not (tftp.enabled and tftp.port_range):
        return
    ports = port_range_parts(tftp.port_range)
    for kind, path, text in listeners(settings):
        port = endpoint_parts(text)[1]
        if kind == "udp" and port in ports:
            what = f"{tftp.port_range} contains port {port}, which {dotted(path)} listens on"
            yield Finding(what, "write a range without it, or change that port", (key, path))
    if len(ports) < tftp.limits.transfers:
        what = f"{tftp.port_range} has {len(ports)} ports for {tftp.limits.transfers} transfers; more are refused"
        remedy = f"write a larger range, or limits: {{transfers: {len(ports)}}}"
        yield Finding(what, remedy, (key, ("tftp", "limits", "transfers")), "warning")


def _single_port(settings: Settings) -> Iterator[Finding]:
    tftp, key = settings.tftp, ("tftp", "single_port")
    if not (tftp.enabled and tftp.single_port):
        return
    if tftp.port_range:
        what = "every packet leaves from the listener's port, so port_range has no use"
        yield Finding(what, "remove port_range, or write single_port: false", (key, ("tftp", "port_range")))
    if not tftp.allow:
        what = "without tftp.allow everybody gets windowsize 1 and no uploads through a single port"
        remedy = "write the networks of your clients into tftp.allow"
        yield Finding(what, remedy, (key, ("tftp", "allow")), "warning")


def _rates(settings: Settings) -> Iterator[Finding]:
    tftp = settings.tftp
    total: Path = ("tftp", "limits", "rate_total")
    rates: list[tuple[Path, int]] = [(("tftp", "limits", "rate_per_client"), tftp.limits.rate_per_client)]
    rates += [(("tftp", "networks", i, "rate"), network.rate) for i, network in enumerate(tftp.networks)]
    for key, rate in rates:
        if tftp.enabled and tftp.limits.rate_total and rate > tftp.limits.rate_total:
            most = format_size(tftp.limits.rate_total)
            what = f"{format_size(rate)} is more than the rate_total of {most}, so it limits nobody"
            yield Finding(what, f"write less than {most}", (key, total), "warning")


def _sites(settings: Settings) -> Iterator[Finding]:
    lists: list[tuple[Path, tuple[TftpNetwork, ...]]] = [(("tftp", "networks"), settings.tftp.networks)]
    for i, site in enumerate(settings.tftp.sites):
        lists.append((("tftp", "sites", i, "networks"), site.networks))
        if not endpoint_parts(site.listen)[1]:
            what = f"{site.listen} is no fixed port, so the site could not be told from others"
            yield Finding(what, "write the port", (("tftp", "sites", i, "listen"),))
    for path, networks in lists:
        first: dict[str, int] = {}
        for i, network in enumerate(networks):
            if first.setdefault(str(ip_network(network.net)), i) != i:
                what = f"{network.net} stands in the list twice; this one never counts"
                yield Finding(what, "remove one of the two", ((*path, i, "net"),))


def _machines(settings: Settings) -> Iterator[Finding]:
    first: dict[str, int] = {}
    for i, machine in enumerate(settings.tftp.machines):
        if first.setdefault(machine.mac, i) != i:
            what = f"{machine.mac} stands in the list twice; this one never counts"
            yield Finding(what, "remove one of the two", (("tftp", "machines", i, "mac"),))


def _remap(settings: Settings) -> Iterator[Finding]:
    total = 0
    for i, rule in enumerate(settings.tftp.remap):
        key: Path = ("tftp", "remap", i)
        wanted = [value for kind, value in patterns.parts(rule.to) if kind == "group"]
        known = patterns.groups(rule.match)
        if absent := next((value for value in wanted if value not in known), ""):
            remedy = "write ( ) or (?P<name> ) in match, or another reference"
            yield Finding(f"match has no group {absent}", remedy, ((*key, "to"), (*key, "match")))
        total += patterns.steps(rule.match)
        if total > patterns.STEPS_ALL:
            what = "the rules up to this one could keep the server busy for long on one name"
            yield Finding(what, "write fewer rules, or begin them with ^", ((*key, "match"),))
            return


def _patience(settings: Settings) -> Iterator[Finding]:
    tftp = settings.tftp
    if tftp.give_up_after < 5 * tftp.timeout:
        least = format_duration(5 * tftp.timeout)
        what = (
            f"{format_duration(tftp.give_up_after)} is less than 5 times the timeout of {format_duration(tftp.timeout)}"
        )
        yield Finding(what, f"write at least {least}", (("tftp", "give_up_after"), ("tftp", "timeout")))


RULES: Rules = (
    _transfer_ports,
    _single_port,
    _rates,
    _sites,
    _machines,
    _remap,
    _patience,
)
