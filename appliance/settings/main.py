"""The whole configuration as one frozen value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Le, MaxLen, MinLen

from appliance.settings.board import BoardSettings
from appliance.settings.boot import BootSettings
from appliance.settings.ftp import FtpSettings
from appliance.settings.hooks import Hook
from appliance.settings.tftp import TftpSettings
from appliance.settings.types import Endpoint, Help, Path, Unit, User

Room = Literal[
    "supervisor",
    "tftp",
    "ftp",
    "custody",
    "tftp-custody",
    "events",
    "status",
    "metrics",
    "board",
    "hooks",
    "keeper",
    "dhcp",
    "resolver",
]


@dataclass(frozen=True, slots=True)
class RoomLevel:
    """From which level on a room writes to the log."""

    room: Annotated[Room, Help("who speaks: the supervisor, or a service")]
    level: Annotated[
        Literal["info", "warning", "error"],
        Help("the least that is written; transfers, uploads and refusals are info"),
    ]


@dataclass(frozen=True, slots=True)
class ObserveSettings:
    """The `observe:` section: where records go, and who sees what happens."""

    log: Annotated[
        Literal["journal", "json", "text"],
        Help(
            "journal: fields for journald, and readable lines where standard error is not its; json: one object a "
            "line; text: readable lines"
        ),
    ] = "journal"
    log_levels: Annotated[
        tuple[RoomLevel, ...],
        MinLen(0),
        MaxLen(13),
        Help("rooms that write less than everything; the supervisor takes its own up when it starts"),
    ] = ()
    xferlog: Annotated[
        Path | None,
        Help(
            "file that gets one line for each FTP download and upload, for log analysers; its name ends in .log or "
            "xferlog; opened anew by a reload; null writes none"
        ),
    ] = None
    look_group: Annotated[
        User | None,
        Help("group that may ask status, who, top, log and metrics; null: root and the user who started the appliance"),
    ] = None
    act_group: Annotated[
        User | None,
        Help(
            "group that may also reload, drain, stop, ban and kick; null: root and the user who started the appliance"
        ),
    ] = None
    metrics_listen: Annotated[
        Endpoint | None,
        Help(
            "address at which Prometheus gets the metrics by HTTP, as does everybody who can reach it; null: only "
            "run_dir/metrics.sock"
        ),
    ] = None
    events: Annotated[
        bool,
        Help("tell what happens: what `appliance log`, hooks and the boot board live on; false: logs and status only"),
    ] = True
    events_per_second: Annotated[
        int,
        Ge(10),
        Le(100_000),
        Help("events that each worker tells, over eight seconds; what is more is counted as lost"),
    ] = 500
    history: Annotated[
        int,
        Unit("size", 1 << 20, 1 << 40, zero=True),
        Help("bytes of events kept in state_dir/events, the oldest go first; 0 keeps none"),
    ] = 64 << 20
    board_listen: Annotated[
        Endpoint | None,
        Help("where browsers find the boot board, a page that shows machines while they boot; null: it is off"),
    ] = None
    board: Annotated[BoardSettings, Help("Who may look at the boot board.")] = field(default_factory=BoardSettings)
    hooks: Annotated[
        tuple[Hook, ...], MinLen(0), MaxLen(16), Help("programs of yours that are run when something happens")
    ] = ()


@dataclass(frozen=True, slots=True)
class Settings:
    """One configuration. Everything a service needs to know is in here; nothing reads a global."""

    state_dir: Annotated[Path, Help("what survives a restart")] = "/var/lib/appliance"
    run_dir: Annotated[Path, Help("control sockets; a second instance on the same folder is refused")] = (
        "/run/appliance"
    )
    confinement: Annotated[
        Literal["required", "best-effort"],
        Help("required: a worker that cannot be confined fully does not serve; best-effort: what the kernel allows"),
    ] = "required"
    drain_timeout: Annotated[
        float, Unit("duration", 0, 86400), Help("how long running transfers may finish when stopping or reloading")
    ] = 30.0
    tftp: Annotated[TftpSettings, Help("The TFTP service.")] = field(default_factory=TftpSettings)
    ftp: Annotated[FtpSettings, Help("The anonymous FTP service.")] = field(default_factory=FtpSettings)
    boot: Annotated[BootSettings, Help("Boot files, and which machine gets which.")] = field(
        default_factory=BootSettings
    )
    observe: Annotated[ObserveSettings, Help("Where records go, and who sees what happens.")] = field(
        default_factory=ObserveSettings
    )
