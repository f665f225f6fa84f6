"""The `appliance` program: puts the verbs together, and turns how they end into an exit code.

Of a command line only the verb that it names is imported and made ready: with all of them that takes longer than what
many of them do. What a verb needs it imports when it runs: `--help` is quick.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from appliance.cli.output import remark
from appliance.errors import ApplianceError, ConfigError, ExitCode

if TYPE_CHECKING:
    import typer

_VERBS = (  # module, function, what it does
    ("run", "run", "serve in the foreground until SIGTERM or Ctrl-C"),
    ("check", "check", "find everything that is wrong with a configuration"),
    ("doctor", "doctor", "is the machine well: configuration, network side, firewall, clock"),
    ("status", "status", "what runs, how confined, what is wrong; --wait for a start"),
    ("who", "who", "who is on with what, how far, how fast"),
    ("top", "top", "the same, live: sort, filter, kick"),
    ("kick", "kick", "end transfers or sessions"),
    ("log", "log", "what happened: transfers, refusals, uploads, restarts"),
    ("act", "reload", "make a running appliance read its configuration again"),
    ("act", "drain", "end it gently: running transfers finish"),
    ("act", "stop", "end it at once"),
    ("exchange", "probe", "can a file be fetched, by TFTP or FTP"),
    ("exchange", "get", "fetch a file by TFTP or FTP"),
    ("exchange", "put", "send a file by TFTP or FTP"),
    ("install", "install", "lay units, accounts and folders over a system without dpkg"),
    ("seed", "seed", "what an image is told at its first boot: is it right"),
    ("backup", "backup", "machines, releases and configuration in one file"),
    ("backup", "restore", "take in what backup wrote, and serve it"),
    ("version", "version", "the version of this program"),
)
_GROUPS = (  # module, name, what they are for
    ("config", "config", "print the schema or the effective configuration"),
    ("boot", "boot", "boot files and machines: fetch, publish, roll back, host, explain"),
    ("ban", "ban", "clients that FTP does not serve for a while"),
    ("bootboard", "board", "set up the web page that shows machines while they boot"),
    ("migrate", "import", "take over from tftpd-hpa, vsftpd or dnsmasq"),
    ("firewall", "firewall", "rules for exactly what is served: nft, systemd"),
    ("incoming", "incoming", "uploads by FTP: list, show, release, reject, purge"),
    ("tftp", "tftp", "explain which file a name means to a client, and why"),
    ("tls", "tls", "make a first certificate for FTP over TLS"),
)


def program(only: str | None = None) -> typer.Typer:
    """The whole program, or as much of it as a command line needs that begins with the word `only`."""
    import typer

    made = typer.Typer(
        name="appliance",
        rich_markup_mode=None,
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
        epilog="Every command tells more: appliance COMMAND --help. "
        "Exit codes: 0 done, 1 failed, 2 the configuration or the command line is wrong.",
    )
    made.callback()(_about)
    known = only in {name for _, name, _ in (*_VERBS, *_GROUPS)}
    for module, name, what in _VERBS:
        if not known or name == only:
            made.command(short_help=what)(getattr(_room(module), name))
    for module, name, what in _GROUPS:
        if not known or name == only:
            made.add_typer(_room(module).app, name=name, short_help=what)
    return made


def _room(module: str) -> Any:
    return importlib.import_module(f"appliance.cli.{module}")


def _about() -> None:
    """Serve files by TFTP and anonymous FTP, from confined processes under one supervisor.

    Start with: appliance run
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line (`arguments` without the program's name; those of the process when None); the exit code."""
    _fill_standard_descriptors()
    words = sys.argv[1:] if arguments is None else arguments
    if words[:1] == ["run"]:  # first of all: a reload that is asked for while it starts is no reason to end
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        code = _verb(words)
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), 1)  # what is left would fail again at exit, loudly
        if not isinstance(error, BrokenPipeError):  # its reader has left, which is its right: `... status | head -1`
            remark(f"appliance: {error}")
        return ExitCode.FAILED
    return code


def _fill_standard_descriptors() -> None:
    """What is written to one that we were started without (`2>&-`) goes nowhere: not into whatever is opened next."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number is free: this one
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115


def _verb(words: Sequence[str]) -> int:
    import typer.main  # slow, and nothing before needs it

    try:
        typer.main.get_command(program(words[0] if words else None)).main(words, prog_name="appliance")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else ExitCode.DONE
    except KeyboardInterrupt:
        return 130
    except ConfigError as error:
        remark(str(error))
        return ExitCode.USAGE
    except ApplianceError as error:
        remark(f"appliance: {error}")
        return ExitCode.FAILED
    return ExitCode.DONE
