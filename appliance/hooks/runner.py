"""The process that runs the operator's programs, beside the worker that hears what strangers did.

It is forked before the worker is locked in, and held by confine.hook. It knows the programs from its birth; an order
names one by number and brings what stands on its standard input. Each run has a process that watches it: it ends the
program when its time is over, and with the program everything that it started, also what left its process group.
Invariant: no byte of an event is ever in an argument, the environment or a name; nothing outlives its run, nor the
runner's socket.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from appliance.confine import hook, libc
from appliance.confine.hook import Hold
from appliance.errors import ConfinementError, StartError, WireError
from appliance.hooks.orders import MESSAGE_MAX, OUTPUT_MAX, READY, End, Order, Result, order_of, pack_result
from appliance.settings.hooks import Hook

_BIRTH_S = 20.0
_END_S = 10.0  # for which processes of a run that is over are looked for
_FAILED = 70
_PIECE = 1 << 16


@dataclass(frozen=True, slots=True)
class Programs:
    """The programs, by number, and how they are held."""

    hooks: Sequence[Hook]
    held: Hold


def start(programs: Programs) -> socket.socket:
    """Fork the runner; returns our end. Before this process is confined, and while it has one thread.

    Raises StartError when it cannot be held.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if not pid:
        _be(programs, theirs.fileno())
    theirs.close()
    ours.settimeout(_BIRTH_S)
    try:
        said = ours.recv(MESSAGE_MAX)
    except OSError as error:
        said = str(error).encode()
    if said != READY:
        ours.close()
        raise StartError(f"observe.hooks: {said.decode('utf-8', 'replace') or 'the runner died'}")
    ours.setblocking(False)
    return ours


def _be(programs: Programs, descriptor: int) -> NoReturn:
    """The forked process: never returns."""
    code = _FAILED
    try:
        null = os.open("/dev/null", os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(null, standard)
        os.dup2(descriptor, 3, inheritable=False)
        os.closerange(4, 65536)
        os.umask(0o077)
        sock = socket.socket(fileno=3)
        sock.setblocking(True)
        try:
            hook.hold(programs.held)
            libc.prctl(hook.PR_SET_CHILD_SUBREAPER, 1)
        except (OSError, ConfinementError) as error:
            sock.send(str(error).encode()[:1000])
        else:
            sock.send(READY)
            _Runner(programs, sock).serve()
            code = 0
    finally:
        os._exit(code)


class _Runner:
    """Takes orders until nobody gives any. `life` is a pipe whose end tells the watchers that it is gone."""

    def __init__(self, programs: Programs, sock: socket.socket) -> None:
        self._programs, self._sock = programs, sock
        self._life, self._mine = os.pipe()
        self._watchers: dict[int, tuple[int, int]] = {}  # pidfd -> pid, run
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)

    def serve(self) -> None:
        """Until the other end is closed; then nothing is left."""
        going = True
        while going or self._watchers:
            for descriptor, _event in self._poll.poll():
                if descriptor in self._watchers:
                    self._reap(descriptor)
                elif not self._order():
                    going = False
                    self._poll.unregister(self._sock)
                    os.close(self._mine)

    def _order(self) -> bool:
        try:
            message = self._sock.recv(MESSAGE_MAX)
            if not message:
                return False
            order = order_of(message)
        except (OSError, WireError):
            return False
        try:
            pid = os.fork()
        except OSError as error:
            self._say(Result(order.run, End.NOT_STARTED, error.errno or errno.EAGAIN, 0, b""))
            return True
        if not pid:
            self._watch(order)
        watched = os.pidfd_open(pid)
        self._watchers[watched] = (pid, order.run)
        self._poll.register(watched, select.POLLIN)
        return True

    def _watch(self, order: Order) -> NoReturn:
        code = _FAILED
        try:
            os.close(self._mine)
            libc.prctl(hook.PR_SET_CHILD_SUBREAPER, 1)
            result = _Run(self._programs.hooks[order.hook], self._programs.held, self._life).go(order)
            self._say(result)
            code = 0
        finally:
            os._exit(code)

    def _reap(self, descriptor: int) -> None:
        pid, run = self._watchers.pop(descriptor)
        self._poll.unregister(descriptor)
        os.close(descriptor)
        _pid, status = os.waitpid(pid, 0)
        if status:
            self._say(Result(run, End.LOST, 0, 0, b""))
            watchers = {one for one, _run in self._watchers.values()}
            _end_all(None, keep=watchers)

    def _say(self, result: Result) -> None:
        with contextlib.suppress(OSError):  # nobody is left to hear it
            self._sock.send(pack_result(result))


class _Run:
    """One run of one program, in the process that watches it."""

    def __init__(self, program: Hook, held: Hold, life: int) -> None:
        self._program, self._held, self._life = program, held, life
        self._said = b""

    def go(self, order: Order) -> Result:
        """Run it, wait for its end or end it, and leave nothing of it."""
        begun = time.monotonic()
        feed = _document(order.document)
        hear, say = os.pipe()
        why, tell = os.pipe()  # closed by execve; holds the errno where that failed
        pid = os.fork()
        if not pid:
            self._become(feed, say, tell)
        for descriptor in (feed, say, tell):
            os.close(descriptor)
        failed = os.read(why, 4)
        os.set_blocking(hear, False)
        in_time = bool(failed) or self._wait(pid, hear, begun + self._program.timeout)
        found = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | (0 if in_time else os.WNOHANG))
        _end_all(pid, keep=set())
        self._hear(hear)
        ms = int((time.monotonic() - begun) * 1000)
        if failed:
            return Result(order.run, End.NOT_STARTED, int.from_bytes(failed, "big"), ms, b"")
        if found is None or not in_time:
            return Result(order.run, End.TIME_LIMIT, 0, ms, self._said)
        end = End.EXITED if found.si_code == os.CLD_EXITED else End.SIGNALLED
        return Result(order.run, end, found.si_status, ms, self._said)

    def _become(self, feed: int, say: int, tell: int) -> NoReturn:
        try:
            os.setsid()
            libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGKILL)
            for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):  # Python, or our birth, has them ignored
                signal.signal(number, signal.SIG_DFL)
            for standard, descriptor in ((0, feed), (1, say), (2, say)):
                os.dup2(descriptor, standard)
            home = self._held.folder
            environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8", "HOME": home, "TMPDIR": home}
            hook.narrow(self._held, network=self._program.network)
            os.execve(self._program.run[0], [*self._program.run], environment)  # noqa: S606 (no shell)
        except OSError as error:
            os.write(tell, (error.errno or errno.EIO).to_bytes(4, "big"))
        except ConfinementError:
            os.write(tell, errno.EPERM.to_bytes(4, "big"))
        finally:
            os._exit(_FAILED)

    def _wait(self, pid: int, hear: int, deadline: float) -> bool:
        """Until it has ended (True), its time is over, or the runner is gone."""
        ended = os.pidfd_open(pid)
        poll = select.poll()
        for descriptor in (ended, hear, self._life):
            poll.register(descriptor, select.POLLIN)
        try:
            while (left := deadline - time.monotonic()) > 0:
                ready = {descriptor for descriptor, _event in poll.poll(left * 1000 + 1)}
                if ended in ready:
                    return True
                if self._life in ready:
                    return False
                if hear in ready and not self._hear(hear):
                    poll.unregister(hear)
        finally:
            os.close(ended)
        return False

    def _hear(self, hear: int) -> bool:
        """Read what it says, and keep the beginning; False at the end of it."""
        for _ in range(16):
            try:
                data = os.read(hear, _PIECE)
            except BlockingIOError:
                return True
            if not data:
                return False
            self._said = (self._said + data)[:OUTPUT_MAX]
        return True


def _document(content: bytes) -> int:
    """A descriptor that reads this and then ends; a name for it nobody else has."""
    descriptor = os.memfd_create("event", os.MFD_CLOEXEC)
    os.write(descriptor, content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _end_all(group: int | None, *, keep: set[int]) -> None:
    """End a process group, and whatever else descends from this process but `keep`; reaps those that were ours.

    Orphans become our children (PR_SET_CHILD_SUBREAPER), so when there is no child left there is no descendant.
    """
    if group is not None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
    deadline = time.monotonic() + _END_S
    pause = 0.001
    while time.monotonic() < deadline:
        left = _reaped(keep)
        if not left:
            return
        for pid in _descendants(os.getpid(), keep):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(pause)
        pause = min(2 * pause, 0.1)


def _reaped(keep: set[int]) -> bool:
    """Reap the dead; whether there is a child left that is not one of `keep`."""
    if keep:
        return any(os.waitpid(pid, os.WNOHANG)[0] == 0 for pid in _children().get(os.getpid(), []) if pid not in keep)
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
        return True
    return False


def _descendants(ancestor: int, keep: set[int]) -> list[int]:
    by_parent = _children()
    found: list[int] = []
    new = [pid for pid in by_parent.get(ancestor, []) if pid not in keep]
    while new:
        found += new
        new = [pid for parent in new for pid in by_parent.get(parent, []) if pid not in found]
    return found


def _children() -> dict[int, list[int]]:
    """Every process in sight by its parent (proc(5): the fourth field of stat, behind a name in brackets)."""
    found: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        with contextlib.suppress(OSError, ValueError, IndexError):
            descriptor = os.open(f"/proc/{name}/stat", os.O_RDONLY | os.O_CLOEXEC)
            try:
                text = os.read(descriptor, 1024)
            finally:
                os.close(descriptor)
            found.setdefault(int(text.rpartition(b")")[2].split()[1]), []).append(int(name))
    return found
