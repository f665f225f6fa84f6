"""The one value the supervisor knows a service by. It is decoded from what the settings reader sends, and distrusted.

Pure: no I/O. `decode` raises StartError for anything that is not exactly a list of such values.
"""

from __future__ import annotations

import typing
from dataclasses import asdict, dataclass
from typing import Any

from appliance.errors import StartError


@dataclass(frozen=True, slots=True)
class Listen:
    """One address to bind: `kind` is udp, tcp, unix or packets (a Unix socket that keeps messages apart).

    Port 0 picks a free one, and `nth` tells several such apart.
    """

    kind: str
    host: str
    port: int
    nth: int = 0

    @property
    def local(self) -> bool:
        """A Unix socket: `host` is its path."""
        return self.kind in ("unix", "packets")


@dataclass(frozen=True, slots=True)
class Service:
    """What to start, with what, and how confined.

    ``main`` is "module:function" (child.context.Prepare). ``jail`` is the folder the children are locked into;
    ``promise`` names the system calls they keep (confine.promises); ``writes`` lets them write inside the jail.
    ``links`` are services that every worker gets a channel to. ``requests`` are the privileged requests it may make.
    ``files`` lie outside the jail and are loaded by a worker before it is locked in; a reload sees that they changed.
    ``record`` is a file that the supervisor opens for them to append to; "" is none.
    ``published``: it serves the release in force, and its workers are told which that is.
    ``owns``: the jail belongs to the service's own account, mode 0700, and is made if missing. ``bind_tcp``: first and
    last port its workers bind themselves, (0, 0) for none. ``required``: a worker that cannot be confined does not
    serve.
    """

    name: str
    main: str
    workers: int
    listen: tuple[Listen, ...]
    jail: str
    promise: str
    user: str
    uid: int
    gid: int
    writes: bool
    owns: bool
    nofile: int
    fsize: int
    bind_tcp: tuple[int, int]
    required: bool
    links: tuple[str, ...]
    requests: tuple[str, ...]
    files: tuple[str, ...]
    settings: dict[str, Any]
    record: str = ""
    published: bool = False

    @property
    def public(self) -> bool:
        """It listens on the network."""
        return any(not listen.local for listen in self.listen)


def encode(services: list[Service]) -> list[dict[str, Any]]:
    """To plain values for the pipe."""
    return [asdict(service) for service in services]


def decode(plain: object) -> list[Service]:
    """From plain values. Raises StartError on anything that does not fit exactly."""
    try:
        services = [_service(item) for item in _typed(plain, list)]
    except (TypeError, KeyError, ValueError) as error:
        raise StartError(f"the settings reader sent something unusable: {error}") from error
    names = [service.name for service in services]
    if len(set(names)) != len(names):
        raise StartError("the settings reader named a service twice")
    return services


# name of a service: what its children run, and the system calls they keep. A reader that was taken over must not name
# others: `main` is imported by a child that is still root.
_KINDS = {
    "status": ("appliance.observe.control:prepare", "status"),
    "metrics": ("appliance.observe.control:prepare", "metrics"),
    "events": ("appliance.observe.recorder:prepare", "events"),
    "board": ("appliance.board.worker:prepare", "board"),
    "hooks": ("appliance.hooks.worker:prepare", "hooks"),
    "custody": ("appliance.custody.worker:prepare", "custody"),
    "tftp-custody": ("appliance.custody.worker:prepare", "custody"),
    "keeper": ("appliance.boot.keeper:prepare", "keeper"),
    "tftp": ("appliance.tftp.worker:prepare", "tftp"),
    "ftp": ("appliance.ftp.worker:prepare", "ftp"),
    "dhcp": ("appliance.dhcp.worker:prepare", "dhcp"),
    "resolver": ("appliance.resolve.worker:prepare", "resolver"),
}
_LOG_NAMES = (".log", "xferlog")  # root opens this file to append to: never one that the system itself reads
_HINTS = typing.get_type_hints(Service)
_SIMPLE = {name: hint for name, hint in _HINTS.items() if hint in (str, int, bool)}


def _typed(value: object, kind: type[Any]) -> Any:
    if type(value) is not kind:
        raise TypeError(f"{kind.__name__} expected")
    return value


def _service(plain: Any) -> Service:
    if _typed(plain, dict).keys() != _HINTS.keys():
        raise KeyError("unexpected shape")
    fields = {name: _typed(plain[name], hint) for name, hint in _SIMPLE.items()}
    service = Service(
        **fields,
        listen=tuple(_listen(item) for item in _typed(plain["listen"], list)),
        bind_tcp=_ports(plain["bind_tcp"]),
        links=tuple(_typed(item, str) for item in _typed(plain["links"], list)),
        requests=tuple(_typed(item, str) for item in _typed(plain["requests"], list)),
        files=tuple(_typed(item, str) for item in _typed(plain["files"], list)),
        settings=_typed(plain["settings"], dict),
    )
    if (service.main, service.promise) != _KINDS.get(service.name):
        raise ValueError(f"{service.name!r} is no service of ours")
    paths = (service.jail, *service.files, *((service.record,) if service.record else ()))
    if not all(path.startswith("/") and "\0" not in path for path in paths) or not 1 <= service.workers <= 64:
        raise ValueError(f"{service.name}: paths or workers out of range")
    if service.record and not service.record.endswith(_LOG_NAMES):
        raise ValueError(f"{service.name}: {service.record!r} is no name of a log")
    if service.uid <= 0 or service.gid <= 0:
        raise ValueError(f"{service.name}: no service runs as root")
    return service


def _ports(plain: Any) -> tuple[int, int]:
    first, last = (_typed(item, int) for item in _typed(plain, list))
    return first, last


def _listen(plain: Any) -> Listen:
    nth = _typed(plain.get("nth", 0), int)
    listen = Listen(_typed(plain["kind"], str), _typed(plain["host"], str), _typed(plain["port"], int), nth)
    if listen.kind not in ("udp", "tcp", "unix", "packets") or not 0 <= listen.port <= 65535:
        raise ValueError("bad address")
    return listen
