"""`appliance tls self-signed`: a first certificate and its key, made by the openssl program."""

from __future__ import annotations

import ipaddress
import os
import re
import shutil
import subprocess
import tempfile
from typing import Annotated

import typer

from appliance.cli import output
from appliance.cli.options import Json
from appliance.errors import ApplianceError

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="Certificates for FTP over TLS.")

_LABEL = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)")
_PATIENCE_S = 60.0
_LONGEST_NAME = 253  # RFC 1035 section 2.3.4, written with dots


@app.command(name="self-signed")
def self_signed(
    *,
    name: Annotated[str, typer.Option("--name", metavar="HOST", help="The name or address that clients connect to.")],
    days: Annotated[int, typer.Option("--days", min=1, max=7300, help="How long it holds.")] = 825,
    out: Annotated[str, typer.Option("--out", metavar="DIR", help="The folder for both files.")] = ".",
    as_json: Json = False,
) -> None:
    """Make a certificate and its key (ECDSA, P-256), and tell the lines for the configuration.

    The certificate is signed by nobody but itself: clients have to be told to trust it. Files that are
    there already are never replaced. The key can be read by you only (mode 0600).

    \b
    Examples:
      appliance tls self-signed --name ftp.example.org --out /etc/appliance
      appliance tls self-signed --name 192.0.2.7 --days 90
    """
    certificate, key = make(name, days, out)
    if as_json:
        output.document({"certificate": certificate, "key": key, "name": name, "days": days})
        return
    output.fact(
        f"certificate: {certificate}\nkey: {key} (keep it secret)\n\n"
        "Write into the configuration, then type: appliance check; appliance reload\n\n"
        f"ftp:\n  tls:\n    mode: optional\n    certificate: {certificate}\n    key: {key}\n\n"
        f"A client that trusts it: curl --ssl-reqd --cacert {certificate} ftp://{_bracketed(name)}/"
    )


def make(name: str, days: int, out: str) -> tuple[str, str]:
    """Paths of a new certificate and its key in folder `out`. Raises ApplianceError or typer.BadParameter."""
    subject = _subject(name)
    folder = os.path.abspath(out)
    certificate, key = (os.path.join(folder, f"{name.replace(':', '_')}.{kind}") for kind in ("crt", "key"))
    for path in (certificate, key):
        if os.path.lexists(path):
            raise ApplianceError(f"{path} is there already (name another folder: --out DIR)")
    try:
        with tempfile.TemporaryDirectory(prefix=".tls-", dir=folder) as half:  # mode 0700
            made = [os.path.join(half, kind) for kind in ("crt", "key")]
            _openssl(subject, days, *made)
            os.chmod(made[0], 0o644)
            os.chmod(made[1], 0o600)
            os.link(made[1], key)  # unlike a rename this never replaces a file
            os.link(made[0], certificate)
    except OSError as error:
        raise ApplianceError(f"cannot write into {folder}: {error.strerror}") from error
    return certificate, key


def _openssl(subject: str, days: int, certificate: str, key: str) -> None:
    program = shutil.which("openssl")
    if program is None:
        raise ApplianceError("there is no program openssl (apt-get install openssl)")
    # without the machine's own openssl.cnf, whose extensions would come on top of ours
    argv = [program, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-sha256"]
    argv += ["-days", str(days), "-subj", "/CN=appliance", "-addext", f"subjectAltName={subject}"]
    argv += ["-config", os.devnull, "-addext", "basicConstraints=critical,CA:FALSE"]
    argv += ["-addext", "keyUsage=critical,digitalSignature", "-addext", "extendedKeyUsage=serverAuth"]
    argv += ["-out", certificate, "-keyout", key]
    try:
        done = subprocess.run(  # noqa: S603  the name was checked, the rest is fixed
            argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PATIENCE_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ApplianceError(f"openssl did not end within {_PATIENCE_S:.0f} s") from error
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["nothing"]
        raise ApplianceError(f"openssl failed; its last words: {ascii(said[-1])[1:-1]}")


def _subject(name: str) -> str:
    """What a client compares with the name it was given (RFC 6125): DNS or IP, checked, since it goes to a program."""
    try:
        return f"IP:{ipaddress.ip_address(name)}"
    except ValueError:
        pass
    if len(name) > _LONGEST_NAME or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise typer.BadParameter(f"{name!r} is neither a host name nor an address", param_hint="--name")
    return f"DNS:{name}"


def _bracketed(name: str) -> str:
    return f"[{name}]" if ":" in name else name
