"""`appliance version`."""

from __future__ import annotations

import json

import typer

from appliance import __version__
from appliance.cli import configuration, control, output
from appliance.cli.options import Config, Json


def version(*, config: Config = None, as_json: Json = False) -> None:
    """Print the version of this program.

    With -c FILE it also tells which version the supervisor of that configuration runs: they differ
    between an upgrade and the restart.

    \b
    Examples:
      appliance version
      appliance version --json -c /etc/appliance/appliance.yaml
    """
    if config is None:
        output.document({"version": __version__}) if as_json else output.fact(f"appliance {__version__}")
        raise typer.Exit
    found = configuration.find(config, quiet=as_json)
    running = _running(found.run_dir())
    if as_json:
        output.document({"config": found.name, "version": __version__, "running": running})
    else:
        output.fact(f"appliance {__version__} ({running or 'none'} is running)")


def _running(run_dir: str) -> str | None:
    try:
        return str(json.loads(control.status(run_dir, 5.0))["version"])
    except control.NotRunning:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise control.NoAnswer(f"{run_dir}/status.sock answers something unknown") from error
