"""`appliance kick`: end transfers and sessions, one or all of a client."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from appliance.cli import configuration, control, output
from appliance.cli.options import Config, Json
from appliance.cli.who import cells, matcher
from appliance.errors import ApplianceError, ExitCode

_ASK_S = 5.0
_GONE_S = 5.0  # a worker that was told ends it within this time
_PAUSE_S = 0.1

Whom = Annotated[
    str,
    typer.Argument(metavar="WHOM", help="An address, a network, or service.worker:number as `who --json` shows them."),
]


def kick(whom: Whom, *, config: Config = None, as_json: Json = False) -> None:
    """End what a client has under way: TFTP transfers (with an ERROR) and FTP sessions (with 421).

    It may come again at once; `appliance ban add` keeps an FTP client away. Exit code 1: nobody was on.

    \b
    Examples:
      appliance kick 192.0.2.7
      appliance kick tftp.0:68719
    """
    found = configuration.find(config, quiet=as_json)
    run_dir = found.run_dir()
    meant = chosen(control.who(run_dir, _ASK_S)["live"], whom)
    failed = [answer for one in meant if (answer := end(run_dir, one))]
    left = _wait(run_dir, meant)
    if as_json:
        output.document({"config": found.name, "kicked": [one for one in meant if one not in left], "left": left})
    else:
        for one in meant:
            output.fact(f"{'still there' if one in left else 'ended'}: {' '.join(cells(one)[:3])}")
    if not meant:
        raise ApplianceError(f"nobody is on as {whom} (appliance who)")
    if failed:
        raise ApplianceError(failed[0])
    if left:
        raise typer.Exit(ExitCode.FAILED)


def chosen(live: list[dict[str, Any]], whom: str) -> list[dict[str, Any]]:
    """Who is meant by what was typed. Raises ApplianceError for what is neither."""
    if "." in whom and whom.partition(".")[0] in ("tftp", "ftp"):
        return [one for one in live if name(one) == whom]
    wanted = matcher(whom)
    return [one for one in live if wanted(one["client"])]


def name(one: dict[str, Any]) -> str:
    """What one transfer or session is called: service.worker:number."""
    return f"{one['service']}.{one['worker']}:{one['number']}"


def end(run_dir: str, one: dict[str, Any]) -> str:
    """Have it ended; why that was refused, or "". Raises NotRunning or NoAnswer."""
    worker, _colon, number = name(one).partition(":")
    answer = list(control.order(run_dir, f"kick {worker} {number}", _ASK_S))
    return "" if answer[-1] == "ok" else answer[0]


def _wait(run_dir: str, meant: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Who is still there in the end."""
    deadline = time.monotonic() + _GONE_S
    while meant:
        there = {name(one) for one in control.who(run_dir, _ASK_S)["live"]}
        left = [one for one in meant if name(one) in there]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(_PAUSE_S)
    return []
