"""`appliance reload`, `drain`, `stop`: one word to the supervisor, its answer to the administrator."""

from __future__ import annotations

import typer

from appliance.cli import configuration, control, output
from appliance.cli.options import Config, Json, Patience
from appliance.errors import ExitCode

_CODES = {"ok": ExitCode.DONE, "failed": ExitCode.FAILED, "config": ExitCode.USAGE}


def reload(*, config: Config = None, as_json: Json = False, timeout: Patience = 60.0) -> None:
    """Make a running appliance read its configuration again.

    Only services whose settings changed get new workers; running transfers finish on the old ones.
    A configuration with an error changes nothing: the errors are told, and the exit code is 2.
    SIGHUP to the supervisor does the same.

    \b
    Example:
      appliance check && appliance reload
    """
    give("reload", config, as_json, timeout)


def drain(*, config: Config = None, as_json: Json = False, timeout: Patience = 60.0) -> None:
    """End a running appliance gently.

    New clients are refused from now on; running transfers have `drain_timeout` (30 s by default) to finish.
    The command returns as soon as that has begun. SIGTERM to the supervisor does the same.

    \b
    Example:
      appliance drain
    """
    give("drain", config, as_json, timeout)


def stop(*, config: Config = None, as_json: Json = False, timeout: Patience = 60.0) -> None:
    """End a running appliance at once; running transfers are cut.

    \b
    Example:
      appliance stop
    """
    give("stop", config, as_json, timeout)


def give(word: str, config: str | None, as_json: bool, timeout: float) -> None:
    """Give the supervisor a word, print what it says, and raise typer.Exit with how it ended."""
    found = configuration.find(config, quiet=as_json)
    lines = []
    for line in control.order(found.run_dir(), word, timeout):
        lines.append(line)
        if not as_json and line not in _CODES:
            output.fact(line)
    if as_json:
        output.document({"config": found.name, "outcome": lines[-1], "lines": lines[:-1]})
    raise typer.Exit(_CODES[lines[-1]])
