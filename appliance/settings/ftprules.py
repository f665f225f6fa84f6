"""What keys of FTP may not say together. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network

from appliance.settings.finding import Finding, Path
from appliance.settings.forms import endpoint_parts, port_range_parts
from appliance.settings.ftp import FtpSite, TlsSettings
from appliance.settings.main import Settings
from appliance.settings.rulefacts import Rules, dotted, implicit, listeners, served


def _passive_ports(settings: Settings) -> Iterator[Finding]:
    ports = port_range_parts(settings.ftp.passive_ports)
    for kind, path, text in listeners(settings):
        port = endpoint_parts(text)[1]
        if kind == "tcp" and port in ports:
            what = f"{settings.ftp.passive_ports} contains port {port}, which {dotted(path)} listens on"
            yield Finding(what, "write a range without it, or change that port", (("ftp", "passive_ports"), path))


def _ftp_sites(settings: Settings) -> Iterator[Finding]:
    known: dict[str, int] = {}
    for i, site in enumerate(settings.ftp.sites):
        key: Path = ("ftp", "sites", i)
        if not site.listen and not site.implicit_listen and not site.hosts:
            yield Finding("no client can reach this site", "write listen, or hosts, or remove it", (key,))
        for name in ("listen", "implicit_listen"):
            for j, text in enumerate(getattr(site, name)):
                if not endpoint_parts(text)[1]:
                    what = f"{text} is no fixed port, so the site could not be told from others"
                    yield Finding(what, "write the port", ((*key, name, j),))
        for j, name in enumerate(site.hosts):
            if (other := known.setdefault(name, i)) != i:
                what = f"{name} is a name of ftp.sites[{other}] already"
                yield Finding(what, "remove one of the two", ((*key, "hosts", j), ("ftp", "sites", other, "hosts")))


def _ftp_networks(settings: Settings) -> Iterator[Finding]:
    limits, base = settings.ftp.limits, ("ftp", "limits", "networks")
    first: dict[str, int] = {}
    for i, network in enumerate(limits.networks):
        if first.setdefault(str(ip_network(network.net)), i) != i:
            what = f"{network.net} stands in the list twice; this one never counts"
            yield Finding(what, "remove one of the two", ((*base, i, "net"),))
        for name, count in (("sessions", network.sessions), ("sessions_per_client", network.sessions_per_client)):
            if count and count > limits.sessions:
                what = f"{count} is more than the {limits.sessions} sessions of limits, so it limits nobody"
                keys: tuple[Path, ...] = ((*base, i, name), ("ftp", "limits", "sessions"))
                yield Finding(what, f"write at most {limits.sessions}, or raise limits.sessions", keys, "warning")


def _tls(settings: Settings) -> Iterator[Finding]:
    tls, base = settings.ftp.tls, ("ftp", "tls")
    if not settings.ftp.enabled:
        return
    if tls.mode == "off":
        for key in dict.fromkeys(path[:-1] for path, _text in implicit(settings)):
            keys: tuple[Path, ...] = (key, (*base, "mode"))
            yield Finding("nothing listens there while mode is off", "write mode: optional", keys, "warning")
        return
    yield from _site_certificates(settings)
    if tls.certificate is None:
        remedy = "name the PEM file of the certificate, or make one: appliance tls self-signed --name HOST"
        yield Finding(f"mode is {tls.mode}, and there is no certificate", remedy, ((*base, "mode"),))
    yield from _served_key(settings, base, tls)
    plain: dict[int, Path] = {endpoint_parts(text)[1]: ("ftp", "listen") for text in settings.ftp.listen}
    for i, site in enumerate(settings.ftp.sites):
        plain |= {endpoint_parts(text)[1]: ("ftp", "sites", i, "listen") for text in site.listen}
    for key, text in implicit(settings):
        port = endpoint_parts(text)[1]
        if port and port in plain:
            what = f"port {port} is also in {dotted(plain[port])}, where connections begin in the clear"
            yield Finding(what, "write another port, usually 990", (key, plain[port]))


def _site_certificates(settings: Settings) -> Iterator[Finding]:
    for i, site in enumerate(settings.ftp.sites):
        key: Path = ("ftp", "sites", i)
        if site.certificate and not site.listen and not site.implicit_listen:
            what = "a certificate is chosen by the address that a client comes in by, and this site has none of its own"
            yield Finding(what, "write listen, or remove certificate", ((*key, "certificate"), key))
        if site.key and not site.certificate:
            yield Finding("there is a key and no certificate", "write certificate, or remove key", ((*key, "key"), key))
        yield from _served_key(settings, key, site)


def _served_key(settings: Settings, base: Path, tls: TlsSettings | FtpSite) -> Iterator[Finding]:
    for name, path in (("certificate", tls.certificate), ("key", tls.key)):
        for service, root in served(settings):
            if path and root != "/" and path.startswith(f"{root}/") and (name == "key" or tls.key is None):
                what = f"{path} holds the private key and lies inside {service}.root, so it would be served"
                yield Finding(what, f"move it out of {root}", ((*base, name), (service, "root")))


RULES: Rules = (
    _passive_ports,
    _ftp_sites,
    _ftp_networks,
    _tls,
)
