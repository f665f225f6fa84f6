"""The `appliance` program: puts the verbs together, and turns how they end into an exit code.

A verb's module is imported at once and costs nothing; what the verb needs it imports when it runs: `--help` is quick.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import typer

from appliance.cli import (
    act,
    backup,
    ban,
    boot,
    bootboard,
    check,
    config,
    doctor,
    exchange,
    firewall,
    incoming,
    install,
    kick,
    log,
    migrate,
    run,
    seed,
    status,
    tftp,
    tls,
    top,
    version,
    who,
)
from appliance.cli.output import remark
from appliance.errors import ApplianceError, ConfigError, ExitCode

app = typer.Typer(
    name="appliance",
    rich_markup_mode=None,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Every command tells more: appliance COMMAND --help. "
    "Exit codes: 0 done, 1 failed, 2 the configuration or the command line is wrong.",
)
_VERBS = (
    (run.run, "serve in the foreground until SIGTERM or Ctrl-C"),
    (check.check, "find everything that is wrong with a configuration"),
    (doctor.doctor, "is the machine well: configuration, network side, firewall, clock"),
    (status.status, "what runs, how confined, what is wrong; --wait for a start"),
    (who.who, "who is on with what, how far, how fast"),
    (top.top, "the same, live: sort, filter, kick"),
    (kick.kick, "end transfers or sessions"),
    (log.log, "what happened: transfers, refusals, uploads, restarts"),
    (act.reload, "make a running appliance read its configuration again"),
    (act.drain, "end it gently: running transfers finish"),
    (act.stop, "end it at once"),
    (exchange.probe, "can a file be fetched, by TFTP or FTP"),
    (exchange.get, "fetch a file by TFTP or FTP"),
    (exchange.put, "send a file by TFTP or FTP"),
    (install.install, "lay units, accounts and folders over a system without dpkg"),
    (seed.seed, "what an image is told at its first boot: is it right"),
    (backup.backup, "machines, releases and configuration in one file"),
    (backup.restore, "take in what backup wrote, and serve it"),
    (version.version, "the version of this program"),
)
for verb, what in _VERBS:
    app.command(short_help=what)(verb)
app.add_typer(config.app, name="config", short_help="print the schema or the effective configuration")
app.add_typer(boot.app, name="boot", short_help="boot files and machines: fetch, publish, roll back, host, explain")
app.add_typer(ban.app, name="ban", short_help="clients that FTP does not serve for a while")
app.add_typer(bootboard.app, name="board", short_help="set up the web page that shows machines while they boot")
app.add_typer(migrate.app, name="import", short_help="take over from tftpd-hpa, vsftpd or dnsmasq")
app.add_typer(firewall.app, name="firewall", short_help="rules for exactly what is served: nft, systemd")
app.add_typer(incoming.app, name="incoming", short_help="uploads by FTP: list, show, release, reject, purge")
app.add_typer(tftp.app, name="tftp", short_help="explain which file a name means to a client, and why")
app.add_typer(tls.app, name="tls", short_help="make a first certificate for FTP over TLS")


@app.callback()
def _about() -> None:
    """Serve files by TFTP and anonymous FTP, from confined processes under one supervisor.

    Start with: appliance run
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line (`arguments` without the program's name; those of the process when None); the exit code."""
    try:
        code = _verb(arguments)
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), 1)  # what is left would fail again at exit, loudly
        if not isinstance(error, BrokenPipeError):  # its reader has left, which is its right: `... status | head -1`
            remark(f"appliance: {error}")
        return ExitCode.FAILED
    return code


def _verb(arguments: Sequence[str] | None) -> int:
    try:
        typer.main.get_command(app).main(arguments, prog_name="appliance")
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
