"""`appliance config schema` and `appliance config show`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from appliance.cli import configuration, output
from appliance.cli.options import Config, Json

if TYPE_CHECKING:
    from appliance.settings.main import Settings

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="Print the schema or the effective configuration.")


@app.command()
def schema() -> None:
    """Print the JSON Schema of the configuration, for editors and generators.

    \b
    Example:
      appliance config schema > appliance.schema.json
    """
    from appliance.settings import describe

    output.document(describe.schema())


@app.command()
def show(
    *,
    config: Config = None,
    defaults: Annotated[bool, typer.Option("--defaults", help="The shipped defaults instead.")] = False,
    commented: Annotated[
        bool, typer.Option("--commented", help="The shipped defaults, with every key explained.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Print the configuration that is in effect: every key, those left out with their default.

    The text is itself a configuration. To begin one of your own:

    \b
      appliance config show --commented > appliance.yaml     # the defaults, explained
      appliance config show > appliance.yaml                 # what `appliance run` would use now
    """
    if commented and (as_json or defaults or config):
        raise typer.BadParameter("stands alone: it explains the defaults", param_hint="--commented")
    if defaults and config:
        raise typer.BadParameter("the defaults need no file", param_hint="--defaults")
    from appliance.settings import describe, plain
    from appliance.settings.main import Settings

    if commented:
        output.fact(describe.commented(Settings()).rstrip("\n"))
        raise typer.Exit
    name, settings = ("defaults", Settings()) if defaults else _effective(config, as_json)
    if as_json:
        output.document({"config": name, "settings": plain.encode(settings)})
    else:
        output.fact(describe.dump(settings).rstrip("\n"))


def _effective(path: str | None, quiet: bool) -> tuple[str, Settings]:
    found = configuration.find(path, quiet=quiet)
    settings, warnings = found.load()
    for warning in warnings:
        output.remark(str(warning))
    return found.name, settings
