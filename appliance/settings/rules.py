"""What keys may not say together. Pure: settings in, findings out.

Each finding names the keys it looked at, so that one of them being unusable by itself silences it.
"""

from __future__ import annotations

import fnmatch
from collections import defaultdict
from collections.abc import Callable, Iterator
from ipaddress import ip_network

from appliance.settings import patterns
from appliance.settings.boardrules import board
from appliance.settings.finding import Finding, Path
from appliance.settings.forms import endpoint_parts, port_range_parts
from appliance.settings.ftp import FtpSite, IncomingSettings, TlsSettings
from appliance.settings.hookrules import hooks
from appliance.settings.main import Settings
from appliance.settings.tftp import TftpNetwork, TftpUploads
from appliance.settings.units import format_duration, format_size

LOG_NAMES = (".log", "xferlog")  # the supervisor insists on the same (supervise.service)


def judge(settings: Settings) -> list[Finding]:
    """Every finding about settings that are each valid by themselves."""
    return [finding for rule in _RULES for finding in rule(settings)]


def _one_service(settings: Settings) -> Iterator[Finding]:
    if not (settings.tftp.enabled or settings.ftp.enabled):
        keys: tuple[Path, ...] = (("ftp", "enabled"), ("tftp", "enabled"))
        yield Finding("both services are off", "write enabled: true for tftp or ftp", keys)


def _listeners(settings: Settings) -> list[tuple[str, Path, str]]:
    found: list[tuple[str, Path, str]] = []
    if settings.tftp.enabled:
        found += [("udp", ("tftp", "listen", i), text) for i, text in enumerate(settings.tftp.listen)]
        found += [("udp", ("tftp", "sites", i, "listen"), site.listen) for i, site in enumerate(settings.tftp.sites)]
    if settings.ftp.enabled:
        found += [("tcp", ("ftp", "listen", i), text) for i, text in enumerate(settings.ftp.listen)]
        for i, site in enumerate(settings.ftp.sites):
            found += [("tcp", ("ftp", "sites", i, "listen", j), text) for j, text in enumerate(site.listen)]
        if settings.ftp.tls.mode != "off":
            found += [("tcp", path, text) for path, text in _implicit(settings)]
    return found


def _implicit(settings: Settings) -> Iterator[tuple[Path, str]]:
    """Where connections begin with TLS."""
    yield from ((("ftp", "tls", "implicit_listen", i), text) for i, text in enumerate(settings.ftp.tls.implicit_listen))
    for i, site in enumerate(settings.ftp.sites):
        yield from ((("ftp", "sites", i, "implicit_listen", j), text) for j, text in enumerate(site.implicit_listen))


def _clashes(settings: Settings) -> Iterator[Finding]:
    taken: dict[tuple[str, bool, int], list[tuple[Path, str]]] = defaultdict(list)
    for kind, path, text in _listeners(settings):
        address, port = endpoint_parts(text)
        if not port:
            continue  # each gets a port of its own
        others = taken[kind, ":" in address, port]
        clash = next((other for other in others if _same(other[1], text)), None)
        if clash:
            what = f"{text} is taken by {_name(clash[0])}, {clash[1]}"
            yield Finding(what, "remove one of the two, or change its port", (path, clash[0]))
        others.append((path, text))


def _same(one: str, other: str) -> bool:
    everywhere = ("0.0.0.0", "::")
    addresses = (endpoint_parts(one)[0], endpoint_parts(other)[0])
    return addresses[0] == addresses[1] or any(address in everywhere for address in addresses)


def _name(path: Path) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)[1:]


def _passive_ports(settings: Settings) -> Iterator[Finding]:
    ports = port_range_parts(settings.ftp.passive_ports)
    for kind, path, text in _listeners(settings):
        port = endpoint_parts(text)[1]
        if kind == "tcp" and port in ports:
            what = f"{settings.ftp.passive_ports} contains port {port}, which {_name(path)} listens on"
            yield Finding(what, "write a range without it, or change that port", (("ftp", "passive_ports"), path))


def _transfer_ports(settings: Settings) -> Iterator[Finding]:
    tftp, key = settings.tftp, ("tftp", "port_range")
    if not (tftp.enabled and tftp.port_range):
        return
    ports = port_range_parts(tftp.port_range)
    for kind, path, text in _listeners(settings):
        port = endpoint_parts(text)[1]
        if kind == "udp" and port in ports:
            what = f"{tftp.port_range} contains port {port}, which {_name(path)} listens on"
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


def _boxes(settings: Settings) -> list[tuple[Path, str, IncomingSettings | TftpUploads]]:
    """The folders that are uploaded into: section, absolute path, settings."""
    found: list[tuple[Path, str, IncomingSettings | TftpUploads]] = []
    if settings.ftp.enabled and settings.ftp.incoming.enabled:
        found.append((("ftp", "incoming"), settings.ftp.root, settings.ftp.incoming))
    if settings.tftp.enabled and settings.tftp.uploads.mode != "none":
        found.append((("tftp", "uploads"), settings.tftp.root, settings.tftp.uploads))
    return [(base, f"{root.rstrip('/')}/{box.path}", box) for base, root, box in found]


def _tls(settings: Settings) -> Iterator[Finding]:
    tls, base = settings.ftp.tls, ("ftp", "tls")
    if not settings.ftp.enabled:
        return
    if tls.mode == "off":
        for key in dict.fromkeys(path[:-1] for path, _text in _implicit(settings)):
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
    for key, text in _implicit(settings):
        port = endpoint_parts(text)[1]
        if port and port in plain:
            what = f"port {port} is also in {_name(plain[port])}, where connections begin in the clear"
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
        for service, root in _served(settings):
            if path and root != "/" and path.startswith(f"{root}/") and (name == "key" or tls.key is None):
                what = f"{path} holds the private key and lies inside {service}.root, so it would be served"
                yield Finding(what, f"move it out of {root}", ((*base, name), (service, "root")))


def _quotas(settings: Settings) -> Iterator[Finding]:
    for base, _folder, box in _boxes(settings):
        yield from _quotas_of(base, box)


def _quotas_of(base: Path, box: IncomingSettings | TftpUploads) -> Iterator[Finding]:
    size, quota, share = format_size(box.max_size), format_size(box.quota), format_size(box.per_client_quota)
    if box.max_size > box.quota:
        keys = ((*base, "max_size"), (*base, "quota"))
        yield Finding(f"{size} is more than the quota of {quota}", f"write at most {quota}, or raise the quota", keys)
    if box.per_client_quota > box.quota:
        keys = ((*base, "per_client_quota"), (*base, "quota"))
        what = f"{share} is more than the quota of {quota}, so it limits nobody"
        yield Finding(what, f"write less than {quota}", keys, "warning")
    if box.max_size > box.per_client_quota and box.max_size <= box.quota:
        keys = ((*base, "max_size"), (*base, "per_client_quota"))
        what = f"{size} is more than the {share} that one client may store"
        yield Finding(what, f"write at most {share}, or raise per_client_quota", keys, "warning")


def _roots(settings: Settings) -> Iterator[Finding]:
    for name, root in _served(settings):
        if root == "/":
            remedy = f"name the folder to serve, like /srv/appliance/{name}"
            yield Finding("the root folder of the machine would be served", remedy, ((name, "root"),))


def _served(settings: Settings) -> list[tuple[str, str]]:
    services = (("tftp", settings.tftp), ("ftp", settings.ftp))
    return [(name, service.root) for name, service in services if service.enabled]


def _folders(settings: Settings) -> Iterator[Finding]:
    if settings.run_dir == settings.state_dir:
        remedy = f"write {settings.state_dir.rstrip('/')}/run, or another folder"
        yield Finding("run_dir is the same folder as state_dir", remedy, (("run_dir",), ("state_dir",)))
    for key, folder in (("state_dir", settings.state_dir), ("run_dir", settings.run_dir)):
        for name, root in _served(settings):
            if root != "/" and f"{folder}/".startswith(f"{root}/"):
                what = f"{folder} lies inside {name}.root, so it would be served"
                yield Finding(what, f"name a folder outside {root}", ((key,), (name, "root")))


def _xferlog(settings: Settings) -> Iterator[Finding]:
    path, key = settings.observe.xferlog, ("observe", "xferlog")
    if path is None:
        return
    if not path.endswith(LOG_NAMES):
        yield Finding(f"{path} is no name of a log", "write one that ends in .log or xferlog", (key,))
    for name, root in _served(settings):
        if root != "/" and path.startswith(f"{root}/"):
            what = f"{path} lies inside {name}.root, so it would be served"
            yield Finding(what, f"name a file outside {root}", (key, (name, "root")))


def _drop_box(settings: Settings) -> Iterator[Finding]:
    ftp = settings.ftp
    keys: tuple[Path, ...] = (("ftp", "incoming", "path"), ("ftp", "hide"))
    for part in ftp.incoming.path.split("/") if ftp.enabled and ftp.incoming.enabled else ():
        hidden = next((pattern for pattern in ftp.hide if fnmatch.fnmatchcase(part, pattern)), None)
        if hidden or part.startswith("."):
            what = f"{part} is hidden by {f'ftp.hide, {hidden}' if hidden else 'its dot'}, so no client reaches it"
            yield Finding(what, "write a name that is not hidden, like incoming", keys)


def _upload_folders(settings: Settings) -> Iterator[Finding]:
    """Each custodian owns its folder alone, and what is looked up for everybody is not in it."""
    boxes = _boxes(settings)
    for base, folder, _box in boxes:
        for other, outer, _box in boxes:
            if base != other and f"{folder}/".startswith(f"{outer}/"):
                same = "the same folder as" if folder == outer else "inside"
                what = f"{folder} is {same} that of {other[0]}.{other[1]}, {outer}"
                yield Finding(what, "name a folder beside it", ((*base, "path"), (*other, "path")))
                if folder == outer:
                    return
    uploads = settings.tftp.uploads.path
    for key, root in _lookup_folders(settings) if boxes and boxes[-1][0][0] == "tftp" else ():
        if f"{root}/".startswith(f"{uploads}/"):
            what = f"{root} is in the folder of the uploads, {uploads}, which is not served"
            yield Finding(what, "name another folder", (key, ("tftp", "uploads", "path")))


def _lookup_folders(settings: Settings) -> Iterator[tuple[Path, str]]:
    lists: list[tuple[Path, tuple[TftpNetwork, ...]]] = [(("tftp", "networks"), settings.tftp.networks)]
    for i, site in enumerate(settings.tftp.sites):
        lists.append((("tftp", "sites", i, "networks"), site.networks))
        if site.root:
            yield ("tftp", "sites", i, "root"), site.root
    for path, networks in lists:
        yield from (((*path, i, "root"), network.root) for i, network in enumerate(networks) if network.root)


def _released(settings: Settings) -> Iterator[Finding]:
    """What was released is neither a custodian's nor out of sight."""
    ftp, key = settings.ftp, ("ftp", "incoming", "released")
    if not (ftp.enabled and ftp.incoming.enabled):
        return
    folder = f"{ftp.root.rstrip('/')}/{ftp.incoming.released}"
    for base, box, _settings in _boxes(settings):
        if f"{folder}/".startswith(f"{box}/") or f"{box}/".startswith(f"{folder}/"):
            what = f"{folder} and the folder of {base[0]}.{base[1]}, {box}, lie inside each other"
            yield Finding(what, "name a folder beside it", (key, (*base, "path")))
    for part in ftp.incoming.released.split("/"):
        if hidden := next((pattern for pattern in ftp.hide if fnmatch.fnmatchcase(part, pattern)), ""):
            what = f"{part} is hidden by ftp.hide, {hidden}, so nobody sees what was released"
            yield Finding(what, "write a name that is not hidden, like released", (key, ("ftp", "hide")), "warning")


def _scan(settings: Settings) -> Iterator[Finding]:
    scan, key = settings.ftp.incoming.scan, ("ftp", "incoming", "scan")
    if scan is None or not (settings.ftp.enabled and settings.ftp.incoming.enabled):
        return
    if bool(scan.command) == (scan.clamd is not None):
        what = "there are two scanners" if scan.command else "there is no scanner"
        keys: tuple[Path, ...] = ((*key, "command"), (*key, "clamd"), key)
        yield Finding(what, "write command or clamd, one of them; or scan: null", keys)
    elif scan.command and not scan.command[0].startswith("/"):
        what = f"{scan.command[0]} is not an absolute path"
        yield Finding(
            what, f"write it in full, like /usr/bin/{scan.command[0].rpartition('/')[2]}", ((*key, "command"),)
        )


def _uploads(settings: Settings) -> Iterator[Finding]:
    box, base = settings.tftp.uploads, ("tftp", "uploads")
    if not settings.tftp.enabled or box.mode == "none":
        return
    size = format_size(box.max_size)
    if box.mode != "create" and box.max_size <= min(box.quota, box.per_client_quota) < 2 * box.max_size:
        which = "quota" if box.quota <= box.per_client_quota else "per_client_quota"
        what = f"a file of {size} could not be replaced: the old and the new one count until the new one is complete"
        yield Finding(what, f"write at least {format_size(2 * box.max_size)}", ((*base, which),), "warning")
    if box.keep_versions and box.mode == "create":
        remedy = "write mode: replace, or take keep_versions out"
        keys = ((*base, "keep_versions"), (*base, "mode"))
        yield Finding("create replaces nothing, so there are no versions", remedy, keys, "warning")
    if box.keep_versions >= box.max_files and box.mode != "create":
        what = f"{box.keep_versions} versions and the file itself are more than the {box.max_files} files of max_files"
        keys = ((*base, "keep_versions"), (*base, "max_files"))
        yield Finding(what, f"write at most {box.max_files - 1}, or raise max_files", keys)


def _readers(settings: Settings) -> Iterator[Finding]:
    box, key = settings.tftp.uploads, ("tftp", "uploads", "readers")
    if not settings.tftp.enabled or box.mode == "none":
        return
    if box.readable == "networks" and not box.readers:
        remedy = "write them, like [192.0.2.0/24], or readable: none"
        yield Finding("readable is networks, and there are none", remedy, (key, ("tftp", "uploads", "readable")))
    if box.readable != "networks" and box.readers:
        what = f"readable is {box.readable}, so these networks count for nothing"
        yield Finding(what, "write readable: networks", (key, ("tftp", "uploads", "readable")), "warning")
    for i, text in enumerate(box.readers):
        network = ip_network(text, strict=False)
        if network.version == 6 and network.prefixlen > 64:
            what = f"{text} is part of a /64, and IPv6 clients are told apart by their /64 only"
            whole = ip_network((network.network_address, 64), strict=False)
            yield Finding(what, f"write {whole}", ((*key, i),))


def _dhcp(settings: Settings) -> Iterator[Finding]:
    boot, server = settings.boot, settings.boot.dhcp_server
    if boot.dhcp == "off":
        return
    on: Path = ("boot", "dhcp")
    if not settings.tftp.enabled:
        yield Finding("machines would be sent to a TFTP service that is off", "write tftp.enabled: true", (on,))
    if server.interface is None:
        keys: tuple[Path, ...] = (("boot", "dhcp_server", "interface"), on)
        yield Finding("no interface is named", "name the one that the machines are on; `ip link` lists them", keys)
    if boot.dhcp == "range" and server.range is None:
        keys = (("boot", "dhcp_server", "range"), on)
        yield Finding("no addresses to give out", "write FIRST-LAST, like 192.0.2.50-192.0.2.99", keys)


_RULES: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
    _one_service,
    _clashes,
    _passive_ports,
    _transfer_ports,
    _single_port,
    _rates,
    _sites,
    _ftp_sites,
    _ftp_networks,
    _machines,
    _remap,
    _patience,
    _tls,
    _quotas,
    _roots,
    _folders,
    _xferlog,
    _drop_box,
    _upload_folders,
    _released,
    _scan,
    _uploads,
    _readers,
    _dhcp,
    board,
    hooks,
)
