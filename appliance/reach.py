"""Judge what settings listen on and send from: ports, addresses, queues; every finding with its remedy.

Invariant: as `world`, of which this is the part about the network.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator

from appliance.boxes import Findings, caution, fault
from appliance.errors import Problem
from appliance.machine import Machine, receive_buffer, try_bind
from appliance.settings.forms import endpoint_parts, port_range_parts
from appliance.settings.ftp import FtpSettings
from appliance.settings.main import Settings
from appliance.settings.tftp import TftpSettings
from appliance.settings.units import format_size

_MIB = 1 << 20
BUFFER, ENOUGH_BUFFER = 8 * _MIB, _MIB  # bytes: what a TFTP listener asks for, and what a room of machines needs


def services(settings: Settings) -> list[tuple[str, TftpSettings | FtpSettings]]:
    """Those that are on, by name."""
    both: list[tuple[str, TftpSettings | FtpSettings]] = [("tftp", settings.tftp), ("ftp", settings.ftp)]
    return [(name, service) for name, service in both if service.enabled]


def rounded(size: int) -> str:
    """A size as it is told: 208KiB."""
    unit = next(unit for unit in (1 << 30, 1 << 20, 1 << 10, 1) if size >= unit or unit == 1)
    return format_size(size // unit * unit)


def ports(settings: Settings, machine: Machine) -> Findings:
    """Addresses that cannot be bound, and who is in the way."""
    for name, service in services(settings):
        for i, text in enumerate(service.listen):
            address, port = endpoint_parts(text)
            yield from _port(f"{name}.listen[{i}]", "udp" if name == "tftp" else "tcp", address, port, machine)
    for i, site in enumerate(settings.tftp.sites if settings.tftp.enabled else ()):
        yield from _port(f"tftp.sites[{i}].listen", "udp", *endpoint_parts(site.listen), machine)
    for key, text in _implicit(settings):
        yield from _port(key, "tcp", *endpoint_parts(text), machine)
    if settings.observe.metrics_listen:
        yield from _port("observe.metrics_listen", "tcp", *endpoint_parts(settings.observe.metrics_listen), machine)


def _port(key: str, kind: str, address: str, port: int, machine: Machine) -> Findings:
    if (f"{kind} [{address}]:{port}" if ":" in address else f"{kind} {address}:{port}") in machine.ours:
        return
    start = machine.first_free_port()
    if 0 < port < start:
        remedy = f"run as root, or write a port from {start}, or sysctl -w net.ipv4.ip_unprivileged_port_start={port}"
        yield fault(key, f"port {port} needs root", remedy)
        return
    try:
        try_bind(kind, address, port, absent=True)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            yield _taken(key, kind, address, port, machine)
        elif error.errno == errno.EAFNOSUPPORT:
            yield fault(key, "this machine has no IPv6", f"take [{address}]:{port} out")
        else:
            yield fault(key, f"port {port} at {address} cannot be bound: {error.strerror}", "ip -brief address")


def _taken(key: str, kind: str, address: str, port: int, machine: Machine) -> Problem:
    holder = machine.holder(kind, address, port)
    if not holder:
        remedy = f"as root: ss -l{kind[0]}np sport = :{port}"
        return fault(key, f"{kind} port {port} is taken", f"{remedy} shows by whom; stop it, or write another port")
    pid = holder.rpartition(" ")[2].rstrip(")")
    return fault(
        key, f"{kind} port {port} is taken by {holder}", f"{_freed(holder, pid, machine)}, or write another port"
    )


def _freed(holder: str, pid: str, machine: Machine) -> str:
    """The command after which a port is free, and stays so."""
    if pid == "1":
        return "systemctl list-sockets shows the .socket that holds it: systemctl disable --now NAME.socket"
    unit = machine.unit(pid)
    if unit and holder.startswith("dnsmasq "):  # which may well be wanted for DHCP and DNS
        return f"take enable-tftp out of its configuration and restart {unit}, or systemctl disable --now {unit}"
    return f"systemctl disable --now {unit}" if unit else f"kill {pid}"


def addresses(settings: Settings, machine: Machine) -> Findings:  # noqa: ARG001 (judgements share one signature)
    """Addresses that this machine does not have; they are bound all the same and serve when they appear."""
    for name, service in services(settings):
        for i, text in enumerate(service.listen):
            yield from _absent(f"{name}.listen[{i}]", endpoint_parts(text)[0])
    for key, text in _implicit(settings):
        yield from _absent(key, endpoint_parts(text)[0])


def _absent(key: str, address: str) -> Findings:
    try:
        try_bind("udp", address, 0, absent=False)
    except OSError as error:
        if error.errno in (errno.EADDRNOTAVAIL, errno.ENODEV):
            what = f"{address} is not an address of this machine; it is served as soon as it is"
            yield caution(key, what, "ip -brief address shows those it has")


def _implicit(settings: Settings) -> Iterator[tuple[str, str]]:
    """Key and address of the listeners where connections begin with TLS."""
    ftp = settings.ftp
    if not ftp.enabled or ftp.tls.mode == "off":
        return
    yield from ((f"ftp.tls.implicit_listen[{i}]", text) for i, text in enumerate(ftp.tls.implicit_listen))
    for i, site in enumerate(ftp.sites):
        yield from ((f"ftp.sites[{i}].implicit_listen[{j}]", text) for j, text in enumerate(site.implicit_listen))


def source_port(settings: Settings, machine: Machine) -> Findings:
    """A port for active data connections that an ordinary user cannot connect from."""
    active = settings.ftp.active
    if settings.ftp.enabled and active.enabled and 0 < active.source_port < machine.first_free_port():
        what = f"port {active.source_port} needs root, so active mode fails"
        yield caution("ftp.active.source_port", what, "run as root, or write 0")


def receive_buffers(settings: Settings, machine: Machine) -> Findings:  # noqa: ARG001
    """A listener's queue too short for a room that is switched on at once."""
    if settings.tftp.enabled:
        got = receive_buffer(BUFFER)
        if got < ENOUGH_BUFFER:
            what = f"a listener gets a receive buffer of {rounded(got)}, too little for many machines at once"
            yield caution("tftp.listen", what, f"sysctl -w net.core.rmem_max={BUFFER}, or run as root")


def passive_ports(settings: Settings, machine: Machine) -> Findings:
    """A passive range that is too small, or that the kernel gives out to other connections."""
    ftp, key = settings.ftp, "ftp.passive_ports"
    if not ftp.enabled:
        return
    passive = port_range_parts(ftp.passive_ports)
    if len(passive) < ftp.limits.sessions:
        count = "1 port is" if len(passive) == 1 else f"{len(passive)} ports are"
        what = f"{count} fewer than {ftp.limits.sessions} sessions"
        yield caution(key, what, f"write a wider range, or ftp.limits.sessions: {len(passive)}")
    own = [int(word) for word in machine.text("sys/net/ipv4/ip_local_port_range").split()]
    reserved = machine.text("sys/net/ipv4/ip_local_reserved_ports")
    if own and not _listed_ports(reserved).issuperset({*passive} & {*range(own[0], own[1] + 1)}):
        what = f"{ftp.passive_ports} overlaps {own[0]}-{own[1]}, which the kernel gives out to other connections"
        together = f"{reserved},{ftp.passive_ports}".lstrip(",")
        yield caution(key, what, f"sysctl -w net.ipv4.ip_local_reserved_ports={together}")


def _listed_ports(text: str) -> set[int]:
    """Ports as the kernel lists them: numbers and ranges with commas between (ip-sysctl, ip_local_reserved_ports)."""
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found
