"""What keys may not say together. Pure: settings in, findings out.

Each finding names the keys it looked at, so that one of them being unusable by itself silences it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from appliance.settings import ftprules, tftprules, uploadrules
from appliance.settings.boardrules import board
from appliance.settings.finding import Finding, Path
from appliance.settings.forms import endpoint_parts
from appliance.settings.hookrules import hooks
from appliance.settings.main import Settings
from appliance.settings.rulefacts import Rules, dotted, listeners, served

LOG_NAMES = (".log", "xferlog")  # the supervisor insists on the same (supervise.service)


def judge(settings: Settings) -> list[Finding]:
    """Every finding about settings that are each valid by themselves."""
    return [finding for rule in _RULES for finding in rule(settings)]


def _one_service(settings: Settings) -> Iterator[Finding]:
    if not (settings.tftp.enabled or settings.ftp.enabled):
        keys: tuple[Path, ...] = (("ftp", "enabled"), ("tftp", "enabled"))
        yield Finding("both services are off", "write enabled: true for tftp or ftp", keys)


def _clashes(settings: Settings) -> Iterator[Finding]:
    taken: dict[tuple[str, bool, int], list[tuple[Path, str]]] = defaultdict(list)
    for kind, path, text in listeners(settings):
        address, port = endpoint_parts(text)
        if not port:
            continue  # each gets a port of its own
        others = taken[kind, ":" in address, port]
        clash = next((other for other in others if _same(other[1], text)), None)
        if clash:
            what = f"{text} is taken by {dotted(clash[0])}, {clash[1]}"
            yield Finding(what, "remove one of the two, or change its port", (path, clash[0]))
        others.append((path, text))


def _same(one: str, other: str) -> bool:
    everywhere = ("0.0.0.0", "::")
    addresses = (endpoint_parts(one)[0], endpoint_parts(other)[0])
    return addresses[0] == addresses[1] or any(address in everywhere for address in addresses)


def _roots(settings: Settings) -> Iterator[Finding]:
    for name, root in served(settings):
        if root == "/":
            remedy = f"name the folder to serve, like /srv/appliance/{name}"
            yield Finding("the root folder of the machine would be served", remedy, ((name, "root"),))


def _folders(settings: Settings) -> Iterator[Finding]:
    if settings.run_dir == settings.state_dir:
        remedy = f"write {settings.state_dir.rstrip('/')}/run, or another folder"
        yield Finding("run_dir is the same folder as state_dir", remedy, (("run_dir",), ("state_dir",)))
    for key, folder in (("state_dir", settings.state_dir), ("run_dir", settings.run_dir)):
        for name, root in served(settings):
            if root != "/" and f"{folder}/".startswith(f"{root}/"):
                what = f"{folder} lies inside {name}.root, so it would be served"
                yield Finding(what, f"name a folder outside {root}", ((key,), (name, "root")))


def _xferlog(settings: Settings) -> Iterator[Finding]:
    path, key = settings.observe.xferlog, ("observe", "xferlog")
    if path is None:
        return
    if not path.endswith(LOG_NAMES):
        yield Finding(f"{path} is no name of a log", "write one that ends in .log or xferlog", (key,))
    for name, root in served(settings):
        if root != "/" and path.startswith(f"{root}/"):
            what = f"{path} lies inside {name}.root, so it would be served"
            yield Finding(what, f"name a file outside {root}", (key, (name, "root")))


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


_RULES: Rules = (
    _one_service,
    _clashes,
    *ftprules.RULES,
    *tftprules.RULES,
    _roots,
    _folders,
    _xferlog,
    *uploadrules.RULES,
    _dhcp,
    board,
    hooks,
)
