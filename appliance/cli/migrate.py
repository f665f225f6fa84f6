"""`appliance import tftpd-hpa|vsftpd|dnsmasq`: another server's configuration in our words, and what is not in it."""

from __future__ import annotations

import glob
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from appliance.cli import output
from appliance.cli.options import Json
from appliance.errors import ApplianceError, ConfigError

if TYPE_CHECKING:
    from appliance.migrate.common import Imported

app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Read another server's configuration, and write ours: its folders stay where they are.",
)
Out = Annotated[
    str | None,
    typer.Option(
        "-o", "--out", metavar="FILE", help="Write it there, a file that does not exist yet.", show_default=False
    ),
]
_MOST_ROUNDS = 50


def _file(default: str) -> Any:
    return typer.Argument(metavar="[FILE]", help=f"The old configuration.  [default: {default}]", show_default=False)


@app.command("tftpd-hpa")
def tftpd_hpa(
    file: Annotated[str, _file("/etc/default/tftpd-hpa")] = "/etc/default/tftpd-hpa",
    *,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Take over from tftpd-hpa: folder, addresses, ports, block size, refused options, map file.

    Everything that was not carried over is told with its line and the reason, and stands at the end of
    the configuration as comments. Nothing else is changed.

    \b
    Example:
      appliance import tftpd-hpa -o /etc/appliance/conf.d/tftp.yaml && appliance check
      systemctl disable --now tftpd-hpa && systemctl restart appliance
    """
    from appliance.migrate import tftpdhpa

    _give(tftpdhpa.convert(file, _read(file), _maybe), file, out, as_json)


@app.command()
def vsftpd(
    file: Annotated[str, _file("/etc/vsftpd.conf")] = "/etc/vsftpd.conf", *, out: Out = None, as_json: Json = False
) -> None:
    """Take over the anonymous side of vsftpd: folder, addresses, passive ports, limits, uploads, TLS, log.

    Accounts of the machine cannot log in to this server, which is told where the old one let them.

    \b
    Example:
      appliance import vsftpd -o /etc/appliance/conf.d/ftp.yaml && appliance check
      systemctl disable --now vsftpd && systemctl restart appliance
    """
    from appliance.migrate import vsftpd as theirs

    _give(theirs.convert(file, _read(file)), file, out, as_json)


@app.command()
def dnsmasq(
    file: Annotated[str, _file("/etc/dnsmasq.conf")] = "/etc/dnsmasq.conf", *, out: Out = None, as_json: Json = False
) -> None:
    """Take over TFTP from dnsmasq; DHCP and DNS stay with it. The files that it includes are read too.

    \b
    Example:
      appliance import dnsmasq -o /etc/appliance/conf.d/tftp.yaml && appliance check
    """
    from appliance.migrate import dnsmasq as theirs

    main = _read(file)
    files = [(file, main), *((path, text) for path in _included(main) if (text := _maybe(path)) is not None)]
    _give(theirs.convert(files), file, out, as_json)


def _included(text: str) -> list[str]:
    found: list[str] = []
    for line in text.splitlines():
        key, _, value = line.strip().partition("=")
        if key.strip() == "conf-file":
            found.append(value.strip())
        elif key.strip() == "conf-dir":
            folder, *patterns = value.strip().split(",")
            wanted = [pattern.removeprefix("*") for pattern in patterns]
            for path in sorted(glob.glob(f"{glob.escape(folder)}/*")):
                ends = [end for end in wanted if path.endswith(end)]
                if os.path.isfile(path) and not path.endswith("~") and (ends or not wanted):
                    found.append(path)
    return found


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ApplianceError(f"{path}: {error.strerror} (name the old configuration)") from error


def _maybe(path: str) -> str | None:
    try:
        return _read(path)
    except ApplianceError:
        return None


def _give(made: Imported, source: str, out: str | None, as_json: bool) -> None:
    from appliance.migrate import write

    _fit(made, source)
    text = write.text(made, source)
    if out is not None:
        try:
            with open(out, "x", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise ApplianceError(f"{out}: {error.strerror} (nothing was written)") from error
    if as_json:
        output.document({"source": source, "settings": made.values, "left": [asdict(left) for left in made.left]})
    elif out is None:
        output.fact(text.rstrip("\n"))
    for left in made.left if out is not None and not as_json else ():
        output.remark(f"not carried over: {left}")


def _fit(made: Imported, source: str) -> None:
    """Take out what our schema refuses, and tell it, so that what is written can always be used."""
    from appliance.migrate import write
    from appliance.migrate.common import Left
    from appliance.settings import load

    for _ in range(_MOST_ROUNDS):
        try:
            load.load([(source, write.text(made, source).encode())])
        except ConfigError as error:
            problem = error.problems[0]
            if not write.drop(made.values, problem.key):
                raise
            made.left.append(Left(source, 0, problem.key, f"{problem.what} ({problem.remedy})"))
        else:
            return
