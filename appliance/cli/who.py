"""`appliance who`: who is on, with what, how far, how fast."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Annotated, Any, TypeAlias

import typer

from appliance.cli import configuration, control, output
from appliance.cli.options import Config, Json
from appliance.errors import ApplianceError

_ASK_S = 5.0
_HEADS = ("client", "what", "file", "done", "moved", "rate", "for", "options", "again")

Client: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--client", metavar="ADDRESS", help="Only this client, or the clients of this network.", show_default=False
    ),
]


Csv: TypeAlias = Annotated[
    bool, typer.Option("--csv", help="Comma-separated values with a head, one line each, for spreadsheets.")
]
_COLUMNS = (
    "service", "worker", "number", "client", "port", "mac", "verb", "file", "path", "layer", "release", "note", "bytes",
    "size", "percent", "seconds", "rate", "blksize", "windowsize", "retransmits", "silent_s",
)  # fmt: skip


def who(*, config: Config = None, as_json: Json = False, as_csv: Csv = False, client: Client = None) -> None:
    """Show transfers under way that have lasted a while, and FTP sessions: client, file, progress, rate, agreed
    options, blocks that were sent again.

    Every field of --json is explained in docs/STATUS.md; what is over is in `appliance log`.

    \b
    Examples:
      appliance who
      appliance who --client 192.0.2.0/24 --json
    """
    wanted = matcher(client)
    found = configuration.find(config, quiet=as_json or as_csv)
    told = control.who(found.run_dir(), _ASK_S)
    live = [one for one in told["live"] if wanted(one["client"])]
    if as_json:
        output.document({**told, "config": found.name, "live": live})
        return
    if as_csv:
        output.fact(output.csv(_COLUMNS))
        for one in live:
            output.fact(output.csv(one.get(name) for name in _COLUMNS))
        return
    for line in lines(live):
        output.fact(line)
    if not live:
        output.fact("nobody is on with anything that lasts")


def matcher(client: str | None) -> Callable[[str], bool]:
    """Whether a client's address is meant by what was typed. Raises ApplianceError for what is no address."""
    if client is None:
        return lambda _address: True
    try:
        network = ipaddress.ip_network(client, strict=False)
    except ValueError:
        raise ApplianceError(f"{client} is no address and no network (write 192.0.2.7 or 192.0.2.0/24)") from None

    def wanted(address: str) -> bool:
        try:
            return ipaddress.ip_address(address.partition("%")[0]) in network
        except ValueError:
            return False

    return wanted


def lines(live: list[dict[str, Any]]) -> list[str]:
    """Aligned lines with a head."""
    if not live:
        return []
    table = [_HEADS, *map(cells, live)]
    widths = [max(len(row[column]) for row in table) for column in range(len(_HEADS))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]


def cells(one: dict[str, Any]) -> tuple[str, ...]:
    """What a line shows of one transfer or session."""
    client = f"[{one['client']}]" if ":" in one["client"] else one["client"]
    options = f"{one['blksize']}x{one['windowsize']}" if one["blksize"] else one["note"] or "-"
    return (
        f"{client}:{one['port']}",
        f"{one['service']} {one['verb']}".rstrip(),
        one["file"] or "-",
        f"{one['percent']}%" if one["percent"] is not None else "-",
        output.size(one["bytes"]),
        f"{output.size(one['rate'])}/s" if one["verb"] else "-",
        span(one["seconds"]),
        options,
        str(one["retransmits"]) if one["retransmits"] else "-",
    )


def span(seconds: float) -> str:
    """A time for a person: 7s, 3m20s, 2h05m."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    return f"{whole // 60}m{whole % 60:02}s" if whole < 3600 else f"{whole // 3600}h{whole % 3600 // 60:02}m"
