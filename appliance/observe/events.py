"""What happens, as values: the events that workers tell, and the records made of them. Pure.

Texts are bytes as the client sent them; `plain` is where they become printable. How they travel is in `framing`.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

from appliance.observe.text import printable

VERSION = 1
TEXT_MAX = 1000  # bytes of one text; longer ones are cut where they leave
UNKNOWN = -1  # the one number below 0: not known

Number: TypeAlias = int
Text: TypeAlias = bytes


class Started(NamedTuple):
    """A transfer is under way, and has been for so long that somebody may want to see it. Short ones only end."""

    number: Number = 0  # of the transfer, in its worker
    size: Number = 0  # bytes of the file; -1 unknown
    bytes: Number = 0  # that have arrived for certain
    blksize: Number = 0  # as agreed; 0 for FTP
    windowsize: Number = 0
    port: Number = 0  # the client's
    client: Text = b""  # address
    mac: Text = b""  # where the name that was asked for, or the neighbour table, tells it
    verb: Text = b""  # RRQ, WRQ, RETR, STOR, APPE, LIST, NLST, MLSD
    file: Text = b""  # as asked for
    path: Text = b""  # what was served, inside the service's root
    layer: Text = b""  # where that lies: once, overlay, release, static, uploads
    release: Text = b""  # ID of the release that the client is pinned to


class Ended(NamedTuple):
    """A transfer is over: a download, an upload, a listing."""

    number: Number = 0
    size: Number = 0
    bytes: Number = 0
    blksize: Number = 0
    windowsize: Number = 0
    port: Number = 0
    ms: Number = 0  # from the request to the end
    retransmits: Number = 0  # blocks sent again
    acknowledged: Number = 0  # 1: the client has confirmed the last byte (TFTP), or took all of it (FTP)
    client: Text = b""
    mac: Text = b""
    verb: Text = b""
    file: Text = b""
    path: Text = b""
    layer: Text = b""
    release: Text = b""
    outcome: Text = b""  # done, probe, or why it failed


class Refused(NamedTuple):
    """A request was refused, or a connection or a log-in turned away."""

    port: Number = 0
    repeated: Number = 0  # how many like this were not told since the last one
    client: Text = b""
    mac: Text = b""
    verb: Text = b""
    file: Text = b""
    cause: Text = b""  # for the operator; the client is told a constant


class Unanswered(NamedTuple):
    """A request was answered, and nobody was heard: forged, or something eats the replies."""

    port: Number = 0
    repeated: Number = 0
    blksize: Number = 0  # as offered
    client: Text = b""
    mac: Text = b""
    file: Text = b""


class Dropped(NamedTuple):
    """A datagram got no answer at all."""

    port: Number = 0
    repeated: Number = 0
    client: Text = b""
    cause: Text = b""


class Session(NamedTuple):
    """An FTP session is over."""

    ms: Number = 0
    files: Number = 0
    bytes: Number = 0
    port: Number = 0
    client: Text = b""
    tls: Text = b""  # version, where there was one
    reason: Text = b""


class Stored(NamedTuple):
    """An upload is complete, durable and under its name."""

    bytes: Number = 0
    ms: Number = 0
    client: Text = b""
    name: Text = b""


class Ban(NamedTuple):
    """A client is not served for so many seconds; 0 lifts an earlier ban."""

    seconds: Number = 0
    client: Text = b""
    by: Text = b""  # the service that asked, or administrator


class Worker(NamedTuple):
    """A worker began to serve, died or was replaced."""

    worker: Number = 0
    pid: Number = 0
    restarts: Number = 0
    lost: Number = 0  # transfers or sessions that ended with it
    service: Text = b""
    state: Text = b""  # serving, died, hangs
    why: Text = b""


class Reload(NamedTuple):
    """The configuration was read again."""

    done: Number = 0  # 0: refused, and nothing was changed
    text: Text = b""


class Published(NamedTuple):
    """Another release is in force."""

    overlay: Number = 0
    release: Text = b""
    before: Text = b""
    note: Text = b""


class Machine(NamedTuple):
    """A machine that boots has come to another state."""

    ms: Number = 0  # since it was first heard in this boot
    bytes: Number = 0
    machine: Text = b""  # its name
    mac: Text = b""
    client: Text = b""
    state: Text = b""  # armed, loaded, confirmed, expired, stalled, booted
    file: Text = b""
    detail: Text = b""
    remedy: Text = b""


class Fault(NamedTuple):
    """Something of the appliance itself does not work, or works again."""

    over: Number = 0  # 1: it works again
    errno: Number = 0
    part: Text = b""  # history, log, a service
    what: Text = b""
    remedy: Text = b""


class Dhcp(NamedTuple):
    """Our DHCP server has answered: gave an address, or told a machine what to load."""

    pxe: Number = 0  # 1: a machine that boots from the network
    mac: Text = b""
    client: Text = b""  # the address it was given, or has
    message: Text = b""  # DHCPACK, DHCPOFFER, PXE, ...
    interface: Text = b""
    file: Text = b""  # that it was told to load


class Lost(NamedTuple):
    """So many events were not told or not kept."""

    events: Number = 0
    cause: Text = b""  # rate: more than are told in a second; queue: nobody took them in time; disk


Event: TypeAlias = (
    Started | Ended | Refused | Unanswered | Dropped | Session | Stored | Ban | Worker | Reload | Published | Machine
    | Fault | Lost | Dhcp
)  # fmt: skip


class Record(NamedTuple):
    """An event as it is kept and passed on: numbered, with the time at which it was heard, and from whom."""

    number: int
    at_ms: int  # milliseconds since the epoch
    source: str  # service.index of the worker, or supervisor
    event: Event


NAMES: dict[type[Any], str] = {
    Started: "start",
    Ended: "transfer",
    Refused: "refused",
    Unanswered: "unanswered",
    Dropped: "dropped",
    Session: "session",
    Stored: "stored",
    Ban: "ban",
    Worker: "worker",
    Reload: "reload",
    Published: "published",
    Machine: "machine",
    Fault: "fault",
    Lost: "lost",
    Dhcp: "dhcp",
}
_SERVER: frozenset[type[Any]] = frozenset({Started, Ended, Refused, Unanswered, Dropped, Session, Lost})
_CUSTODY: frozenset[type[Any]] = frozenset({Stored, Refused, Lost})
_BOOT: frozenset[type[Any]] = frozenset({Machine, Lost})
# what each service may tell; the channel says who speaks, so a worker cannot tell of bans or of its siblings
MAY_TELL: dict[str, frozenset[type[Any]]] = {
    "tftp": _SERVER,
    "ftp": _SERVER,
    "custody": _CUSTODY,
    "tftp-custody": _CUSTODY,
    "boot": _BOOT,
    "keeper": _BOOT,
    "dhcp": frozenset({Dhcp, Lost}),
    "board": _BOOT,
    "hooks": _BOOT,
    "supervisor": frozenset({Ban, Worker, Reload, Published, Fault, Lost}),
}
SUBSCRIBERS = ("boot", "keeper", "board", "hooks")  # services that are passed every record over their link


def plain(record: Record) -> dict[str, Any]:
    """What people and programs read: docs/EVENTS.md documents each field. Empty texts are left out, -1 is null."""
    room, _dot, worker = record.source.partition(".")
    event: tuple[Any, ...] = record.event
    found: dict[str, Any] = {
        "n": record.number,
        "time": record.at_ms / 1000,
        "v": VERSION,
        "room": room,
        "event": NAMES[type(record.event)],
    }
    if worker.isdecimal():
        found["worker"] = int(worker)
    for name, value in zip(record.event._fields, event, strict=True):
        if isinstance(value, int):
            found[name] = bool(value) if name in _YES_OR_NO else None if value == UNKNOWN else value
        elif value:
            found[name] = printable(value, TEXT_MAX)
    return found


_YES_OR_NO = {"acknowledged", "over", "done", "pxe"}
