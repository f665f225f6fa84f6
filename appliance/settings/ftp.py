"""Settings of the anonymous FTP service, with ranges, defaults and the sentence that documents each key."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Le, MaxLen, MinLen

from appliance.settings.types import (
    Endpoint,
    Help,
    HostName,
    Line,
    Name,
    Network,
    Path,
    Pattern,
    Port,
    PortRange,
    PublicAddress,
    RelativePath,
    Unit,
    User,
    Workers,
)


@dataclass(frozen=True, slots=True)
class ActiveSettings:
    """Active mode (PORT, EPRT): the server connects to the client."""

    enabled: Annotated[bool, Help("answer PORT and EPRT")] = True
    source_port: Annotated[
        Port, Help("port the data connection comes from; 0 is any (an ordinary user cannot use 20)")
    ] = 20


@dataclass(frozen=True, slots=True)
class IncomingScan:
    """Who looks at an upload before it is released: a program that reads it, or ClamAV's clamd. One of the two."""

    command: Annotated[
        tuple[Annotated[Line, MinLen(1), MaxLen(1000)], ...],
        MinLen(0),
        MaxLen(64),
        Help(
            "program with its arguments; it reads the bytes and ends with 0 (clean), 1 (infected) or else (not known)"
        ),
    ] = ()
    clamd: Annotated[Path | None, Help("Unix socket of ClamAV's clamd")] = None
    timeout: Annotated[float, Unit("duration", 1, 86400), Help("time for a verdict; after it there is none")] = 300.0
    user: Annotated[User, Help("the account the program runs under when root releases")] = "appliance-scan"


@dataclass(frozen=True, slots=True)
class IncomingSettings:
    """The drop box: write-only for the public, kept by the custodian."""

    enabled: Annotated[bool, Help("accept uploads into the drop box")] = False
    path: Annotated[RelativePath, Help("folder of the drop box, inside the root")] = "incoming"
    max_size: Annotated[int, Unit("size", 1, 1 << 60), Help("largest upload")] = 1 << 30
    quota: Annotated[int, Unit("size", 1, 1 << 60), Help("bytes in the drop box, all uploads together")] = 10 << 30
    per_client_quota: Annotated[int, Unit("size", 1, 1 << 60), Help("bytes in the drop box from one client")] = 2 << 30
    max_files: Annotated[int, Ge(1), Le(10_000_000), Help("files in the drop box")] = 10000
    retention: Annotated[
        float, Unit("duration", 60, 3650 * 86400, zero=True), Help("uploads older than this are swept; 0 keeps them")
    ] = 30 * 86400.0
    resume: Annotated[
        float,
        Unit("duration", 1, 3600, zero=True),
        Help("time that an upload whose data connection broke waits for REST in its own session; 0 removes it at once"),
    ] = 120.0
    deny_names: Annotated[tuple[Pattern, ...], Help("shell patterns of names that are refused")] = ()
    released: Annotated[
        RelativePath, Help("folder inside the root, outside of the drop box, that `appliance incoming release` fills")
    ] = "released"
    scan: Annotated[
        IncomingScan | None, Help("what looks at an upload before it is released; without a verdict it is not")
    ] = None


@dataclass(frozen=True, slots=True)
class PassiveAddress:
    """What PASV tells the clients of some networks: inside and outside of a NAT differ."""

    networks: Annotated[tuple[Network, ...], MinLen(1), MaxLen(64), Help("the clients")]
    address: Annotated[PublicAddress, Help("IPv4 address told to them, or a name that is looked up every minute")]


@dataclass(frozen=True, slots=True)
class FtpSite:
    """One more face of the server: by its own listeners, by HOST names, or both."""

    listen: Annotated[
        tuple[Endpoint, ...], MinLen(0), MaxLen(16), Help("addresses and ports, besides those of ftp.listen")
    ] = ()
    hosts: Annotated[
        tuple[HostName, ...], MinLen(0), MaxLen(32), Help("names that clients select it by (HOST, RFC 7151)")
    ] = ()
    root: Annotated[RelativePath | None, Help("folder inside the root that its clients see as /; null is the root")] = (
        None
    )
    banner: Annotated[
        Annotated[Line, MinLen(1), MaxLen(200)] | None, Help("greeting line; null is that of the server")
    ] = None
    sessions: Annotated[
        Annotated[int, Ge(1), Le(100_000)] | None,
        Help("sessions at once, in each worker; null is no limit but that of the server"),
    ] = None
    allow: Annotated[tuple[Network, ...], Help("networks that are served; empty is whoever the server serves")] = ()
    deny: Annotated[tuple[Network, ...], Help("networks that are not served; wins over allow")] = ()
    implicit_listen: Annotated[
        tuple[Endpoint, ...],
        MinLen(0),
        MaxLen(16),
        Help("as ftp.tls.implicit_listen, where connections begin with TLS"),
    ] = ()
    certificate: Annotated[
        Path | None, Help("as ftp.tls.certificate, for those who come in by these addresses; null is that of ftp.tls")
    ] = None
    key: Annotated[Path | None, Help("as ftp.tls.key; null: it is in the file of the certificate")] = None


@dataclass(frozen=True, slots=True)
class ChecksumSettings:
    """HASH, XSHA256, XMD5, XCRC, and FILE.sha256 for each file that has none."""

    enabled: Annotated[bool, Help("answer HASH, XSHA256, XMD5, XCRC, and RETR of NAME.sha256 for every file")] = True
    max_size: Annotated[int, Unit("size", 1, 1 << 60), Help("largest file, or part of one, that is read for it")] = (
        8 << 30
    )
    queue: Annotated[
        int, Ge(1), Le(10_000), Help("files that wait to be read, in each worker, which reads one at a time")
    ] = 32


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """FTP over TLS (RFC 4217), version 1.2 or newer."""

    mode: Annotated[
        Literal["off", "optional", "required"],
        Help("whether AUTH TLS is offered; required refuses to log in, list or transfer in the clear"),
    ] = "off"
    certificate: Annotated[
        Path | None, Help("PEM file: the certificate, then those between it and its root authority")
    ] = None
    key: Annotated[
        Path | None, Help("PEM file of the private key, no passphrase; null: it is in the file of the certificate")
    ] = None
    implicit_listen: Annotated[
        tuple[Endpoint, ...], MaxLen(64), Help("where connections begin with TLS (ftps://), usually port 990")
    ] = ()
    session_reuse: Annotated[
        Literal["optional", "required"],
        Help("required: a data connection must resume a TLS session, so only who has a control connection gets one"),
    ] = "optional"


@dataclass(frozen=True, slots=True)
class FtpNetwork:
    """Limits for the clients of a network, like one that is a single address behind a NAT."""

    net: Annotated[Network, Help("the clients; of several networks that fit, the most specific one counts")]
    sessions_per_client: Annotated[
        Annotated[int, Ge(1), Le(100_000)] | None, Help("as in limits, for each of them; null is that of limits")
    ] = None
    sessions: Annotated[
        int, Ge(0), Le(100_000), Help("sessions of the whole network, in all workers together; 0 is no limit")
    ] = 0
    connections_per_minute: Annotated[
        Annotated[int, Ge(0), Le(1_000_000)] | None, Help("as in limits; null is that of limits, 0 is no limit")
    ] = None
    ban: Annotated[bool, Help("ban its clients by themselves (ftp.bans)")] = True


@dataclass(frozen=True, slots=True)
class FtpLimits:
    """What one server gives at most, to all and to one client. 0 is no limit where it is allowed."""

    sessions: Annotated[int, Ge(1), Le(100_000), Help("sessions at once, in all workers together")] = 4096
    sessions_per_client: Annotated[
        int, Ge(1), Le(100_000), Help("sessions of one address (IPv6: one /64), in all workers together")
    ] = 8
    connections_per_minute: Annotated[
        int,
        Ge(0),
        Le(1_000_000),
        Help("connections of one client in a minute; they may come at once; each worker has its part; 0 is no limit"),
    ] = 0
    networks: Annotated[
        tuple[FtpNetwork, ...], MinLen(0), MaxLen(256), Help("other limits for the clients of some networks")
    ] = ()
    login_timeout: Annotated[float, Unit("duration", 1, 3600), Help("time from connect to logged in")] = 30.0
    idle_timeout: Annotated[
        float, Unit("duration", 1, 86400), Help("silence that ends a session without a transfer")
    ] = 300.0
    session_timeout: Annotated[
        float, Unit("duration", 10, 30 * 86400, zero=True), Help("longest session, transfers included; 0 is no limit")
    ] = 0.0
    rate_per_session: Annotated[
        int, Unit("size", 1024, 1 << 40, zero=True), Help("bytes per second of one session; 0 is no limit")
    ] = 0
    rate_per_client: Annotated[
        int,
        Unit("size", 1024, 1 << 40, zero=True),
        Help("bytes per second of all sessions of one client, in each worker; 0 is no limit"),
    ] = 0
    rate_total: Annotated[
        int,
        Unit("size", 1024, 1 << 40, zero=True),
        Help("bytes per second of everybody, shared equally between clients; each worker has its part; 0 is no limit"),
    ] = 0
    stall_timeout: Annotated[
        float, Unit("duration", 1, 86400), Help("a transfer that moves nothing for this long is ended")
    ] = 300.0


@dataclass(frozen=True, slots=True)
class FtpBans:
    """Clients that misbehave are not served for a while."""

    after: Annotated[
        int,
        Ge(0),
        Le(10_000),
        Help(
            "strikes that ban a client: log-ins that are not anonymous, data connections to others, other protocols, "
            "ten unknown commands; 0 never bans"
        ),
    ] = 20
    within: Annotated[float, Unit("duration", 1, 86400), Help("time in which the strikes count")] = 600.0
    duration: Annotated[float, Unit("duration", 1, 86400), Help("time that a ban lasts")] = 600.0
    exempt: Annotated[
        tuple[Network, ...], Help("networks that are never banned by themselves, like one behind a single address")
    ] = ()


@dataclass(frozen=True, slots=True)
class FtpSettings:
    """The `ftp:` section."""

    enabled: Annotated[bool, Help("serve anonymous FTP")] = True
    listen: Annotated[
        tuple[Endpoint, ...],
        MinLen(1),
        MaxLen(64),
        Help("addresses and ports; several, both families; port 0 picks a free one"),
    ] = (
        "0.0.0.0:21",
        "[::]:21",
    )
    root: Annotated[Path, Help("the folder that is served; workers are locked into it")] = "/srv/appliance/ftp"
    user: Annotated[User, Help("the account the workers run under")] = "appliance-ftp"
    workers: Annotated[Workers, Help("processes; auto is one per CPU")] = "auto"
    banner: Annotated[Line, MinLen(1), MaxLen(200), Help("greeting line; says no version")] = "Anonymous FTP ready."
    banner_file: Annotated[
        RelativePath | None, Help("file inside the root that is shown before the greeting line, at most 4 KiB")
    ] = None
    welcome_file: Annotated[
        RelativePath | None, Help("file inside the root that is shown after the log-in, at most 4 KiB")
    ] = None
    message_file: Annotated[
        Name | None, Help("name of a file that is shown when its folder is entered, at most 4 KiB; null shows none")
    ] = ".message"
    passive_ports: Annotated[PortRange, Help("ports of passive data connections, inclusive")] = "61000-65535"
    passive_address: Annotated[
        PublicAddress | Annotated[tuple[PassiveAddress, ...], MinLen(1), MaxLen(64)] | None,
        Help(
            "IPv4 address told in PASV replies, or a name that is looked up every minute, one or by the client's "
            "network; null is the address the client reached"
        ),
    ] = None
    active: Annotated[ActiveSettings, Help("Active mode: the server connects to the client.")] = field(
        default_factory=ActiveSettings
    )
    incoming: Annotated[IncomingSettings, Help("The drop box: clients may write, but neither list nor read.")] = field(
        default_factory=IncomingSettings
    )
    checksums: Annotated[ChecksumSettings, Help("Checksums of served files, computed when asked for.")] = field(
        default_factory=ChecksumSettings
    )
    hide: Annotated[tuple[Pattern, ...], Help("names that are neither listed nor served, anywhere in a path")] = (
        ".ht*",
        ".ftpaccess",
        ".git",
        ".ssh",
    )
    sites: Annotated[
        tuple[FtpSite, ...],
        MinLen(0),
        MaxLen(32),
        Help("more faces of the server, with a folder and rules of their own"),
    ] = ()
    tls: Annotated[TlsSettings, Help("FTP over TLS; `appliance tls self-signed` makes a first certificate.")] = field(
        default_factory=TlsSettings
    )
    limits: Annotated[FtpLimits, Help("What all workers together give at most.")] = field(default_factory=FtpLimits)
    bans: Annotated[FtpBans, Help("Clients that misbehave are not served for a while; `appliance ban` shows them.")] = (
        field(default_factory=FtpBans)
    )
    allow: Annotated[tuple[Network, ...], Help("networks that are served; empty is everyone")] = ()
    deny: Annotated[tuple[Network, ...], Help("networks that are not served; wins over allow")] = ()


def certificates(ftp: FtpSettings) -> list[tuple[str, TlsSettings | FtpSite]]:
    """What has a certificate of its own, and its key in the configuration: the service, and sites; none without TLS."""
    if ftp.tls.mode == "off":
        return []
    places: list[tuple[str, TlsSettings | FtpSite]] = [("ftp.tls", ftp.tls)]
    places += [(f"ftp.sites[{number}]", site) for number, site in enumerate(ftp.sites)]
    return [(where, place) for where, place in places if place.certificate]
