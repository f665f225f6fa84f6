"""`appliance tftp explain`: what one name means to one client, step by step, without a running server.

The answer comes from the code that the server itself asks (tftp.lookup, tftp.options); here it is only put into words.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from appliance.cli import configuration, output
from appliance.cli.options import Config, Json
from appliance.errors import ApplianceError, ExitCode
from appliance.published import current

if TYPE_CHECKING:
    from appliance.settings.main import Settings
    from appliance.settings.tftp import TftpSettings
    from appliance.tftp.lookup import Found
    from appliance.tftp.terms import Terms

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="Look into the TFTP service.")

_PATH_BYTES = 1500  # Ethernet; the real path is known only when a client asks
_OVERHEAD = {4: 20 + 8 + 4, 6: 40 + 8 + 4}  # IP, UDP and TFTP headers
_ASKED = ((b"blksize", b"65464"), (b"windowsize", b"65535"), (b"timeout", b"3"), (b"tsize", b"0"))


@app.command()
def explain(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name as the client asks for it.")],
    *,
    client: Annotated[str, typer.Option("--client", metavar="ADDRESS", help="The address of the client.")],
    listener: Annotated[
        str | None,
        typer.Option("--listener", metavar="ADDRESS:PORT", help="Which listener it asks; else the first that fits."),
    ] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Tell which file a client would get for a name, and why: site, network or machine, rules, folders, options.

    Nothing has to run: the configuration and the files are looked at, with your rights. The exit code is 0
    when the file would be served, else 1.

    \b
    Examples:
      appliance tftp explain pxelinux.0 --client 192.0.2.7
      appliance tftp explain 'Boot\\BCD' --client 2001:db8::7 --listener '[::]:69' --json
    """
    host = _address(client)
    found = configuration.find(config, quiet=as_json)
    settings, _warnings = found.load()
    release = _release(settings)
    facts = {"config": found.name, **_explained(settings.tftp, os.fsencode(name), host, listener, release)}
    if as_json:
        output.document(facts)
    else:
        output.fact("\n".join(_lines(facts)))
    raise typer.Exit(ExitCode.DONE if facts["served"] else ExitCode.FAILED)


def _address(text: str) -> str:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise typer.BadParameter(f"{text} is not an address", param_hint="--client") from None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def _listener(settings: TftpSettings, wanted: str | None, host: str) -> str:
    known = [*settings.listen, *(site.listen for site in settings.sites)]
    if wanted is None:
        return next((text for text in known if text.startswith("[") == (":" in host)), known[0])
    if wanted not in known:
        raise typer.BadParameter(f"{wanted} is none of {', '.join(known)}", param_hint="--listener")
    return wanted


def _release(settings: Settings) -> tuple[str, int] | None:
    """The release and the overlay that would be served; None where nothing is published."""
    if not settings.boot.enabled:
        return None
    try:
        return current.read(settings.state_dir)
    except current.Unusable as why:
        raise ApplianceError(f"{why} (appliance boot publish)") from None


def _explained(
    settings: TftpSettings, name: bytes, host: str, wanted: str | None, release: tuple[str, int] | None
) -> dict[str, Any]:
    from appliance.observe.text import printable
    from appliance.tftp.lookup import Lookup
    from appliance.tftp.terms import endpoint

    listener = _listener(settings, wanted, host)
    lookup = Lookup(settings, lambda _folder, _taken, _other: None)
    if release is not None:
        lookup.published.take(1, *release)
    terms = lookup.terms(endpoint(listener), host, 0.0)
    facts: dict[str, Any] = {
        "name": printable(name),
        "client": host,
        "listener": listener,
        "site": terms.site and f"tftp.{terms.site}",
        "network": terms.network and f"tftp.{terms.network}",
        "machine": terms.machine and f"tftp.{terms.machine}",
        "mac": lookup.mac(host, 0.0),
        "root": settings.root,
        "release": release[0] if release else None,
        "overlay": release[1] if release else None,
        "uid": os.geteuid(),
    }
    why = "" if settings.enabled else "TFTP is off (tftp.enabled)"
    if not why and not lookup.serves(host):
        why = "the client's network is not served (tftp.allow, tftp.deny); it gets no answer"
    try:
        with contextlib.chdir(settings.root):
            found = lookup.find(name, host, terms, 0.0)
            return facts | _outcome(found, terms, why, settings, host)
    except OSError as error:
        raise ApplianceError(f"tftp.root: {settings.root}: {error.strerror}") from None


def _outcome(found: Found, terms: Terms, why: str, settings: TftpSettings, host: str) -> dict[str, Any]:
    from appliance.observe.text import printable
    from appliance.tftp.files import Refusal

    tried = [
        {"path": printable(path), "cause": file.cause if isinstance(file, Refusal) else "", "link": _link(path)}
        for path, file in found.tried
    ]
    facts: dict[str, Any] = {
        "rules": [
            {"rule": f"tftp.remap[{hit.rule}]", "before": printable(hit.before), "after": printable(hit.after)}
            for hit in found.hits
        ],
        "tried": tried,
        "respelled": found.respelled,
    }
    if isinstance(found.file, Refusal):
        told: dict[str, Any] | None = {"code": int(found.file.code), "text": found.file.text}
        if found.upload is not None:
            cause = f"the custodian is asked for the upload {printable(found.upload)}"
            readable = settings.uploads.readable
            return facts | {"served": False, "why": why or f"{cause} (tftp.uploads.readable: {readable})", "told": None}
        return facts | {"served": False, "why": why or found.file.cause, "told": None if why else told}
    found.file.close()
    agreed = {
        "path": tried[-1]["path"],
        "size": found.file.size,
        "options": _agreed(terms, host, found.file.size),
        "refused_options": sorted(option.decode() for option in terms.policy.refused),
        "port_range": settings.port_range,
        "single_port": settings.single_port,
    }
    return facts | agreed | {"served": not why, "why": why, "told": None}


def _link(path: bytes) -> str | None:
    """What the last part of a path points to, when it is a symbolic link."""
    from appliance.observe.text import printable

    try:
        return printable(os.readlink(path))
    except OSError:
        return None


def _agreed(terms: Terms, host: str, size: int) -> dict[str, int]:
    """What would be acknowledged to a client that asks for as much as there is."""
    from appliance.tftp.options import negotiate
    from appliance.tftp.packet import Request

    room = _PATH_BYTES - _OVERHEAD[ipaddress.ip_address(host.partition("%")[0]).version]
    agreed = negotiate(Request(write=False, name=b"", mode=b"octet", options=_ASKED), terms.policy, room, size)
    return {option.decode(): int(value) for option, value in agreed.oack}


def _lines(facts: dict[str, Any]) -> list[str]:
    places = ("site", "network", "machine")
    place = ", ".join(facts[key] for key in places if facts[key]) or "no site or network of its own"
    lines = [f"client {facts['client']} at {facts['listener']}: {place}"]
    if facts["mac"]:
        lines.append(f"its MAC address is {facts['mac']}, as it claims")
    if facts["release"]:
        lines.append(f"release {facts['release']}, overlay {facts['overlay']}")
    lines += [f"{hit['rule']}: {hit['before']} becomes {hit['after']}" for hit in facts["rules"]]
    for tried in facts["tried"]:
        link = f" (a link to {tried['link']}; the root is / to it)" if tried["link"] is not None else ""
        lines.append(f"{tried['path']}{link}: {tried['cause'] or 'found'}")
    if facts["respelled"]:
        lines.append("the last is another spelling of the name (tftp.case_insensitive)")
    if facts["served"]:
        options = " ".join(f"{option}={value}" for option, value in facts["options"].items()) or "none"
        refused = f"; refused here: {', '.join(facts['refused_options'])}" if facts["refused_options"] else ""
        lines.append(f"options, when the client asks for all on a path of {_PATH_BYTES} bytes: {options}{refused}")
        lines.append(f"served: {facts['root']}/{facts['path']}, {facts['size']} bytes")
    else:
        told = f" (the client is told: {facts['told']['code']} {facts['told']['text']})" if facts["told"] else ""
        lines.append(f"not served: {facts['why']}{told}")
    return lines
