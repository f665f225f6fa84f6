"""Run a function in a child and kill it at its k-th system call, by ptrace(2)."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_TRACEME, _SYSCALL, _SETOPTIONS = 0, 24, 0x4200
_TRACESYSGOOD, _EXITKILL = 1, 0x100000


def _ptrace(request: int, pid: int, data: int = 0) -> None:
    if _libc.ptrace(ctypes.c_long(request), ctypes.c_long(pid), ctypes.c_void_p(0), ctypes.c_void_p(data)) < 0:
        raise OSError(ctypes.get_errno(), "ptrace")


def run(work: Callable[[], None], kill_at: int | None) -> int:
    """Run `work` in a forked child; with `kill_at` it is killed as it enters that system call, counted from 1.

    Returns how many system calls it entered, 0 when it was killed. A `work` that raises fails the test.
    """
    pid = os.fork()
    if not pid:
        try:
            _ptrace(_TRACEME, 0)
            os.kill(os.getpid(), signal.SIGSTOP)
            work()
            os._exit(0)
        except BaseException:
            import traceback

            traceback.print_exc()
        os._exit(1)
    os.waitpid(pid, 0)
    _ptrace(_SETOPTIONS, pid, _TRACESYSGOOD | _EXITKILL)
    count, inside = 0, False
    while True:
        _ptrace(_SYSCALL, pid)
        _, status = os.waitpid(pid, 0)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            return count
        assert os.WIFSTOPPED(status), "the child ended otherwise"
        if os.WSTOPSIG(status) != signal.SIGTRAP | 0x80:
            continue
        inside = not inside
        if inside:
            count += 1
            if count == kill_at:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                return 0
