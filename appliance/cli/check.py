"""`appliance check`: everything that is wrong with a configuration and the world it meets, at once."""

from __future__ import annotations

import socket

import typer

from appliance.cli import configuration, control, output
from appliance.cli.options import Config, Json
from appliance.errors import ConfigError, ExitCode, Problem


def check(*, config: Config = None, as_json: Json = False) -> None:
    """Find everything that is wrong with a configuration, without starting anything.

    Judges the text (unknown keys, wrong units, two listeners on one address ...) and the world it meets
    (ports that are taken, folders that cannot be read ...). One line for each finding:

    \b
      file:line:column: key: what is wrong (what mends it)

    Warnings leave the exit code at 0; an error makes it 2.

    \b
    Examples:
      appliance check
      appliance check -c lab.yaml --json
    """
    try:
        found = configuration.find(config, quiet=as_json)
        name, problems = found.name, _judge(found)
    except ConfigError as error:
        name = config or error.problems[0].file
        problems = [*error.problems]
    wrong = any(problem.severity == "error" for problem in problems)
    if as_json:
        output.document({"config": name, "ok": not wrong, "problems": output.problems(problems)})
    else:
        for problem in problems:
            output.fact(str(problem))
        if not wrong:
            output.fact(f"ok: {name}")
    raise typer.Exit(ExitCode.USAGE if wrong else ExitCode.DONE)


def _judge(found: configuration.Found) -> list[Problem]:
    from appliance import world
    from appliance.settings.load import located

    settings, warnings = found.load()
    # Our own supervisor holds the ports then, and nobody can tell it from a stranger without root.
    return [*warnings, *located(found.documents, world.judge(settings, running=_runs(settings.run_dir)))]


def _runs(run_dir: str) -> bool:
    try:
        control.connect(run_dir, "status.sock", socket.SOCK_STREAM, 5.0).close()
    except control.NotRunning:
        return False
    except control.NoAnswer:
        return True
    return True
