"""Make a child: fork + exec of an isolated Python with exactly four descriptors, in a session of its own."""

from __future__ import annotations

import os
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

_BOOT = (
    "import sys; sys.path[:] = sys.argv[1].split(':'); "
    "import importlib; sys.exit(importlib.import_module(sys.argv[2]).main(sys.argv[3:]))"
)
_CHANNEL = 3
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "TZ": "UTC0"}


@dataclass(frozen=True, slots=True)
class Child:
    """A process we made, and our end of its channel."""

    pid: int
    channel: socket.socket


def import_path() -> str:
    """Where a child finds our package and the libraries: our own path without the folder of the script."""
    ours = str(Path(__file__).resolve().parent.parent.parent)
    rest = [entry for entry in sys.path if entry and Path(entry).exists() and Path(entry).name != "bin"]
    return ":".join(dict.fromkeys([ours, *rest]))


def python_argv(module: str, *arguments: str) -> list[str]:
    """The command line that runs `module.main(arguments)` in an isolated Python with our import path."""
    # -S: no site module, so that nothing but the path we name decides what is loaded
    return [sys.executable, "-I", "-S", "-c", _BOOT, import_path(), module, *arguments]


def spawn(name: str, index: int) -> Child:
    """Start a child of service `name`. It has /dev/null, our standard output and error, and its channel; nothing else.

    Raises OSError when no process or descriptor can be had.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    # A descriptor equal to its target would keep its close-on-exec flag, so the source stands above all targets.
    high = os.dup(theirs.fileno()) if theirs.fileno() == _CHANNEL else -1
    source = high if high >= 0 else theirs.fileno()
    try:
        argv = python_argv("appliance.child.birth", name, str(index))
        pid = os.posix_spawn(
            argv[0],
            argv,
            _ENVIRONMENT,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, source, _CHANNEL),
            ],
            setsid=True,
            setsigmask=[],
            setsigdef=[signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGCHLD],
        )
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
        if high >= 0:
            os.close(high)
    ours.setblocking(False)
    return Child(pid, ours)
