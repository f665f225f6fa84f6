"""Run apt-get and gpgv for `appliance boot`: confined, as an account of their own, for a bounded time."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from appliance.boot.records import BootError
from appliance.supervise.spawn import python_argv

_MOST_SAID = 8 << 20  # bytes of output that are kept


@dataclass(frozen=True, slots=True)
class Said:
    """How a program ended: its exit code (minus the signal), and what it wrote."""

    code: int
    out: bytes
    err: bytes


def run(
    command: Sequence[str],
    account: tuple[int, int],
    work: str,
    *,
    network: bool,
    seconds: float,
    fds: Sequence[int] = (),
    environment: Mapping[str, str] | None = None,
    fsize: int = 1 << 40,
) -> Said:
    """Run a program in its folder, which is all it may write. Raises BootError when it does not end, and OSError.

    `fds` are open in it under the same numbers. Without `network` it has none at all.
    """
    order = {
        "uid": account[0],
        "gid": account[1],
        "work": work,
        "network": network,
        "cpu_s": int(seconds),
        "fsize": fsize,
        "command": list(command),
        "environment": dict(environment or {}),
    }
    process = subprocess.Popen(  # noqa: S603  no shell; the command is ours
        python_argv("appliance.confine.program", json.dumps(order)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=tuple(fds),
        start_new_session=True,
        env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
    )
    try:
        out, err = _hear(process, time.monotonic() + seconds, os.path.basename(command[0]))
        return Said(process.wait(10), out, err)
    finally:
        _end(process)


def _hear(process: subprocess.Popen[bytes], deadline: float, name: str) -> tuple[bytes, bytes]:
    assert process.stdout is not None and process.stderr is not None
    heard = {process.stdout.fileno(): bytearray(), process.stderr.fileno(): bytearray()}
    poll = select.poll()
    for fd in heard:
        poll.register(fd, select.POLLIN)
    left = set(heard)
    while left:
        if (remaining := deadline - time.monotonic()) <= 0:
            raise BootError(f"{name} did not end in time")
        for fd, _event in poll.poll(remaining * 1000):
            data = os.read(fd, 1 << 16)
            if len(heard[fd]) < _MOST_SAID:
                heard[fd] += data
            if not data:
                poll.unregister(fd)
                left.discard(fd)
    out, err = heard.values()
    return bytes(out), bytes(err)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End what is left of it and of its session; before it is reaped nobody else can have its number."""
    if process.returncode is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            process.kill()
        process.wait()
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
