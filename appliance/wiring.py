"""The one place that knows all rooms: settings to service values. Runs in the settings reader and in `check`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from appliance.errors import ConfigError, Problem
from appliance.settings import box
from appliance.settings.ftp import FtpSettings, certificates
from appliance.settings.main import Settings
from appliance.settings.plain import encode
from appliance.settings.tftp import TftpSettings
from appliance.supervise.service import Listen, Service

FIXED_UIDS = {
    "appliance-tftp": 64610,
    "appliance-ftp": 64611,
    "appliance-custody": 64612,
    "appliance-status": 64613,
    "appliance-events": 64620,
    "appliance-keeper": 64627,
    "appliance-metrics": 64629,
    "appliance-dhcp": 64626,
    "appliance-resolve": 64628,
    "appliance-board": 64624,
    "appliance-hook": 64625,
    "appliance-scan": 64614,  # no service: the program that `appliance incoming` has look at an upload
    "appliance-boot": 64621,  # nor these: the short-lived children of `appliance boot`
    "appliance-fetch": 64622,
    "appliance-unpack": 64623,
}
_RECORD_MAX = 1 << 30  # bytes that a record file may have at least, where RLIMIT_FSIZE counts
_SPARE = 256  # descriptors besides those that transfers and sessions need: channels, log, tables of up to 127 siblings


@dataclass(frozen=True, slots=True)
class Host:
    """What the services are started on."""

    root: bool
    uid: int
    gid: int
    cpus: int
    nofile: int  # the hard limit
    log_to_file: bool  # RLIMIT_FSIZE would also end a log that goes to a plain file
    account: Callable[[str], tuple[int, int] | None]  # name -> uid, gid
    group: Callable[[str], int | None] = lambda _name: None  # name -> gid


def services(settings: Settings, host: Host) -> list[Service]:
    """Every service the settings ask for, in the order of their start. Raises ConfigError for an unknown account."""
    found = [_status(settings, host)]
    if settings.observe.events:
        found.append(_events(settings, host))
    if settings.boot.enabled and settings.observe.events:
        found.append(_keeper(settings, host))
    if settings.observe.metrics_listen:
        found.append(_metrics(settings, host))
    if settings.ftp.enabled and settings.ftp.incoming.enabled:
        found.append(_custody(settings, host))
    if settings.tftp.enabled and settings.tftp.uploads.mode != "none":
        found.append(_tftp_custody(settings, host))
    if settings.tftp.enabled:
        found.append(_tftp(settings, host))
    if settings.ftp.enabled:
        found.append(_ftp(settings, host))
    if settings.boot.dhcp != "off":
        found.append(_dhcp(settings, host))
    if settings.ftp.enabled and public_names(settings.ftp):
        found.append(_resolver(settings, host))
    if settings.observe.board_listen:
        found.append(_board(settings, host, settings.observe.board_listen))
    if settings.observe.hooks and settings.observe.events:
        found.append(_hooks(settings, host))
    return found


def groups(settings: Settings, host: Host) -> tuple[int, int]:
    """gid of those who may look, and of those who may act; 0 is none. Raises ConfigError for an unknown group."""
    wanted = (("look_group", settings.observe.look_group), ("act_group", settings.observe.act_group))
    return _gid(host, *wanted[0]), _gid(host, *wanted[1])


def _gid(host: Host, key: str, name: str | None) -> int:
    if name is None:
        return 0
    gid = host.group(name)
    if not gid:
        what = f"there is no group {name!r}" if gid is None else "every system account may be in root's group"
        remedy = f"groupadd --system {name}, or take the key out"
        raise ConfigError((Problem("error", what, remedy, key=f"observe.{key}"),))
    return gid


def identity(host: Host, user: str, key: str) -> tuple[int, int]:
    """uid and gid of an account. As root, a default account that does not exist has a fixed uid nobody else uses."""
    if not host.root:
        return host.uid, host.gid
    account = host.account(user)
    if account is None and user in FIXED_UIDS:
        return FIXED_UIDS[user], FIXED_UIDS[user]
    if account is None or 0 in account:
        what = "runs as root" if account else f"there is no account {user!r}"
        remedy = f"useradd --system --no-create-home --shell /usr/sbin/nologin {user}, or take the key out"
        raise ConfigError((Problem("error", what, remedy, key=key),))
    return account


def _tftp(settings: Settings, host: Host) -> Service:
    tftp: TftpSettings = settings.tftp
    workers = _workers(tftp.workers, host)
    return _service(
        settings,
        host,
        ("tftp", tftp.user, "tftp.user"),
        workers=workers,
        listen=_listens("udp", (*tftp.listen, *(site.listen for site in tftp.sites))),
        jail=tftp.root,
        # a transfer holds its socket and its file, and ports that are kept for reuse are watched for strangers
        nofile=3 * (tftp.limits.transfers + min(tftp.limits.transfers, 2048)) + 1024,
        fsize=tftp.uploads.max_size if tftp.uploads.mode != "none" and not host.log_to_file else -1,
        links=(*(("tftp-custody",) if tftp.uploads.mode != "none" else ()), *_to_events(settings)),
        published=settings.boot.enabled,
        settings={"tftp": encode(tftp), **_observed(settings), "workers": workers, **_pinning(settings)},
    )


def _ftp(settings: Settings, host: Host) -> Service:
    ftp: FtpSettings = settings.ftp
    workers = _workers(ftp.workers, host)
    secure = ftp.tls.mode != "off"
    first, last = (int(part) for part in ftp.passive_ports.split("-"))
    record = settings.observe.xferlog or ""
    longest = max(ftp.incoming.max_size, _RECORD_MAX if record else 0)
    return _service(
        settings,
        host,
        ("ftp", ftp.user, "ftp.user"),
        workers=workers,
        listen=_listens(
            "tcp",
            (
                *ftp.listen,
                *(one for site in ftp.sites for one in site.listen),
                *(ftp.tls.implicit_listen if secure else ()),
                *(one for site in ftp.sites for one in site.implicit_listen if secure),
            ),
        ),
        jail=ftp.root,
        bind_tcp=(first, last),
        nofile=4 * ftp.limits.sessions + _SPARE,
        fsize=longest if ftp.incoming.enabled and not host.log_to_file else -1,
        links=(*(("custody",) if ftp.incoming.enabled else ()), *_to_events(settings)),
        requests=(*(("active",) if ftp.active.enabled else ()), "ban", *(("address",) if public_names(ftp) else ())),
        files=tuple(path for _where, has in certificates(ftp) for path in (has.certificate, has.key) if path),
        published=settings.boot.enabled,
        settings={
            "ftp": encode(ftp),
            **_observed(settings),
            "workers": workers,
            "one_uid": host.uid != 0,  # then no mode of a folder keeps the workers out of the custodian's
            **_pinning(settings),
        },
        record=record,
    )


def _custody(settings: Settings, host: Host) -> Service:
    return _service(
        settings,
        host,
        ("custody", "appliance-custody", "ftp.incoming"),
        jail=f"{settings.ftp.root}/{settings.ftp.incoming.path}",
        writes=True,
        owns=True,
        nofile=settings.ftp.limits.sessions + _SPARE,
        links=_to_events(settings),
        settings={"box": encode(box.of_incoming(settings.ftp.incoming)), **_observed(settings)},
    )


def _tftp_custody(settings: Settings, host: Host) -> Service:
    uploads = settings.tftp.uploads
    return _service(
        settings,
        host,
        ("tftp-custody", "appliance-custody", "tftp.uploads"),
        main="appliance.custody.worker:prepare",
        promise="custody",
        jail=f"{settings.tftp.root}/{uploads.path}",
        writes=True,
        owns=True,
        nofile=1000 + 2 * 64 + _SPARE,  # custody.keeping.MOST_UPLOADS; each link and one file that it is to read
        links=_to_events(settings),
        settings={"box": encode(box.of_uploads(uploads)), **_observed(settings)},
    )


def _dhcp(settings: Settings, host: Host) -> Service:
    if not host.root:
        remedy = "start as root, or write off and tell the DHCP server you have (docs/DHCP.md)"
        raise ConfigError((Problem("error", "a DHCP server has to be started by root", remedy, key="boot.dhcp"),))
    uid, gid = identity(host, "appliance-dhcp", "boot.dhcp")
    folder = f"{settings.state_dir}/dhcp"
    return _service(
        settings,
        host,
        ("dhcp", "appliance-dhcp", "boot.dhcp"),
        jail=folder,
        owns=True,
        nofile=_SPARE,
        settings={
            "boot": encode(settings.boot),
            "folder": folder,
            "uid": uid,
            "gid": gid,
            **_observed(settings),
        },
        links=_to_events(settings),
    )


def public_names(ftp: FtpSettings) -> tuple[str, ...]:
    """The names in `passive_address`, each once; addresses are none."""
    told = ftp.passive_address
    texts = [told] if isinstance(told, str) else [item.address for item in told or ()]
    return tuple(dict.fromkeys(text for text in texts if not text.replace(".", "").isdigit()))


def _resolver(settings: Settings, host: Host) -> Service:
    files = {"resolv_conf": "/etc/resolv.conf", "hosts": "/etc/hosts"}
    return _service(
        settings,
        host,
        ("resolver", "appliance-resolve", "ftp.passive_address"),
        main="appliance.resolve.worker:prepare",
        jail=f"{settings.run_dir}/empty",
        nofile=256,
        files=tuple(files.values()),
        settings={"names": list(public_names(settings.ftp)), "log": settings.observe.log, "port": 53, **files},
    )


def _status(settings: Settings, host: Host) -> Service:
    return _service(
        settings,
        host,
        ("status", "appliance-status", "run_dir"),
        main="appliance.observe.control:prepare",
        listen=tuple(Listen("unix", f"{settings.run_dir}/{name}.sock", 0) for name in ("status", "who", "metrics")),
        jail=f"{settings.run_dir}/empty",
        nofile=256,
        settings={"log": settings.observe.log},
    )


def _events(settings: Settings, host: Host) -> Service:
    observe = settings.observe
    return _service(
        settings,
        host,
        ("events", "appliance-events", "observe.events"),
        main="appliance.observe.recorder:prepare",
        listen=(Listen("packets", f"{settings.run_dir}/events.sock", 0),),
        jail=f"{settings.state_dir}/events",
        writes=True,
        owns=True,
        nofile=2 * _SPARE + 256,  # links of all workers, readers, and the segments that are handed to one
        fsize=max(observe.history, 1 << 20) if not host.log_to_file else -1,
        settings={"history": observe.history, "log": observe.log},
    )


def _board(settings: Settings, host: Host, listen: str) -> Service:
    board = settings.observe.board
    return _service(
        settings,
        host,
        ("board", "appliance-board", "observe.board_listen"),
        listen=_listens("tcp", (listen,)),
        jail=f"{settings.run_dir}/empty",
        nofile=1024 + _SPARE,
        links=_to_events(settings),
        files=tuple(path for path in (board.certificate, board.key) if path),
        settings={**encode(board), **_observed(settings), "events_per_second": _telling(settings)},
    )


def _telling(settings: Settings) -> int:
    """How many events a second the board tells of machines: none where hooks tell them, so that each comes once."""
    return 0 if settings.observe.hooks else settings.observe.events_per_second


def _hooks(settings: Settings, host: Host) -> Service:
    uid, gid = identity(host, "appliance-hook", "observe.hooks")
    folder = f"{settings.state_dir}/hooks"
    return _service(
        settings,
        host,
        ("hooks", "appliance-hook", "observe.hooks"),
        jail=folder,
        owns=True,
        nofile=_SPARE,
        links=_to_events(settings),
        settings={
            **_observed(settings),
            "hooks": [encode(hook) for hook in settings.observe.hooks],
            "machines": settings.observe.board.machines,
            "folder": folder,
            "uid": uid,
            "gid": gid,
            "required": settings.confinement == "required",
        },
    )


def _keeper(settings: Settings, host: Host) -> Service:
    return _service(
        settings,
        host,
        ("keeper", "appliance-keeper", "boot.enabled"),
        main="appliance.boot.keeper:prepare",
        jail=f"{settings.state_dir}/armed",
        writes=True,
        owns=True,
        nofile=_SPARE,
        links=_to_events(settings),
        requests=("one-shot",),
        settings={"log": settings.observe.log},
    )


def _metrics(settings: Settings, host: Host) -> Service:
    """The same child as status, for the network: who asks from there never reaches the one that shows who is on."""
    return _service(
        settings,
        host,
        ("metrics", "appliance-metrics", "observe.metrics_listen"),
        main="appliance.observe.control:prepare",
        listen=(_listen("tcp", settings.observe.metrics_listen or "127.0.0.1:0", 0),),
        jail=f"{settings.run_dir}/empty",
        nofile=256,
        settings={"log": settings.observe.log},
    )


def log_form(settings: Settings, room: str) -> str:
    """How a room writes its log: the form, and behind a colon the least level where one is set for it."""
    levels = {one.room: one.level for one in settings.observe.log_levels}
    return f"{settings.observe.log}:{levels[room]}" if room in levels else settings.observe.log


def _to_events(settings: Settings) -> tuple[str, ...]:
    return ("events",) if settings.observe.events else ()


def _observed(settings: Settings) -> dict[str, Any]:
    return {"log": settings.observe.log, "events_per_second": settings.observe.events_per_second}


def _pinning(settings: Settings) -> dict[str, float]:
    return {"pin": settings.boot.pin} if settings.boot.enabled else {}


def _service(whole: Settings, host: Host, who: tuple[str, str, str], /, **fields: Any) -> Service:
    name, user, key = who
    uid, gid = identity(host, user, key)
    defaults: dict[str, Any] = {
        "main": f"appliance.{name}.worker:prepare",
        "promise": name,
        "workers": 1,
        "listen": (),
        "writes": False,
        "owns": False,
        "fsize": -1,
        "bind_tcp": (0, 0),
        "links": (),
        "requests": (),
        "files": (),
    }
    if "log" in fields["settings"]:
        fields["settings"]["log"] = log_form(whole, name)
    fields["nofile"] = min(fields["nofile"], host.nofile)
    required = whole.confinement == "required"
    return Service(**{**defaults, **fields, "name": name, "user": user, "uid": uid, "gid": gid, "required": required})


def _workers(wanted: str | int, host: Host) -> int:
    return min(64, host.cpus) if wanted == "auto" else int(wanted)


def _listens(kind: str, texts: tuple[str, ...]) -> tuple[Listen, ...]:
    return tuple(_listen(kind, text, texts[:i].count(text)) for i, text in enumerate(texts))


def _listen(kind: str, text: str, nth: int) -> Listen:
    host, _, port = text.rpartition(":")
    return Listen(kind, host.strip("[]"), int(port), nth)
