"""`appliance check`: everything that is wrong with a configuration and the world it meets, at once."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import typer

from appliance.cli import configuration, control, output
from appliance.cli.options import Config, Json
from appliance.errors import ConfigError, ExitCode, Problem

if TYPE_CHECKING:
    from appliance.settings.main import Settings


def check(*, config: Config = None, as_json: Json = False) -> None:
    """Find everything that is wrong with a configuration, without starting anything.

    Judges the text (unknown keys, wrong units, two listeners on one address ...) and the world it meets
    (ports that are taken, folders that cannot be read ...), and with boot.enabled the manifest with all its machines.
    One line for each finding:

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
    met = located(found.documents, world.judge(settings, ours=_held(settings.run_dir)))
    return [*warnings, *met, *(located(found.documents, _boot(settings)) if settings.boot.enabled else ())]


def _boot(settings: Settings) -> list[Problem]:
    from appliance.boot.judge import judge

    at, events = int(time.time()), settings.observe.events
    found = judge(settings.boot, settings.state_dir, settings.tftp.root, at, events=events)
    manifest = settings.boot.manifest
    return [one if one.file or one.key.startswith("boot.") else replace(one, file=manifest) for one in found]


def _held(run_dir: str) -> frozenset[str] | None:
    """Addresses that our own running appliance holds; None when it runs and cannot be asked."""
    try:
        services = json.loads(control.status(run_dir, 5.0))["services"]
        kinds = {"tftp": "udp", "ftp": "tcp"}
        listens = {kind: services.get(name, {}).get("listen", ()) for name, kind in kinds.items()}
        return frozenset(f"{kind} {text}" for kind, texts in listens.items() for text in texts)
    except control.NotRunning:
        return frozenset()
    except (control.NoAnswer, ValueError, KeyError, TypeError, AttributeError):
        return None
