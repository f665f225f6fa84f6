"""`appliance firewall nft` and `appliance firewall systemd`: rules that follow the configuration."""

from __future__ import annotations

from typing import Annotated

import typer

from appliance.cli import configuration, output
from appliance.cli.options import Config

app = typer.Typer(
    rich_markup_mode=None, no_args_is_help=True, help="Print firewall rules for exactly what the configuration serves."
)


@app.command()
def nft(
    *,
    config: Config = None,
    table: Annotated[bool, typer.Option("--table", help="A whole firewall: what is not named is dropped.")] = False,
    also: Annotated[
        list[int] | None,
        typer.Option(
            "--also", metavar="PORT", min=1, max=65535, help="With --table: this TCP port too, like 22; several times."
        ),
    ] = None,
) -> None:
    """Print nftables rules that let in what is served: its ports, addresses and networks.

    Without --table, lines to be included in the input chain of a firewall that you have. No helper for
    TFTP or FTP is needed. Nothing is changed.

    \b
    Examples:
      appliance firewall nft > /etc/nftables.d/appliance.rules     # include "..." in your input chain
      appliance firewall nft --table --also 22 | nft -f -          # a machine that does nothing else
    """
    if also and not table:
        raise typer.BadParameter("goes with --table", param_hint="--also")
    from appliance.install import doors

    found = configuration.find(config, quiet=False)
    settings, _warnings = found.load()
    lines = doors.rules(settings)
    output.fact(f"# What {found.name} serves. After a change: the same command again.")
    output.fact(doors.table(lines, tuple(also or ())).rstrip("\n") if table else "\n".join(lines))


@app.command()
def systemd(*, config: Config = None) -> None:
    """Print a drop-in by which systemd lets only the networks in `allow` reach any process of the appliance.

    \b
    Example:
      appliance firewall systemd > /etc/systemd/system/appliance.service.d/networks.conf
      systemctl daemon-reload && systemctl restart appliance
    """
    from appliance.install import doors

    found = configuration.find(config, quiet=False)
    settings, _warnings = found.load()
    output.fact(f"# The networks that {found.name} serves.")
    output.fact(doors.drop_in(settings).rstrip("\n"))
