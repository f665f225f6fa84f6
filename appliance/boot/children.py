"""Start the short-lived children of `appliance boot`, each confined before it sees anything, and talk with them."""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Any

from appliance import wire
from appliance.boot.records import BootError
from appliance.boot.talk import Talk
from appliance.confine.plan import Spec
from appliance.confine.report import Layer, Report
from appliance.errors import WireError
from appliance.observe import tables
from appliance.supervise.spawn import spawn

_START_S = 60.0
_END_S = 5.0


@dataclass(frozen=True, slots=True)
class Kind:
    """What one kind of child is: the name of its promise too."""

    name: str
    main: str
    nofile: int = 256
    writes: bool = False
    connect_tcp: bool = False


PUBLISHER = Kind("publisher", "appliance.boot.publisher:prepare")
UNPACKER = Kind("unpacker", "appliance.boot.unpacker:prepare", writes=True)
FETCHER = Kind("fetcher", "appliance.boot.fetcher:prepare", nofile=1024, writes=True, connect_tcp=True)


@dataclass(frozen=True, slots=True)
class Place:
    """Where it lives: its account, its jail, and the open folders it keeps (descriptor, may write).

    `landlock`: that alone locks it in, because who starts it may neither change accounts nor make a namespace.
    """

    uid: int
    gid: int
    jail: str
    required: bool
    folders: Mapping[str, tuple[int, bool]] = field(default_factory=dict)
    landlock: bool = False


_ALONE = Layer.LANDLOCK | Layer.SECCOMP | Layer.CAPABILITIES | Layer.NO_NEW_PRIVS  # what takes the place of a chroot


class Child:
    """A child that serves. A context: at its end the child is gone.

    It starts while we go on. Whatever it is told or asked waits until it is confined and has greeted us.
    """

    def __init__(self, kind: Kind, place: Place, settings: Mapping[str, Any]) -> None:
        """Start it. Raises BootError and OSError."""
        self._kind, self._place = kind, place
        self._report: Report | None = None
        with ExitStack() as failed:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
            with theirs:
                failed.callback(ours.close)
                self._child = spawn(kind.name, 0)
                self._pid = -1
                failed.callback(self._end)
                self._pid = os.pidfd_open(self._child.pid)
                self._start(place, settings, theirs)
            self._talk = Talk(ours)
            self._open = failed.pop_all()

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _tb: TracebackType | None
    ) -> None:
        if kind is None:
            self._talk.close()  # it comes to its end by itself
            select.select([self._pid], [], [], _END_S)
        self._open.close()

    def _start(self, place: Place, settings: Mapping[str, Any], talk: socket.socket) -> None:
        spec = Spec(
            jail=place.jail,
            promise=self._kind.name,
            uid=place.uid,
            gid=place.gid,
            writes=self._kind.writes,
            bind_tcp=None,
            nofile=self._kind.nofile,
            fsize=-1,
            parent=os.getpid(),
            required=place.required and not place.landlock,
            connect_tcp=self._kind.connect_tcp,
        )
        roles = ["table", "document:talk"]
        table = tables.create(f"{self._kind.name}.0")
        fds = [table, talk.fileno()]
        for name, (fd, writable) in place.folders.items():
            roles.append(f"{'writable' if writable else 'folder'}:{name}")
            fds.append(fd)
        start = wire.Start(self._kind.name, 0, self._kind.main, {"log": "text", **settings}, asdict(spec), tuple(roles))
        try:
            socket.send_fds(self._child.channel, [wire.pack(start)], fds)
        finally:
            os.close(table)

    def ready(self) -> Report:
        """Wait until it takes orders; how it is confined. Raises BootError, also for a greeting that is a refusal."""
        if self._report is None:
            report = self._confined(self._place)
            self._heard(None)
            self._report = report
        return self._report

    def _confined(self, place: Place) -> Report:
        poll = select.poll()
        poll.register(self._child.channel, select.POLLIN)
        deadline = time.monotonic() + _START_S
        while not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            if time.monotonic() >= deadline:
                raise BootError(f"the {self._kind.name} does not start")
        try:
            message = wire.parse(self._child.channel.recv(wire.MAX_MESSAGE), from_child=True)
        except (WireError, OSError):
            message = None
        if not isinstance(message, wire.Ready):
            raise BootError(f"the {self._kind.name} does not start; its last words are above")
        report = Report(Layer(message.layers), message.landlock_abi, message.syscalls)
        if place.landlock and report.layers & _ALONE != _ALONE:
            raise BootError(
                f"the {self._kind.name} cannot be locked in by Landlock, which this kernel lacks (leave out --landlock)"
            )
        return report

    def hear(self, seconds: float | None = None) -> dict[str, Any]:
        """What it says next. Raises BootError for a refusal, for silence, and when it is gone."""
        self.ready()
        return self._heard(seconds)

    def _heard(self, seconds: float | None) -> dict[str, Any]:
        try:
            heard = self._talk.receive(seconds)
        except OSError as error:
            raise BootError(f"cannot hear the {self._kind.name}: {error.strerror}") from error
        if heard is None:
            raise BootError(f"the {self._kind.name} ended too early; its last words are above")
        value, fds = heard
        for fd in fds:
            os.close(fd)  # none of them has anything to give us
        if "error" in value:
            raise BootError(str(value["error"])[:2000])
        return value

    def say(self, value: dict[str, Any], fds: tuple[int, ...] = ()) -> None:
        """Tell it something. Raises BootError when it is gone."""
        self.ready()
        try:
            self._talk.send(value, fds)
        except OSError as error:
            raise BootError(f"the {self._kind.name} is gone: {error.strerror}") from error

    def ask(self, value: dict[str, Any], fds: tuple[int, ...] = (), seconds: float | None = None) -> dict[str, Any]:
        """Say it, and hear the answer."""
        self.say(value, fds)
        return self.hear(seconds)

    def fileno(self) -> int:
        """Readable when there is something to hear."""
        return self._talk.fileno()

    def _end(self) -> None:
        """Kill it if it is still there, and reap it."""
        self._child.channel.close()
        if self._pid >= 0:
            try:
                signal.pidfd_send_signal(self._pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            os.close(self._pid)
        os.waitpid(self._child.pid, 0)
