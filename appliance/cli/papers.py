"""The command line looked at as a value, and the files that are made from it: manual pages and completion."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import typer

from appliance.install import completion, manual
from appliance.install.commands import Command, Parameter

_MAN = "/usr/share/man"


def commands(app: typer.Typer) -> Command:
    """Every verb below the program."""
    return _command("appliance", typer.main.get_command(app))


def generated(app: typer.Typer) -> dict[str, bytes]:
    """Path in a target -> content."""
    whole = commands(app)
    return {
        f"{_MAN}/man8/appliance.8.gz": _packed(manual.program(whole)),
        f"{_MAN}/man5/appliance.yaml.5.gz": _packed(manual.configuration()),
        "/usr/share/bash-completion/completions/appliance": completion.bash(whole).encode(),
        "/usr/share/zsh/vendor-completions/_appliance": completion.zsh(whole).encode(),
        "/usr/share/fish/vendor_completions.d/appliance.fish": completion.fish(whole).encode(),
    }


def write(app: typer.Typer, folder: str) -> None:
    """Put the files into one folder, the manual pages readable by `man -l`."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    for path, content in generated(app).items():
        Path(folder, Path(path).name).write_bytes(content)


def _packed(text: str) -> bytes:
    return gzip.compress(text.encode(), 9, mtime=0)


def _command(name: str, found: Any) -> Command:
    below = tuple(_command(word, one) for word, one in getattr(found, "commands", {}).items())
    parameters = tuple(_parameter(one) for one in found.params if not getattr(one, "hidden", False))
    return Command(name, found.short_help or found.help or "", found.help or "", parameters, below)


def _parameter(found: Any) -> Parameter:
    names = tuple(found.opts) if found.param_type_name == "option" else ()
    switch = bool(getattr(found, "is_flag", False)) or getattr(found, "count", False)
    value = "" if names and switch else (found.metavar or found.name.upper())
    return Parameter(names, value, " ".join((found.help or "").split()), bool(found.required))
