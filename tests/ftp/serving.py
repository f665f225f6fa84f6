"""Real FTP workers and custodians, forked, with contexts made by hand; this process plays the supervisor."""

from __future__ import annotations

import errno
import ftplib
import io
import mmap
import os
import select
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from appliance import wire
from appliance.child.context import Channel, Context
from appliance.observe import tables
from appliance.settings import plain
from appliance.settings.box import Box, of_incoming
from appliance.settings.ftp import ChecksumSettings, FtpLimits, FtpSettings, IncomingSettings

SECONDS = 60.0
_ports = iter(range(20000 + os.getpid() % 200 * 100, 65000, 40))


def passive_range(count: int = 40) -> str:
    """A range of passive ports that no other test uses; below the range of ephemeral ports."""
    first = next(_ports)
    return f"{first}-{first + count - 1}"


def settings(**changes: Any) -> FtpSettings:
    """Settings for a test; `limits`, `incoming` and `checksums` may be given as dicts of what differs."""
    limits = FtpLimits(**{"sessions_per_client": 3000, **changes.pop("limits", {})})
    incoming = IncomingSettings(**changes.pop("incoming", {}))
    checksums = ChecksumSettings(**changes.pop("checksums", {}))
    known = {"listen": ("127.0.0.1:0",), "passive_ports": passive_range()}
    return FtpSettings(**{**known, **changes}, limits=limits, incoming=incoming, checksums=checksums)


def until(fact: Callable[[], Any], seconds: float = SECONDS) -> Any:
    """Wait for a fact of another process that no descriptor announces; returns it."""
    deadline = time.monotonic() + max(seconds, SECONDS)
    while not (found := fact()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        select.select([], [], [], 0.01)
    return found


@dataclass
class Process:
    """A forked child of the appliance: its channel, counters and log."""

    pid: int
    channel: socket.socket
    reader: tables.Reader
    log: Path
    parent: ActiveParent | None = None

    @property
    def offences(self) -> list[wire.Offence]:
        """What it has asked bans for."""
        assert self.parent is not None
        return self.parent.offences

    def counters(self) -> dict[str, int]:
        return self.reader.snapshot()

    def log_text(self) -> str:
        return self.log.read_text()

    def tell(self, message: wire.Message, fds: tuple[int, ...] = ()) -> None:
        socket.send_fds(self.channel, [wire.pack(message)], list(fds))

    def wait(self, seconds: float = SECONDS) -> int:
        """Its exit status; it must end within that time."""
        return int(until(lambda: self._reaped(), seconds))

    def _reaped(self) -> int:
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:
            return 256
        return status + 256 if pid else 0

    def kill(self) -> None:
        try:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass
        self.channel.close()


@dataclass
class ActiveParent:
    """Answers the one privileged request as the supervisor does: connects to the peer of the control socket."""

    channel: socket.socket
    refuse: int = 0
    source: str = ""
    asked: int = 0
    errors: list[str] = field(default_factory=list)
    offences: list[wire.Offence] = field(default_factory=list)

    def serve(self) -> None:
        while True:
            try:
                data, fds, _flags, _peer = socket.recv_fds(self.channel, wire.MAX_MESSAGE, 4)
            except OSError:
                return
            if not data:
                return
            message = wire.parse(data, from_child=True)
            if isinstance(message, wire.Request):
                self._answer(message, fds)
            elif isinstance(message, wire.Offence):
                self.offences.append(message)

    def _answer(self, message: wire.Request, fds: list[int]) -> None:
        self.asked += 1
        control = socket.socket(fileno=fds[0])
        try:
            if self.refuse:
                socket.send_fds(self.channel, [wire.pack(wire.Reply(message.id, self.refuse))], [])
                return
            with socket.socket(control.family, socket.SOCK_STREAM) as data:
                data.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                data.setblocking(False)
                data.bind((control.getsockname()[0], 0))
                data.connect_ex((control.getpeername()[0], message.argument))
                socket.send_fds(self.channel, [wire.pack(wire.Reply(message.id, 0))], [data.fileno()])
        except OSError as error:  # the client is gone
            self.errors.append(str(error))
            reply = wire.Reply(message.id, error.errno or errno.EIO)
            socket.send_fds(self.channel, [wire.pack(reply)], [])
        finally:
            control.close()


def start(
    name: str,
    main: Callable[[Context], Any],
    values: dict[str, Any],
    folder: Path,
    log: Path,
    listeners: tuple[socket.socket, ...] = (),
    links: dict[str, socket.socket] | None = None,
    before: Callable[[], None] = lambda: None,
    documents: dict[str, int] | None = None,
) -> Process:
    """Fork a child that works in `folder`; `before` runs in it, to limit it further."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    table = tables.create(name)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            ours.close()
            err = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(err, 2)
            os.chdir(folder)
            context = Context(name, 0, values, Channel(theirs), tables.Counters(table), list(listeners), links or {})
            context.documents.update(documents or {})
            worker = main(context)
            before()
            worker.run()
            status = 0
        finally:
            os._exit(status)
    theirs.close()
    reader = tables.Reader(table)
    os.close(table)
    return Process(pid, ours, reader, log)


def listener(family: int = socket.AF_INET, host: str = "127.0.0.1") -> socket.socket:
    """A listening socket as the supervisor makes one."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1 if host != "::" else 0)
    sock.bind((host, 0))
    sock.listen(1024)
    return sock


@dataclass
class Server:
    """A running FTP worker, its custodian if it has one, and where it listens."""

    root: Path
    port: int
    worker: Process
    custodian: Process | None = None
    host: str = "127.0.0.1"
    clients: list[ftplib.FTP] = field(default_factory=list)

    @property
    def box(self) -> Path:
        return self.root / "incoming"

    def ftp(self, **options: Any) -> ftplib.FTP:
        """A logged-in ftplib client."""
        client = ftplib.FTP(timeout=SECONDS, encoding="latin-1", **options)
        self.clients.append(client)
        client.connect(self.host, self.port)
        client.login()
        return client

    def raw(self, log_in: bool = True) -> Raw:
        """A client that speaks lines."""
        return Raw(self.host, self.port, log_in)


class Raw:
    """A control connection by hand."""

    def __init__(self, host: str, port: int, log_in: bool = True) -> None:
        self.sock = socket.create_connection((host, port), timeout=SECONDS)
        self.file = self.sock.makefile("rb")
        self.host = host
        self.datas: list[socket.socket] = []
        self.greeting = self.reply()
        if log_in:
            assert self.ask("USER anonymous").startswith("331")
            assert self.ask("PASS me@example.org").startswith("230")

    def say(self, line: str | bytes) -> None:
        self.sock.sendall((line if isinstance(line, bytes) else line.encode()) + b"\r\n")

    def reply(self) -> str:
        """One whole reply, lines joined; "" at the end of the connection."""
        lines = [self.file.readline().decode("latin-1")]
        if lines[0][3:4] == "-":
            while lines[-1][:4] != lines[0][:3] + " " and lines[-1]:
                lines.append(self.file.readline().decode("latin-1"))
        return "".join(lines)

    def ask(self, line: str | bytes) -> str:
        self.say(line)
        return self.reply()

    def passive(self) -> socket.socket:
        """A connected data socket (EPSV)."""
        reply = self.ask("EPSV")
        assert reply.startswith("229"), reply
        port = int(reply.split("|||")[1].split("|")[0])
        self.datas.append(socket.create_connection((self.host, port), timeout=SECONDS))
        return self.datas[-1]

    def fetch_huge(self, root: Path, kind: str = "I") -> socket.socket:
        """Begin to fetch a file that no client has room for: a transfer that lasts."""
        with open(root / "huge", "wb") as huge:
            huge.truncate(1 << 30)
        self.ask(f"TYPE {kind}")
        data = self.passive()
        assert self.ask("RETR huge").startswith("150")
        return data

    def get(self, command: str | bytes) -> bytes:
        """The data of a command that ends well."""
        data = self.passive()
        assert self.ask(command).startswith("150")
        content = read_all(data)
        end = self.reply()
        assert end.startswith("226"), end
        return content

    def closed(self) -> bool:
        """True when the server has closed the connection, in whatever way."""
        try:
            return self.file.read(1) == b""
        except ConnectionError:
            return True

    def close(self) -> None:
        for data in self.datas:
            data.close()
        self.file.close()
        self.sock.close()

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


class Turns:
    """How long the turns of a worker's loop take, in seconds of processor time: a busy machine makes none longer.

    `watch` is to be run in the worker, before it runs.
    """

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 8)

    @property
    def longest_s(self) -> float:
        return float(struct.unpack("=d", self._memory[:8])[0])

    def watch(self) -> None:
        from appliance.ftp.worker import Worker

        inner = Worker._turn

        def turn(worker: Worker) -> None:
            began = time.thread_time()
            inner(worker)
            self._memory[:8] = struct.pack("=d", max(self.longest_s, time.thread_time() - began))

        Worker._turn = turn  # type: ignore[method-assign]


def pour(sock: socket.socket, mebibytes: int) -> None:
    """Send until the server will have no more; it must refuse before that many MiB. Raises OSError."""
    for _ in range(mebibytes):
        sock.sendall(b"x" * (1 << 20))


def read_all(sock: socket.socket) -> bytes:
    """Everything until the end of the connection, which is closed then."""
    pieces = []
    with sock:
        while piece := sock.recv(1 << 20):
            pieces.append(piece)
    return b"".join(pieces)


def store(client: ftplib.FTP, name: str, content: bytes) -> str:
    """STOR in TYPE I; the last reply."""
    return client.storbinary(f"STOR {name}", io.BytesIO(content))


@contextmanager
def custodian(
    folder: Path, incoming: IncomingSettings | Box, log: Path, before: Callable[[], None] = lambda: None
) -> Iterator[Process]:
    """A custodian over `folder`."""
    from appliance.custody.worker import prepare

    folder.mkdir(exist_ok=True, mode=0o700)
    box = of_incoming(incoming) if isinstance(incoming, IncomingSettings) else incoming
    values = {"box": plain.encode(box), "log": "text"}
    process = start("custody", prepare, values, folder, log, before=before)
    try:
        yield process
    finally:
        process.kill()


def link(keeper: Process, slot: int = 0) -> socket.socket:
    """A new link to a custodian: our end; the other is handed to it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    keeper.tell(wire.Link(slot), (theirs.fileno(),))
    theirs.close()
    return ours


@contextmanager
def server(
    root: Path,
    config: FtpSettings | None = None,
    *,
    family: int = socket.AF_INET,
    host: str = "127.0.0.1",
    before: Callable[[], None] = lambda: None,
    custody_before: Callable[[], None] = lambda: None,
    box: Path | None = None,
    workers: int = 1,
    more: tuple[socket.socket, ...] = (),
    documents: dict[str, int] | None = None,
) -> Iterator[Server]:
    """An FTP worker over `root`, with a custodian when `incoming` is on, and `more` listeners than its own."""
    from appliance.ftp.worker import prepare

    config = config or settings()
    root.mkdir(exist_ok=True)
    logs = root.parent
    sock = listener(family, host)
    values = {"ftp": plain.encode(config), "log": "text", "workers": workers}
    keeper_context = None
    links: dict[str, socket.socket] = {}
    keeper = None
    if config.incoming.enabled:
        folder = box or root / config.incoming.path
        keeper_context = custodian(folder, config.incoming, logs / "custody.log", custody_before)
        keeper = keeper_context.__enter__()
        links["custody"] = link(keeper)
    process = start("ftp", prepare, values, root, logs / "ftp.log", (sock, *more), links, before, documents)
    for ours in links.values():
        ours.close()
    parent = ActiveParent(process.channel)
    process.parent = parent
    thread = threading.Thread(target=parent.serve, daemon=True)
    thread.start()
    at = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    try:
        running = Server(root, sock.getsockname()[1], process, keeper, at)
        yield running
        for client in running.clients:
            client.close()
    finally:
        sock.close()
        process.kill()
        thread.join(SECONDS)
        if keeper_context is not None:
            keeper_context.__exit__(None, None, None)


__all__ = ["Raw", "Server", "custodian", "link", "pour", "read_all", "replace", "server", "settings", "store", "until"]
