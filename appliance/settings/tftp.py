"""Settings of the TFTP service, with ranges, defaults and the sentence that documents each key."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Le, MaxLen, MinLen

from appliance.settings.types import Endpoint, Help, Network, Path, Unit, User, Workers


@dataclass(frozen=True, slots=True)
class TftpLimits:
    """What one server gives at most, to all and to one client."""

    transfers: Annotated[int, Ge(1), Le(65536), Help("transfers under way at once, in all workers together")] = 4096
    per_client: Annotated[int, Ge(1), Le(65536), Help("transfers under way for one address (IPv6: one /64)")] = 64
    unseen_per_second: Annotated[
        int, Ge(1), Le(1_000_000), Help("first answers per second to clients never heard from")
    ] = 2000
    memory: Annotated[int, Unit("size", 1 << 20, 64 << 30), Help("bytes of read-ahead and cache in all workers")] = (
        512 << 20
    )


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
        float, Unit("duration", 0.01, 255), Help("first retransmission after this; grows from there")
    ] = 1.0
    give_up_after: Annotated[
        float,
        Unit("duration", 1, 3600),
        Help("silence that ends a transfer; at least 5 times the agreed timeout is given"),
    ] = 60.0
    world_readable_only: Annotated[bool, Help("serve only files that everyone may read, as tftpd-hpa does")] = True
    limits: Annotated[TftpLimits, Help("What all workers together give at most.")] = field(default_factory=TftpLimits)
    allow: Annotated[tuple[Network, ...], Help("networks that are served; empty is everyone")] = ()
    deny: Annotated[tuple[Network, ...], Help("networks that are not served; wins over allow")] = ()
