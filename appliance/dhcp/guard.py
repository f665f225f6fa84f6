"""The process between the supervisor's child and dnsmasq: it starts dnsmasq, waits, and when it ends dnsmasq ends.

A child of ours that is confined can send no signal to a process that was born before its own confinement (Landlock,
ABI 6), and the kernel's death signal is one. So dnsmasq is the child of a process that lives in the same domain of
Landlock: that one holds one end of a pipe, and ends when the other end is closed, whatever closed it.
"""

from __future__ import annotations

import os
import select
import signal
from dataclasses import dataclass
from typing import NoReturn

from appliance.confine import foreign, libc, seccomp
from appliance.confine.foreign import Foreign

_FAILED = 70


@dataclass(frozen=True, slots=True)
class Guarded:
    """What the parent keeps: closing `life` ends dnsmasq; `said` is what it says, and ends when it has ended."""

    pid: int
    life: int
    said: int


def start(program: Foreign, text: str) -> Guarded:
    """Start a program with `text` on its standard input. As root, before this process is confined; one thread only."""
    hold, life = os.pipe2(os.O_CLOEXEC)
    said, say = os.pipe2(os.O_CLOEXEC)
    feed = _document(text)
    pid = os.fork()
    if not pid:
        _guard(program, hold, feed, say)
    for descriptor in (hold, say, feed):
        os.close(descriptor)
    return Guarded(pid, life, said)


def _document(text: str) -> int:
    """A descriptor that reads `text` and then ends; nobody else can open it."""
    descriptor = os.memfd_create("configuration", os.MFD_CLOEXEC)
    os.write(descriptor, text.encode())
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _guard(program: Foreign, hold: int, feed: int, say: int) -> NoReturn:
    """The forked process: never returns."""
    code = _FAILED
    try:
        os.dup2(feed, 0)
        os.dup2(say, 1)
        os.dup2(say, 2)
        kept = os.dup2(hold, 3)
        os.closerange(4, 65536)
        foreign.lock(program)
        waiter = seccomp.assemble("guard", seccomp.machine())
        parent = os.getpid()
        pid = os.fork()
        if not pid:
            _child(program, parent)
        ended = os.pidfd_open(pid)
        for descriptor in (0, 1, 2):
            os.close(descriptor)
        libc.capset_none()
        seccomp.load(waiter)
        code = _wait(kept, ended)
    except BaseException as error:
        os.write(2, f"cannot be started: {error}\n".encode())
    finally:
        os._exit(code)


def _child(program: Foreign, parent: int) -> NoReturn:
    try:
        libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == parent:
            foreign.become(program)
    except BaseException as error:
        os.write(2, f"cannot be started: {error}\n".encode())
    finally:
        os._exit(_FAILED)


def _wait(life: int, ended: int) -> int:
    poll = select.poll()
    poll.register(life, select.POLLIN)
    poll.register(ended, select.POLLIN)
    return 0 if any(ready == life for ready, _event in poll.poll()) else _FAILED
