"""`appliance board`: what the boot board needs to be set up."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from appliance.cli import output

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="The web page that shows machines while they boot.")
_SHORTEST, _LONGEST = 12, 256


@app.callback()
def _about() -> None:
    """The web page that shows machines while they boot: observe.board_listen in the configuration."""


@app.command()
def password(
    *,
    stdin: Annotated[bool, typer.Option("--stdin", help="Read it from standard input, without a question.")] = False,
) -> None:
    """Ask for a password, and print what stands for it in the configuration (observe.board.password).

    What is printed is a scrypt hash: from it nobody learns the password, but guesses can be tried,
    so the file belongs to readers you trust. At least 12 characters.

    \b
    Examples:
      appliance board password
      pwgen -s 20 1 | tee secret.txt | appliance board password --stdin
    """
    from appliance.board import guard

    if stdin:
        secret = sys.stdin.readline(_LONGEST * 4).rstrip("\r\n")
    else:
        secret = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    if len(secret) < _SHORTEST or len(secret.encode()) > _LONGEST:
        raise typer.BadParameter(f"a password has at least {_SHORTEST} characters and at most {_LONGEST} bytes")
    output.fact(guard.store(secret, os.urandom(16)))
