"""`appliance status`: what runs, how confined, and what is wrong. Also the way to wait until everything serves."""

from __future__ import annotations

import json
import sys
import time
from typing import Annotated, Any

import typer

from appliance.cli import configuration, control, output
from appliance.cli.options import Config, Json
from appliance.errors import ExitCode

_ASK_S = 5.0
_PAUSE_S = 0.05  # between two questions: nothing announces to a stranger that a socket came into being

Wait = Annotated[
    float,
    typer.Option("--wait", metavar="SECONDS", min=0.0, help="Wait so long, at most, until everything serves."),
]


def status(*, config: Config = None, as_json: Json = False, wait: Wait = 0.0) -> None:
    """Tell what runs: services, addresses, workers, confinement, problems.

    The exit code is 0 when every listener serves, else 1: usable as a health check, and with --wait as
    the way to wait for a start. Every field of --json is explained in docs/STATUS.md.

    \b
    Examples:
      appliance status
      appliance status --wait 10 && echo serving
      appliance status --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["ready"])'
    """
    found = configuration.find(config, quiet=as_json)
    run_dir = found.run_dir()
    try:
        text = _await_ready(run_dir, wait)
        facts = _parse(text, run_dir)
    except (control.NotRunning, control.NoAnswer) as error:
        _absent(found.name, str(error), as_json)
        raise typer.Exit(ExitCode.FAILED) from None
    if as_json:
        output.fact(text.decode().rstrip("\n"))  # as it came: what this version does not know goes through, too
    else:
        _show(facts)
    raise typer.Exit(ExitCode.DONE if facts["ready"] else ExitCode.FAILED)


def _await_ready(run_dir: str, wait: float) -> bytes:
    """The last answer within `wait` seconds, the first that is ready. Raises NotRunning or NoAnswer."""
    deadline = time.monotonic() + wait
    while True:
        left = deadline - time.monotonic()
        try:
            text = control.status(run_dir, max(left, _ASK_S))
            if left <= 0 or _parse(text, run_dir)["ready"]:
                return text
        except (control.NotRunning, control.NoAnswer):
            if left <= 0:
                raise
        time.sleep(_PAUSE_S)


def _parse(text: bytes, run_dir: str) -> dict[str, Any]:
    try:
        facts = json.loads(text)
        facts["ready"], facts["services"], facts["problems"]
    except (ValueError, KeyError, TypeError) as error:
        raise control.NoAnswer(f"{run_dir}/status.sock answers something that is no status") from error
    return dict(facts)


def _absent(name: str, why: str, as_json: bool) -> None:
    if not as_json:
        output.fact(why)
        return
    problem = {"severity": "error", "what": why, "remedy": "appliance run"}
    output.document({"config": name, "ready": False, "state": "absent", "services": {}, "problems": [problem]})


def _show(facts: dict[str, Any]) -> None:
    from appliance.cli import board

    if sys.stdout.isatty():
        board.draw(facts)
    else:
        output.fact("\n".join(board.lines(facts)))
