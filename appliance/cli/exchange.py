"""`appliance probe`, `get`, `put`: our client half, for both protocols."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from appliance.cli import configuration, control, output
from appliance.cli.landing import landing
from appliance.cli.options import Authorities, BlockSize, Config, Json, Silence, Tls
from appliance.cli.progress import progress
from appliance.cli.transfer import Client, Local, LocalError, Moving, TransferError
from appliance.cli.urls import Target, UrlError, parse
from appliance.errors import ApplianceError, ExitCode

if TYPE_CHECKING:
    import ssl

Url = Annotated[
    str,
    typer.Argument(metavar="URL", help="tftp://HOST[:PORT]/NAME, ftp://HOST[:PORT]/NAME or ftps://HOST[:PORT]/NAME."),
]
ToFile = Annotated[
    str, typer.Argument(metavar="[FILE]", help="Where to put it; - is standard output. Without it: the name in URL.")
]
FromFile = Annotated[str, typer.Argument(metavar="FILE", help="What to send; - is standard input.")]


def probe(
    url: Url,
    *,
    config: Config = None,
    as_json: Json = False,
    blksize: BlockSize = None,
    timeout: Silence = 5.0,
    tls: Tls = False,
    cacert: Authorities = None,
) -> None:
    """Tell whether a file can be fetched: reachable, its size, the options agreed, the time to the first byte.

    Nothing is fetched. Without a host in URL (tftp:///NAME) the appliance of this machine is asked,
    found by its configuration. TFTP goes over IPv4.

    \b
    Examples:
      appliance probe tftp://192.0.2.1/pxelinux.0
      appliance probe --json ftp:///README
      appliance probe --tls --cacert mirror.crt ftp://mirror.example.org/
    """
    ask = _Ask(url, config, as_json, blksize, timeout, secrecy=_Secrecy(tls, cacert))
    found = ask.run(lambda: ask.client.probe(ask.target))
    ask.tell(
        {
            "reachable": True,
            "ok": True,
            "size": found.size,
            "first_byte_ms": found.first_byte_ms,
            "options": found.options,
        },
        f"{url}: reachable"
        + (f", {found.size} bytes" if found.size is not None else "")
        + (f", first byte after {found.first_byte_ms:.1f} ms" if found.first_byte_ms is not None else "")
        + _in_brackets(found.options),
    )


def get(
    url: Url,
    file: ToFile = "",
    *,
    config: Config = None,
    as_json: Json = False,
    blksize: BlockSize = None,
    timeout: Silence = 5.0,
    tls: Tls = False,
    cacert: Authorities = None,
) -> None:
    """Fetch a file by TFTP or anonymous FTP, and tell bytes, seconds, rate and the options agreed.

    FILE comes into being only when all of it has arrived. With - the file goes to standard output and
    the report to standard error. Without a host in URL the appliance of this machine is asked.
    TFTP goes over IPv4.

    \b
    Examples:
      appliance get tftp://192.0.2.1/pxelinux.0
      appliance get ftp://192.0.2.1/README -
      appliance get --blksize 512 tftp:///big.bin /dev/null
    """
    ask = _Ask(url, config, as_json, blksize, timeout, secrecy=_Secrecy(tls, cacert))
    place = _landing_place(file, ask.target)

    def fetch() -> Moving:
        with landing(place) as sink, progress(url) as moved:
            return ask.client.fetch(ask.target, Local(sink), moved)

    _report(ask, place, ask.run(fetch), to_stderr=place == "-")


def put(
    file: FromFile,
    url: Url,
    *,
    config: Config = None,
    as_json: Json = False,
    blksize: BlockSize = None,
    timeout: Silence = 5.0,
    tls: Tls = False,
    cacert: Authorities = None,
) -> None:
    """Send a file by TFTP or anonymous FTP, and tell bytes, seconds, rate and the options agreed.

    A URL that ends with / keeps the name of FILE. Without a host in URL the appliance of this machine
    is asked. TFTP goes over IPv4; where this appliance takes uploads, tftp.uploads and
    ftp.incoming say.

    \b
    Examples:
      appliance put report.pdf ftp://192.0.2.1/incoming/
      df -h | appliance put - ftp:///incoming/df.txt
    """
    ask = _Ask(url, config, as_json, blksize, timeout, secrecy=_Secrecy(tls, cacert))
    ask.target = _named(ask.target, file)

    def send() -> Moving:
        with _source(file) as source, progress(url) as moved:
            return ask.client.send(ask.target, Local(source), _size(source), moved)

    _report(ask, file, ask.run(send), to_stderr=False)


class _Ask:
    """One call of one of the three verbs: the target, the client for it, and how it is told."""

    def __init__(
        self, url: str, config: str | None, as_json: bool, blksize: int | None, timeout: float, *, secrecy: _Secrecy
    ) -> None:
        self.url, self._as_json = url, as_json
        self._config: str | None = None
        try:
            self.target = parse(url)
        except UrlError as error:
            raise typer.BadParameter(str(error), param_hint="URL") from error
        if blksize is not None and self.target.scheme != "tftp":
            raise typer.BadParameter("is an option of TFTP", param_hint="--blksize")
        trust = secrecy.trust(self.target.scheme)
        if not self.target.host:
            found = configuration.find(config, quiet=as_json)
            self._config = found.name
            self.target = _ours(self.target, found.run_dir())
        self.client = _client(self.target.scheme, blksize, timeout, trust)

    def run(self, work: Callable[[], Any]) -> Any:
        """What `work` returns. A failure is told, and ends the program with 1."""
        try:
            return work()
        except LocalError as error:
            if isinstance(error.__cause__, BrokenPipeError):  # `appliance get URL - | head`: quiet
                raise BrokenPipeError from None
            failed: Exception = error
        except TransferError as error:
            failed = error
        except OSError as error:
            failed = LocalError(f"{error.filename or 'standard output'}: {error.strerror}", reached=False)
        if self._as_json:
            reached = getattr(failed, "reached", False)
            self.tell({"reachable": reached, "ok": False, "error": str(failed)}, "")
        else:
            output.remark(f"appliance: {self.url}: {failed}")
        raise typer.Exit(ExitCode.FAILED)

    def tell(self, facts: dict[str, Any], text: str, *, to_stderr: bool = False) -> None:
        """The facts as JSON, or the text."""
        said = json.dumps({"config": self._config, "url": self.url, **facts}, indent=2) if self._as_json else text
        (output.remark if to_stderr else output.fact)(said)


@dataclass(frozen=True, slots=True)
class _Secrecy:
    """What was said about TLS."""

    asked: bool
    authorities: str | None

    def trust(self, scheme: str) -> ssl.SSLContext | None:
        """What to trust servers by; None without TLS. Raises typer.BadParameter."""
        wanted = scheme == "ftps" or (scheme == "ftp" and self.asked)
        if self.asked and scheme != "ftp":
            raise typer.BadParameter("is for ftp://; ftps:// begins with TLS", param_hint="--tls")
        if not wanted:
            if self.authorities:
                raise typer.BadParameter("is for TLS: --tls, or ftps://", param_hint="--cacert")
            return None
        from appliance.cli.ftpsclient import context

        try:
            return context(self.authorities)
        except OSError as error:
            why = error.strerror or "no certificates"
            raise typer.BadParameter(f"{self.authorities}: {why}", param_hint="--cacert") from error


def _client(scheme: str, blksize: int | None, timeout: float, trust: ssl.SSLContext | None) -> Client:
    if scheme == "tftp":
        from appliance.cli.tftpclient import BLOCK_SIZE, TftpClient

        return TftpClient(timeout, blksize or BLOCK_SIZE)
    from appliance.cli.ftpclient import FtpClient

    return FtpClient(timeout, trust)


def _ours(target: Target, run_dir: str) -> Target:
    """The same file on the appliance of this machine. Raises ApplianceError when it does not serve that protocol."""
    if target.scheme == "ftps":  # which of its listeners begins with TLS is not told, nor what its certificate names
        raise ApplianceError("ftps:// needs a host: the one that the certificate names")
    try:
        listen = json.loads(control.status(run_dir, 5.0))["services"][target.scheme]["listen"]
        host, _, port = sorted(listen, key=lambda text: "[" in text)[0].rpartition(":")  # IPv4 first, for TFTP
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise ApplianceError(f"the appliance on {run_dir} does not serve {target.scheme}") from error
    reachable = {"0.0.0.0": "127.0.0.1", "[::]": "::1"}.get(host, host.strip("[]"))
    return replace(target, host=reachable, port=int(port))


def _landing_place(file: str, target: Target) -> str:
    if file == "-":
        return file
    place = os.path.join(file, target.basename) if not file or os.path.isdir(file) else file
    if not os.path.basename(place) or (not target.basename and place != file):
        raise typer.BadParameter("the address names no file: say where to put it", param_hint="FILE")
    return place


def _named(target: Target, file: str) -> Target:
    if target.basename:
        return target
    if file == "-":
        raise typer.BadParameter("what comes from standard input needs a name in the address", param_hint="URL")
    return replace(
        target, path=target.path + os.path.basename(os.path.abspath(file)).encode("utf-8", "surrogateescape")
    )


def _source(file: str) -> Any:
    return nullcontext(sys.stdin.buffer) if file == "-" else open(file, "rb")


def _size(source: BinaryIO) -> int | None:
    found = os.fstat(source.fileno())
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def _report(ask: _Ask, file: str, moving: Moving, *, to_stderr: bool) -> None:
    ask.tell(
        {
            "reachable": True,
            "ok": True,
            "file": file,
            "bytes": moving.bytes,
            "seconds": round(moving.seconds, 6),
            "rate": round(moving.rate),
            "options": moving.options,
        },
        f"{ask.url}: {moving.bytes} bytes in {moving.seconds:.2f} s, {output.size(moving.rate)}/s"
        + _in_brackets(moving.options),
        to_stderr=to_stderr,
    )


def _in_brackets(options: dict[str, str]) -> str:
    return f" ({', '.join(f'{name} {value}' for name, value in options.items())})" if options else ""
