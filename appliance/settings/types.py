"""The kinds of value a setting can have: units, networks, addresses. No I/O, no third-party validator at run time.

The markers say how text from the configuration becomes a value (`settings.load` reads them); a worker only ever sees
the finished value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Le


@dataclass(frozen=True, slots=True)
class Help:
    """The sentence that documents a key in `config/appliance.yaml`, the man page and the JSON Schema."""

    text: str


@dataclass(frozen=True, slots=True)
class Unit:
    """A number written with a unit: ``size`` in bytes (64KiB, 1GB) or ``duration`` in seconds (250ms, 5m, 30d)."""

    kind: Literal["size", "duration"]
    minimum: float = 0
    maximum: float = float("inf")
    zero: bool = False  # 0 is allowed besides the range, and means "no limit"


@dataclass(frozen=True, slots=True)
class Form:
    """Text of a fixed form, checked when it is read; `settings.forms` has one check for each kind."""

    kind: Literal[
        "endpoint",
        "network",
        "port-range",
        "path",
        "relative-path",
        "user",
        "pattern",
        "name",
        "ipv4",
        "public-address",
        "host-name",
        "mac",
        "line",
        "regex",
        "replacement",
        "interface",
        "address-range",
        "loader-path",
        "stored-password",
    ]


Endpoint = Annotated[str, Form("endpoint")]  # "0.0.0.0:69", "[::]:69"; port 0 picks a free one
Network = Annotated[str, Form("network")]  # "192.0.2.0/24", "2001:db8::/32", a bare address
PortRange = Annotated[str, Form("port-range")]  # "61000-65535"
Path = Annotated[str, Form("path")]  # absolute
RelativePath = Annotated[str, Form("relative-path")]  # inside the service root, no ".."
User = Annotated[str, Form("user")]
Pattern = Annotated[str, Form("pattern")]  # shell pattern of a name
Name = Annotated[str, Form("name")]  # of a file, without a folder
Ipv4 = Annotated[str, Form("ipv4")]  # "192.0.2.7"
PublicAddress = Annotated[str, Form("public-address")]  # "192.0.2.7", "ftp.example.org"
HostName = Annotated[str, Form("host-name")]  # "ftp.example.org", lower case
Mac = Annotated[str, Form("mac")]  # "52:54:00:12:34:56"
Regex = Annotated[str, Form("regex")]  # searched in a name, with a bound on its cost (settings.patterns)
Replacement = Annotated[str, Form("replacement")]  # what takes the place of what a Regex found
Line = Annotated[str, Form("line")]  # printable, so that it cannot become two lines of a protocol

Interface = Annotated[str, Form("interface")]  # "eth1", "br0.100"
AddressRange = Annotated[str, Form("address-range")]  # "192.0.2.50-192.0.2.99"
LoaderPath = Annotated[str, Form("loader-path")]  # "snponly.efi": what a firmware is told to load

Port = Annotated[int, Ge(0), Le(65535)]
Workers = Literal["auto"] | Annotated[int, Ge(1), Le(64)]
