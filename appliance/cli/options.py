"""The options that several verbs share, worded once."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer

Config: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "-c",
        "--config",
        metavar="FILE",
        help="The configuration. Without it: /etc/appliance/appliance.yaml, else the embedded default.",
        show_default=False,
    ),
]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
Patience: TypeAlias = Annotated[
    float,
    typer.Option("--timeout", metavar="SECONDS", min=0.1, max=3600.0, help="Give up after this long without an end."),
]
Silence: TypeAlias = Annotated[
    float,
    typer.Option(
        "--timeout",
        metavar="SECONDS",
        min=0.05,
        max=3600.0,
        help="Silence after which a TFTP packet is repeated (three in all), and an FTP transfer is given up.",
    ),
]
BlockSize: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--blksize",
        metavar="BYTES",
        min=8,
        max=65464,
        help="TFTP only: block size to ask for (RFC 2348).  [default: 1428]",
        show_default=False,
    ),
]
Tls: TypeAlias = Annotated[
    bool, typer.Option("--tls", help="ftp:// only: ask for TLS (AUTH TLS), and go on with nothing less.")
]
Authorities: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--cacert",
        metavar="FILE",
        help="With TLS: trust the certificates in this PEM file instead of the authorities of this machine.",
        show_default=False,
    ),
]
