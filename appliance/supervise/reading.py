"""Have the configuration read by a short-lived, confined child: files go in as descriptors, a plain value comes back.

The supervisor opens the files (only it may) and never looks into them. What comes back is decoded by `service.decode`,
which distrusts it.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import socket
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from appliance import wire
from appliance.confine.plan import Spec
from appliance.errors import StartError
from appliance.observe import tables
from appliance.supervise import folders, service
from appliance.supervise.spawn import spawn

READER_S = 60.0
_LARGEST_ANSWER = 4 << 20
_LONGEST_DRAIN_S = 86400.0
_FIXED_UID = 64619  # Debian keeps 60000-64999 for packages that ask; nobody has this one


@dataclass(frozen=True, slots=True)
class Wiring:
    """The answer of a reader that found a usable configuration."""

    run_dir: str
    state_dir: str
    drain_s: float
    log: str
    required: bool
    services: list[service.Service]
    warnings: list[str]
    groups: tuple[int, int] = (0, 0)  # gid of those who may look, and act; 0 is none


class BadConfiguration(Exception):
    """The configuration cannot be used; `problems` are lines for the operator."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def config_files(path: str) -> list[str]:
    """The main file, and for an appliance.yaml the conf.d/*.yaml beside it, in order of their names."""
    beside = Path(path).parent.glob("conf.d/*.yaml") if Path(path).name == "appliance.yaml" else ()
    return [path, *sorted(str(place) for place in beside if not place.name.startswith("."))]


class Reading:
    """One reader at work. Poll `fileno()`; `feed()` returns True when the answer is complete; then call `result()`."""

    def __init__(self, path: str, name: str) -> None:
        self.deadline = time.monotonic() + READER_S
        self._answer = bytearray()
        with ExitStack() as failed:  # everything that was begun, undone when a later step fails
            with ExitStack() as handed:  # what the child has copies of
                documents = _open_all(config_files(path), name)
                for _, descriptor in documents:
                    handed.callback(os.close, descriptor)
                self._read_end, self._write_end = os.pipe2(os.O_CLOEXEC)
                failed.callback(os.close, self._read_end)
                handed.callback(os.close, self._write_end)
                self._jail = tempfile.mkdtemp(prefix="appliance-reader-")
                failed.callback(shutil.rmtree, self._jail, ignore_errors=True)
                os.chmod(self._jail, 0o555)  # noqa: S103  nobody may write there
                self.child = spawn("reader", 0)
                failed.callback(self.child.channel.close)
                self._process = os.pidfd_open(self.child.pid)
                failed.callback(self._end)
                self._send(documents)
            self._begun = failed.pop_all()

    def fileno(self) -> int:
        """The descriptor to poll for reading."""
        return self._read_end

    def _send(self, documents: list[tuple[str, int]]) -> None:
        table = tables.create("reader.0")
        spec = Spec(
            jail=self._jail,
            promise="reader",
            uid=_FIXED_UID,
            gid=_FIXED_UID,
            writes=False,
            bind_tcp=None,
            nofile=64,
            fsize=-1,
            parent=os.getpid(),
            required=False,
        )
        roles = ("table", *(f"document:{name}" for name, _ in documents), "document:answer")
        settings = {
            "names": [name for name, _ in documents],
            "root": os.geteuid() == 0,
            "uid": os.geteuid(),
            "gid": os.getegid(),
        }
        start = wire.Start("reader", 0, "appliance.reader:prepare", settings, asdict(spec), roles)
        fds = [table, *(descriptor for _, descriptor in documents), self._write_end]
        socket.send_fds(self.child.channel, [wire.pack(start)], fds)
        os.close(table)

    def feed(self) -> bool:
        """Take what is there. True at the end of the answer, or when it grows beyond all measure."""
        data = os.read(self._read_end, 1 << 16)
        self._answer += data
        return not data or len(self._answer) > _LARGEST_ANSWER

    def result(self) -> Wiring:
        """Decode the answer. Raises BadConfiguration, or StartError when the reader failed."""
        try:
            plain = json.loads(bytes(self._answer))
            if plain["problems"]:
                raise BadConfiguration([str(line) for line in plain["problems"]])
            run_dir = _absolute(plain["run_dir"])
            return Wiring(
                run_dir=run_dir,
                state_dir=_absolute(plain["state_dir"]),
                drain_s=_seconds(plain["drain_s"]),
                log=str(plain["log"]),
                required=bool(plain["required"]),
                services=_with_our_sockets(service.decode(plain["services"]), run_dir),
                warnings=[str(line) for line in plain["warnings"]],
                groups=_groups(plain["groups"]),
            )
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise StartError("the settings reader failed; its last words are above") from error

    def _end(self) -> None:
        """Kill the child: one that was taken over would not leave by itself. It may be reaped, so not by its number."""
        try:
            signal.pidfd_send_signal(self._process, signal.SIGKILL)
        except ProcessLookupError:
            pass
        os.close(self._process)

    def close(self) -> None:
        """End the child and let everything go."""
        self._begun.close()


def read_now(path: str, name: str) -> Wiring:
    """Read at start-up, waiting for the answer. Raises BadConfiguration or StartError."""
    reading = Reading(path, name)
    try:
        poll = select.poll()
        poll.register(reading.fileno(), select.POLLIN)
        while time.monotonic() < reading.deadline:
            if poll.poll(1000) and reading.feed():
                return reading.result()
        raise StartError("the settings reader did not answer")
    finally:
        reading.close()
        os.waitpid(reading.child.pid, 0)


def _open_all(paths: list[str], name: str) -> list[tuple[str, int]]:
    opened: list[tuple[str, int]] = []
    try:
        for path in paths:
            # O_NONBLOCK: a FIFO in the place of the file must not stop the supervisor
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            opened.append((path if path != paths[0] or not name else name, descriptor))
    except OSError as error:
        for _, descriptor in opened:
            os.close(descriptor)
        raise BadConfiguration([f"{path}: {error.strerror} (name a file that can be read: -c FILE)"]) from error
    return opened


def _absolute(path: object) -> str:
    if not isinstance(path, str) or not path.startswith("/") or "\0" in path:
        raise ValueError("not an absolute path")
    return path


def _groups(value: object) -> tuple[int, int]:
    if (
        not isinstance(value, list)
        or len(value) != 2
        or not all(type(gid) is int and 0 <= gid < 1 << 31 for gid in value)
    ):
        raise ValueError("not two groups")
    return value[0], value[1]


def _seconds(value: object) -> float:
    seconds = float(str(value))
    if not 0 <= seconds <= _LONGEST_DRAIN_S:  # NaN is not
        raise ValueError("not a time to drain in")
    return seconds


def _with_our_sockets(services: list[service.Service], run_dir: str) -> list[service.Service]:
    """A Unix socket is made over whatever has its name, by root: there are a few names that a reader may say."""
    names = {listen.host for one in services for listen in one.listen if listen.local}
    if names - {f"{run_dir}/{name}" for name in folders.SOCKETS}:
        raise ValueError("a socket outside run_dir")
    return services
