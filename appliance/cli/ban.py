"""`appliance ban`: who is not served by FTP for a while, and why; add and remove by hand."""

from __future__ import annotations

import ipaddress
import json
from typing import Annotated

import typer

from appliance.cli import act, configuration, control, output
from appliance.cli.options import Config, Json
from appliance.errors import ApplianceError

app = typer.Typer(no_args_is_help=True, help="Clients that FTP does not serve for a while.", rich_markup_mode=None)
_ASK_S = 5.0
_NETWORKS = "a whole network is refused by ftp.deny"

Client = Annotated[str, typer.Argument(metavar="ADDRESS", help="IPv4 address, or an IPv6 address: its /64 is meant.")]
Seconds = Annotated[int, typer.Option("--for", metavar="SECONDS", min=1, max=365 * 86400, help="How long it lasts.")]


@app.command(name="list", short_help="who is banned, for how long, and why")
def list_(*, config: Config = None, as_json: Json = False) -> None:
    """Show every ban that is in force: the client, the seconds that are left, and what caused it.

    A ban comes from `ftp.bans` in the configuration, or from `appliance ban add`; it outlives a reload, not a restart.

    \b
    Example:
      appliance ban list
    """
    found = configuration.find(config, quiet=as_json)
    bans = json.loads(control.status(found.run_dir(), _ASK_S))["bans"]
    if as_json:
        output.document({"config": found.name, "bans": bans})
        return
    for ban in bans:
        output.fact(f"{ban['client']}  {ban['seconds']} s left  {ban['cause']}")
    if not bans:
        output.fact("nobody is banned")


@app.command(short_help="do not serve a client for a while")
def add(client: Client, *, seconds: Seconds = 3600, config: Config = None, as_json: Json = False) -> None:
    """Ban a client from FTP: its sessions end now, and new ones are refused.

    \b
    Example:
      appliance ban add 192.0.2.7 --for 86400
    """
    act.give(f"ban {_key(client)} {seconds}", config, as_json, _ASK_S)


@app.command(short_help="serve a client again")
def remove(client: Client, *, config: Config = None, as_json: Json = False) -> None:
    """Lift a ban.

    \b
    Example:
      appliance ban remove 192.0.2.7
    """
    act.give(f"unban {_key(client)}", config, as_json, _ASK_S)


def _key(text: str) -> str:
    """What the workers know a client by: see ftp.addresses.client_of. Raises ApplianceError for anything else."""
    host, _slash, length = text.partition("/")
    try:
        address = ipaddress.ip_address(host)
        if length:
            _judge_length(text, ipaddress.ip_network(f"{host}/{length}", strict=False))
    except ValueError:
        raise ApplianceError(f"{text or 'nothing'} is not an address ({_NETWORKS})") from None
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return str(ipaddress.IPv6Network((address, 64), strict=False))
    return str(address)


def _judge_length(text: str, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> None:
    """A ban of a network that banned its first address alone would be worse than none. Raises ApplianceError."""
    mapped = network.version == 6 and network.network_address.ipv4_mapped is not None
    longest = 32 if network.version == 4 else 128 if mapped else 64
    if network.prefixlen < longest:
        raise ApplianceError(f"{text} is more than one client, which is an address, or a /64 of IPv6 ({_NETWORKS})")
