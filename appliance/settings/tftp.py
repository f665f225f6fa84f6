"""Settings of the TFTP service, with ranges, defaults and the sentence that documents each key."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Le, MaxLen, MinLen

from appliance.settings.types import (
    Endpoint,
    Help,
    Mac,
    Network,
    Path,
    Pattern,
    PortRange,
    Regex,
    RelativePath,
    Replacement,
    Unit,
    User,
    Workers,
)

RATES = (16 << 10, 1 << 40)  # a block of 1428 bytes every 90 ms: less, and clients would take it for silence
Option = Literal["blksize", "blksize2", "windowsize", "timeout", "utimeout", "tsize", "rollover"]
_BlksizeMax = Annotated[
    Literal["mtu"] | Annotated[int, Ge(8), Le(65464)] | None, Help("largest blksize agreed (RFC 2348)")
]
_WindowsizeMax = Annotated[
    Annotated[int, Ge(1), Le(65535)] | None, Help("largest windowsize agreed (RFC 7440), in blocks")
]
_RefuseOptions = Annotated[
    tuple[Option, ...], MinLen(0), MaxLen(7), Help("options that are left out of every answer, for buggy ROMs")
]
_First = Annotated[
    RelativePath | None, Help("folder inside the root that is looked at first; what is not there comes from root")
]


@dataclass(frozen=True, slots=True)
class TftpNetwork:
    """What differs for the clients of one network; null: as for everybody."""

    net: Annotated[Network, Help("the clients; the most specific network counts")]
    blksize_max: _BlksizeMax = None
    windowsize_max: _WindowsizeMax = None
    refuse_options: _RefuseOptions = ()
    root: _First = None
    transfers: Annotated[
        int, Ge(0), Le(65536), Help("transfers of all clients of the network under way at once; 0 is no limit")
    ] = 0
    rate: Annotated[
        int, Unit("size", *RATES, zero=True), Help("bytes per second to all clients of the network; 0 is no limit")
    ] = 0


@dataclass(frozen=True, slots=True)
class TftpMachine:
    """What differs for one machine; it counts instead of the machine's network. null: as for everybody."""

    mac: Annotated[Mac, Help("the MAC address of the client; known on the same wire, or from an EUI-64 IPv6 address")]
    blksize_max: _BlksizeMax = None
    windowsize_max: _WindowsizeMax = None
    refuse_options: _RefuseOptions = ()
    root: _First = None


@dataclass(frozen=True, slots=True)
class TftpSite:
    """One more listener with a folder and networks of its own."""

    listen: Annotated[Endpoint, Help("address and port, besides those of tftp.listen")]
    root: _First = None
    networks: Annotated[
        tuple[TftpNetwork, ...],
        MinLen(0),
        MaxLen(32),
        Help("as tftp.networks, for this listener; of two equally specific networks this one counts"),
    ] = ()


@dataclass(frozen=True, slots=True)
class TftpRemap:
    """One rule that turns the name a client asks for into another."""

    match: Annotated[Regex, Help("searched in the name, which has no leading slash; ^ and $ are its ends")]
    to: Annotated[
        Replacement,
        Help(
            r"takes the place of the part that matched: \0 that part, \1 or \g<name> a group, \i the client, \x in hex"
        ),
    ] = r"\0"
    networks: Annotated[
        tuple[Network, ...], MinLen(0), MaxLen(16), Help("clients that the rule is for; empty is everyone")
    ] = ()
    then: Annotated[
        Literal["stop", "continue", "refuse"],
        Help("after a hit: stop, continue with the next rule and the new name, or refuse the request"),
    ] = "stop"
    requests: Annotated[Literal["all", "read", "write"], Help("requests that the rule is for")] = "all"


@dataclass(frozen=True, slots=True)
class TftpUploads:
    """Write requests: what a custodian of its own takes, in one folder."""

    mode: Annotated[
        Literal["none", "existing", "create", "replace"],
        Help("none; existing: only names that are there already; create: only new names; replace: both"),
    ] = "none"
    path: Annotated[RelativePath, Help("folder of the uploads, inside the root")] = "uploads"
    bare_names: Annotated[
        Literal["refuse", "into_path"], Help("a name without a folder: refuse it, or put it into path")
    ] = "refuse"
    max_size: Annotated[int, Unit("size", 1, 1 << 60), Help("largest upload")] = 64 << 20
    quota: Annotated[int, Unit("size", 1, 1 << 60), Help("bytes of all uploads and their versions together")] = 1 << 30
    per_client_quota: Annotated[int, Unit("size", 1, 1 << 60), Help("bytes of the uploads of one client")] = 256 << 20
    max_files: Annotated[int, Ge(1), Le(10_000_000), Help("uploads and versions kept at most")] = 10000
    keep_versions: Annotated[
        int, Ge(0), Le(1000), Help("earlier versions kept of a name that is replaced, as NAME.~20261121T065706.123Z~")
    ] = 0
    retention: Annotated[
        float, Unit("duration", 60, 3650 * 86400, zero=True), Help("uploads older than this are swept; 0 keeps them")
    ] = 0.0
    deny_names: Annotated[tuple[Pattern, ...], Help("shell patterns of names that are refused")] = ()
    readable: Annotated[
        Literal["none", "same-client", "networks"],
        Help("who may read uploads back: nobody, whoever uploaded the file, or the networks of readers"),
    ] = "none"
    readers: Annotated[tuple[Network, ...], Help("networks that read uploads back where readable is networks")] = ()
    allow: Annotated[tuple[Network, ...], Help("networks that may upload; empty is everyone who is served")] = ()


@dataclass(frozen=True, slots=True)
class TftpLimits:
    """What one server gives at most, to all and to one client."""

    transfers: Annotated[int, Ge(1), Le(65536), Help("transfers under way at once, in all workers together")] = 4096
    per_client: Annotated[
        int, Ge(1), Le(65536), Help("transfers of one address (IPv6: one /64), in all workers together")
    ] = 64
    unseen_per_second: Annotated[
        int, Ge(1), Le(1_000_000), Help("first answers per second to clients never heard from")
    ] = 2000
    memory: Annotated[int, Unit("size", 1 << 20, 64 << 30), Help("bytes of read-ahead and cache in all workers")] = (
        512 << 20
    )
    rate_per_client: Annotated[
        int, Unit("size", *RATES, zero=True), Help("bytes per second to one address (IPv6: one /64); 0 is no limit")
    ] = 0
    rate_total: Annotated[
        int, Unit("size", *RATES, zero=True), Help("bytes per second to all clients together; 0 is no limit")
    ] = 0


@dataclass(frozen=True, slots=True)
class TftpSettings:
    """The `tftp:` section."""

    enabled: Annotated[bool, Help("serve TFTP")] = True
    listen: Annotated[
        tuple[Endpoint, ...],
        MinLen(1),
        MaxLen(64),
        Help("addresses and ports; several, both families; port 0 picks a free one"),
    ] = (
        "0.0.0.0:69",
        "[::]:69",
    )
    root: Annotated[Path, Help("the folder that is served; workers are locked into it")] = "/srv/appliance/tftp"
    user: Annotated[User, Help("the account the workers run under")] = "appliance-tftp"
    workers: Annotated[Workers, Help("processes; auto is one per CPU")] = "auto"
    blksize_max: Annotated[
        Literal["mtu"] | Annotated[int, Ge(8), Le(65464)],
        Help("largest blksize agreed (RFC 2348); mtu: what fits the path in one piece"),
    ] = "mtu"
    windowsize_max: Annotated[int, Ge(1), Le(65535), Help("largest windowsize agreed (RFC 7440), in blocks")] = 64
    timeout: Annotated[
        float,
        Unit("duration", 0.01, 255),
        Help(
            "silence after which a packet is sent again, growing from there; sooner where the measured path is faster, "
            "unless the client asked for a timeout (RFC 2349)"
        ),
    ] = 1.0
    give_up_after: Annotated[
        float,
        Unit("duration", 1, 3600),
        Help("silence that ends a transfer; at least 5 times the agreed timeout is given"),
    ] = 60.0
    port_range: Annotated[PortRange | None, Help("ports that transfers run on, for firewalls; null: any free one")] = (
        None
    )
    single_port: Annotated[
        bool,
        Help(
            "every packet leaves from the listener's port, for NAT and containers; without allow everybody gets"
            " windowsize 1 and no uploads, because whoever forges an address could then lead a whole transfer"
        ),
    ] = False
    broadcast: Annotated[
        Literal["ignore", "answer"], Help("requests sent to an IPv4 broadcast address (RFC 1123 section 4.2.3.5)")
    ] = "ignore"
    world_readable_only: Annotated[bool, Help("serve only files that everyone may read, as tftpd-hpa does")] = True
    case_insensitive: Annotated[bool, Help("find a name that is not there in another spelling of ASCII letters")] = (
        False
    )
    uploads: Annotated[TftpUploads, Help("Write requests, as switches send them to save their configuration.")] = field(
        default_factory=TftpUploads
    )
    limits: Annotated[TftpLimits, Help("What all workers together give at most.")] = field(default_factory=TftpLimits)
    allow: Annotated[tuple[Network, ...], Help("networks that are served; empty is everyone")] = ()
    deny: Annotated[tuple[Network, ...], Help("networks that are not served; wins over allow")] = ()
    networks: Annotated[
        tuple[TftpNetwork, ...],
        MinLen(0),
        MaxLen(256),
        Help("caps, refused options and a folder for the clients of a network; the most specific one counts"),
    ] = ()
    machines: Annotated[
        tuple[TftpMachine, ...],
        MinLen(0),
        MaxLen(512),
        Help("the same for single machines by MAC address, which is a claim: anybody on the wire can use any"),
    ] = ()
    sites: Annotated[
        tuple[TftpSite, ...], MinLen(0), MaxLen(8), Help("more listeners, with a folder and networks of their own")
    ] = ()
    remap: Annotated[
        tuple[TftpRemap, ...],
        MinLen(0),
        MaxLen(32),
        Help("rules that turn one name into another, tried in order; `appliance tftp explain` shows what they do"),
    ] = ()
