"""What holds for one client at one listener: caps, refused options, folders. Pure.

Everything is worked out when the worker is made; a request costs one dictionary look-up for each prefix length in use.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, replace

from appliance.settings.tftp import TftpMachine, TftpNetwork, TftpSettings
from appliance.tftp.options import Policy

Endpoint = tuple[str, int]  # address and port of a listener


@dataclass(frozen=True, slots=True)
class Quota:
    """What all clients of one network get together: `transfers` at once, `rate` in bytes per second; 0 is no limit.

    `name` is what they are counted under. It is no name of a client: it has a slash.
    """

    name: str
    transfers: int
    rate: int


@dataclass(frozen=True, slots=True)
class Terms:
    """`roots`: folders to look in, in order, b"" is the service's root. `site`, `network`, `machine`: where it stands.

    `forgeable`: one port and no list of clients, so that a stranger could lead the whole conversation without hearing
    an answer. Such clients get windows of one block, and must not be let store anything.

    `quota`: None where the network has none.
    """

    policy: Policy
    roots: tuple[bytes, ...]
    site: str = ""
    network: str = ""
    machine: str = ""
    forgeable: bool = False
    quota: Quota | None = None


class _Table:
    """Terms by machine, else by network; the longest prefix counts, and of equal ones the one that came first."""

    def __init__(self, entries: Iterable[tuple[str, Terms]], machines: dict[str, Terms], otherwise: Terms) -> None:
        self._machines, self._otherwise = machines, otherwise
        tables: dict[tuple[int, int], dict[int, Terms]] = {}
        for text, terms in entries:
            network = ipaddress.ip_network(text)
            shift = network.max_prefixlen - network.prefixlen
            tables.setdefault((network.version, shift), {}).setdefault(int(network.network_address) >> shift, terms)
        self._tables = [(version, shift, tables[version, shift]) for version, shift in sorted(tables)]

    def find(self, host: str, mac: str) -> Terms:
        if mac and (terms := self._machines.get(mac)) is not None:
            return terms
        if not self._tables:
            return self._otherwise
        address = ipaddress.ip_address(host.partition("%")[0])
        number = int(address)
        for version, shift, table in self._tables:
            if version == address.version and (found := table.get(number >> shift)) is not None:
                return found
        return self._otherwise


class TermsBook:
    """The terms of every listener, network and machine of one configuration."""

    def __init__(self, settings: TftpSettings) -> None:
        """Raises ValueError for settings that the settings reader cannot have made."""
        forgeable = settings.single_port and not settings.allow
        window = 1 if forgeable else settings.windowsize_max
        base = Policy(_blksize(settings.blksize_max), window, settings.timeout)
        shared = [(network, f"networks[{i}]") for i, network in enumerate(settings.networks)]
        machines = settings.machines
        self._everywhere = _table(shared, machines, Terms(base, (b"",), forgeable=forgeable))
        self._sites: dict[Endpoint, _Table] = {}
        for number, site in enumerate(settings.sites):
            name = f"sites[{number}]"
            own = [(network, f"{name}.networks[{i}]") for i, network in enumerate(site.networks)]
            otherwise = Terms(base, _roots(site.root, (b"",)), name, forgeable=forgeable)
            self._sites[endpoint(site.listen)] = _table(own + shared, machines, otherwise)
        self.has_sites = bool(self._sites)

    def terms(self, listener: Endpoint | None, host: str, mac: str = "") -> Terms:
        """For a client at a listener, None where there are no sites. `mac`: aa:bb:cc:dd:ee:ff, "" if unknown."""
        table = self._sites.get(listener, self._everywhere) if listener else self._everywhere
        return table.find(host, mac)


def rated(settings: TftpSettings) -> bool:
    """Whether any transfer has a rate to keep."""
    networks = [*settings.networks, *(network for site in settings.sites for network in site.networks)]
    limits = settings.limits
    return bool(limits.rate_per_client or limits.rate_total or any(network.rate for network in networks))


def endpoint(text: str) -> Endpoint:
    """Address, without the interface of a link-local one, and port of a canonical ADDRESS:PORT."""
    host, _, port = text.rpartition(":")
    return host.strip("[]").partition("%")[0], int(port)


def _table(networks: list[tuple[TftpNetwork, str]], machines: tuple[TftpMachine, ...], otherwise: Terms) -> _Table:
    by_network = [
        (entry.net, replace(_special(entry, otherwise), network=name, quota=_quota(entry, otherwise)))
        for entry, name in networks
    ]
    by_mac = {
        entry.mac: replace(_special(entry, otherwise), machine=f"machines[{i}]") for i, entry in enumerate(machines)
    }
    return _Table(by_network, by_mac, otherwise)


def _special(entry: TftpNetwork | TftpMachine, base: Terms) -> Terms:
    policy = Policy(
        base.policy.blksize_max if entry.blksize_max is None else _blksize(entry.blksize_max),
        1 if base.forgeable else entry.windowsize_max or base.policy.windowsize_max,
        base.policy.timeout_s,
        frozenset(option.encode() for option in entry.refuse_options),
    )
    return replace(base, policy=policy, roots=_roots(entry.root, base.roots))


def _quota(network: TftpNetwork, base: Terms) -> Quota | None:
    quota = Quota(f"{base.site} {network.net}", network.transfers, network.rate)
    return quota if quota.transfers or quota.rate else None


def _blksize(setting: int | str) -> int | None:
    return None if setting == "mtu" else int(setting)


def _roots(first: str | None, then: tuple[bytes, ...]) -> tuple[bytes, ...]:
    return then if first is None else (first.encode(), *(root for root in then if root != first.encode()))
