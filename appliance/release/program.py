"""Let a program look at a file: bytes on its standard input, its verdict in its exit code.

Invariant: the program gets no name, no environment, no descriptor of ours but its three pipes, and no network; as root
an account of its own. It ends with the verdict or with the time, and with it everything that it started.
"""

from __future__ import annotations

import fcntl
import math
import os
import resource
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from appliance.confine import held, libc
from appliance.release import folders, verdict
from appliance.release.verdict import Verdict

_KEPT = 4096  # bytes of its output that are kept; the rest is read and dropped
_LIMITS = {  # for a scanner that loads its signatures and unpacks archives, and not for one that was taken over
    resource.RLIMIT_CORE: 0,
    resource.RLIMIT_NOFILE: 256,
    resource.RLIMIT_NPROC: 64,
    resource.RLIMIT_FSIZE: 4 << 30,
    resource.RLIMIT_AS: 8 << 30,
}

_ALONE = libc.CLONE_NEWNET | libc.CLONE_NEWIPC | libc.CLONE_NEWPID


@dataclass(frozen=True, slots=True)
class Account:
    """Who the program runs as when we are root."""

    uid: int
    gid: int


def scan(command: Sequence[str], account: Account | None, timeout: float, fd: int, size: int) -> Verdict:
    """The verdict about the first `size` bytes of an open file, after `timeout` seconds at the latest.

    Whatever goes wrong with the program is a verdict of kind ERROR; raises ReleaseError for the file alone.
    """
    deadline = time.monotonic() + timeout
    pipe = _Pipe()
    try:
        try:
            process = _start(command, account, timeout, pipe)
        except OSError as error:
            return verdict.error(f"the scanner cannot be started: {error.strerror}")
        except subprocess.SubprocessError:  # all that is known of an error between fork and exec
            return verdict.error("the scanner cannot be confined (run as root, or allow user namespaces)")
        try:
            run = _Run(process, pipe, deadline)
            return run.converse(fd, size) or verdict.error(f"no verdict within {timeout:g} s")
        finally:
            _end(process)
    finally:
        pipe.close()


def _start(command: Sequence[str], account: Account | None, timeout: float, pipe: _Pipe) -> subprocess.Popen[bytes]:
    # preexec_fn is safe: the command line has one thread. /proc/self/fd would tell a path, so a pipe it is.
    return subprocess.Popen(  # noqa: S603 (the operator's own words, and no shell)
        [*command],
        stdin=pipe.theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={},
        cwd="/",
        start_new_session=True,
        preexec_fn=_confined(account, timeout),  # noqa: PLW1509
    )


def _confined(account: Account | None, timeout: float) -> Callable[[], None]:
    seconds = math.ceil(timeout) + 1

    def confine() -> None:
        """Runs in the child: what fails here keeps the program from starting."""
        # an ordinary user may make the other namespaces only inside a user namespace
        libc.unshare(_ALONE if account else _ALONE | libc.CLONE_NEWUSER)
        _become_two()
        held.limit({**_LIMITS, resource.RLIMIT_CPU: seconds})
        if account:
            held.account(account.uid, account.gid)
        libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)
        libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGKILL)  # after the change of uid, which clears it

    return confine


def _become_two() -> None:
    """Only a child is in the new process namespace: it goes on, as the first in there, whose end ends all others.

    We wait for it and end as it did. What one that was taken over leaves running could lie in the name of the next one.
    """
    libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGKILL)
    pid = os.fork()
    if not pid:
        return
    os.closerange(0, 65536)  # the ends of the pipes belong to the program alone
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code < 0:
        os.kill(os.getpid(), -code)
    os._exit(code if code >= 0 else 128 - code)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End it, and with it its process namespace; before it is reaped nobody else can have its number."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # it changed its group, or is gone
        process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


class _Pipe:
    """What the program reads. Both ends stay here: what it has left in there when it has ended, it never saw.

    That a pipe took the bytes says nothing: it takes a small upload whole, whether or not anybody reads.
    """

    def __init__(self) -> None:
        self.theirs, self.ours = os.pipe()
        os.set_blocking(self.ours, False)

    @property
    def unread(self) -> int:
        """Bytes that nobody has read."""
        return int(struct.unpack("i", fcntl.ioctl(self.theirs, termios.FIONREAD, bytes(4)))[0])

    def finish(self) -> None:
        """No more is to come; may be called twice."""
        if self.ours >= 0:
            os.close(self.ours)
            self.ours = -1

    def close(self) -> None:
        """Let both ends go."""
        self.finish()
        os.close(self.theirs)


class _Run:
    """The conversation with one process: feed it, hear it, until it has ended."""

    def __init__(self, process: subprocess.Popen[bytes], pipe: _Pipe, deadline: float) -> None:
        assert process.stdout is not None
        self._process, self._pipe, self._deadline = process, pipe, deadline
        self._in, self._out = pipe.ours, process.stdout.fileno()
        os.set_blocking(self._out, False)
        self._said = b""
        self._rest = memoryview(b"")
        self._sent = False

    def converse(self, fd: int, size: int) -> Verdict | None:
        """None when the time is over. Raises ReleaseError and OSError for the file."""
        source = folders.blocks(fd, size)
        ended = os.pidfd_open(self._process.pid)
        poll = select.poll()
        poll.register(ended, select.POLLIN)
        poll.register(self._in, select.POLLOUT)
        poll.register(self._out, select.POLLIN)
        try:
            while (left := self._deadline - time.monotonic()) > 0:
                for ready, _event in poll.poll(math.ceil(left * 1000)):
                    if ready == ended:
                        self._hear()
                        complete = self._sent and not self._pipe.unread
                        return verdict.of_exit(_status(self._process.pid), self._said, complete=complete)
                    if ready == self._out and not self._hear():
                        poll.unregister(self._out)
                    if ready == self._in and not self._feed(source):
                        poll.unregister(self._in)
                        self._pipe.finish()  # the end of file it waits for
        finally:
            os.close(ended)
        return None

    def _feed(self, source: Iterator[bytes]) -> bool:
        """Write what it takes; False when there is no more to be written. Who reads no more is waited for."""
        try:
            if not self._rest:
                self._rest = memoryview(next(source, b""))
            if not self._rest:
                self._sent = True
                return False
            self._rest = self._rest[os.write(self._in, self._rest) :]
        except BlockingIOError:
            pass
        return True

    def _hear(self) -> bool:
        """Read what it says; False at the end of it."""
        try:
            for _ in range(64):
                data = os.read(self._out, 1 << 16)
                self._said = (self._said + data)[:_KEPT]
                if not data:
                    return False
        except BlockingIOError:
            pass
        return True


def _status(pid: int) -> int:
    """How it ended, without reaping it: the exit code, or minus the signal."""
    found = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert found is not None
    return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status
