"""Have the configuration read by a short-lived, confined child: files go in as descriptors, a plain value comes back.

The supervisor opens the files (only it may) and never looks into them. What comes back is decoded by `service.decode`,
which distrusts it.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import socket
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from appliance import wire
from appliance.confine.plan import Spec
from appliance.errors import StartError
from appliance.observe import tables
from appliance.supervise import service
from appliance.supervise.spawn import spawn

READER_S = 20.0
_LARGEST_ANSWER = 4 << 20
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


class BadConfiguration(Exception):
    """The configuration cannot be used; `problems` are lines for the operator."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def config_files(path: str) -> list[str]:
    """The main file, and for an appliance.yaml the conf.d/*.yaml beside it, in order of their names."""
    extra = (
        sorted(str(p) for p in Path(path).parent.glob("conf.d/*.yaml")) if Path(path).name == "appliance.yaml" else []
    )
    return [path, *extra]


class Reading:
    """One reader at work. Poll `fileno()`; `feed()` returns True when the answer is complete; then call `result()`."""

    def __init__(self, path: str, name: str) -> None:
        self.deadline = time.monotonic() + READER_S
        self._answer = bytearray()
        self._jail = tempfile.mkdtemp(prefix="appliance-reader-")
        os.chmod(self._jail, 0o555)  # noqa: S103  nobody may write there
        documents = _open_all(config_files(path), name)
        answer, self._write_end = os.pipe2(os.O_CLOEXEC)
        self._read_end = answer
        try:
            self.child = spawn("reader", 0)
            self._send(documents)
        finally:
            os.close(self._write_end)
            for _, descriptor in documents:
                os.close(descriptor)

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
            return Wiring(
                run_dir=_absolute(plain["run_dir"]),
                state_dir=_absolute(plain["state_dir"]),
                drain_s=float(plain["drain_s"]),
                log=str(plain["log"]),
                required=bool(plain["required"]),
                services=service.decode(plain["services"]),
                warnings=[str(line) for line in plain["warnings"]],
            )
        except (ValueError, KeyError, TypeError) as error:
            raise StartError("the settings reader failed; its last words are above") from error

    def close(self) -> None:
        """Let everything go; the child ends with its channel."""
        self.child.channel.close()
        os.close(self._read_end)
        shutil.rmtree(self._jail, ignore_errors=True)


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
            opened.append((path if path != paths[0] or not name else name, os.open(path, os.O_RDONLY | os.O_CLOEXEC)))
    except OSError as error:
        for _, descriptor in opened:
            os.close(descriptor)
        raise BadConfiguration([f"{path}: {error.strerror} (name a file that can be read: -c FILE)"]) from error
    return opened


def _absolute(path: object) -> str:
    if not isinstance(path, str) or not path.startswith("/"):
        raise ValueError("not an absolute path")
    return path
