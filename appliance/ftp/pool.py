"""A few threads for what may wait for a disk: the loop hands work over and is told when it is done.

Invariants: threads are made once, when the process is confined already (docs/decisions/0013), so they can do no more
than the loop; they touch nothing of a session, what they return is handed to `then` in the loop; jobs wait in order.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

_THREADS = 4  # one may hash for long; the others wait for the disk on behalf of downloads
_END_S = 1.0  # a thread that is left is ended by the interpreter in ways that want to load a library
_STACK = 512 << 10  # bytes of address space for each


class Job:
    """Work under way. Its result is `value`, or `error` when it raised OSError."""

    def __init__(self, work: Callable[[Job], Any], then: Callable[[Job], None], wall: Callable[[], None]) -> None:
        self.value: Any = None
        self.error: OSError | None = None
        self.crash: BaseException | None = None
        self.stopped = False  # long work looks at this now and then
        self._work, self._then, self.wall = work, then, wall

    def stop(self) -> None:
        """Nobody waits for the value any more: work that looks at `stopped` ends soon, and `then` is called as ever."""
        self.stopped = True

    def run(self) -> None:
        """In a thread: do the work, also of a stopped job, which may have a descriptor to close."""
        try:
            self.value = self._work(self)
        except OSError as error:
            self.error = error
        except Exception as crash:  # the wall of a thread: it is shown to the loop, which counts and logs it
            self.crash = crash

    def deliver(self) -> None:
        """In the loop: hand the result over. A bug on the way costs what the job was for, not the worker."""
        try:
            if self.crash is not None:
                raise self.crash
            self._then(self)
        except Exception:
            self.wall()


class Pool:
    """Register it with the loop under `fileno()`: it delivers what is done."""

    def __init__(self, threads: int = _THREADS) -> None:
        self._number = threads
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._done: deque[Job] = deque()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._threads: list[threading.Thread] = []

    def fileno(self) -> int:
        """The descriptor that becomes readable when jobs are done."""
        return self._wake

    def start(self) -> None:
        """Make the threads, if they are not there yet. Raises RuntimeError when the process may not."""
        if not self._threads:
            threading.stack_size(_STACK)
            self._threads = [threading.Thread(target=self._serve, daemon=True) for _ in range(self._number)]
            for thread in self._threads:
                thread.start()

    def submit(self, work: Callable[[Job], Any], then: Callable[[Job], None], wall: Callable[[], None]) -> Job:
        """Have `work(job)` done in a thread, then `then(job)` in the loop; `wall()` is called where either failed."""
        job = Job(work, then, wall)
        self._queue.put(job)
        return job

    def finished(self) -> list[Job]:
        """Jobs that are done since the last call."""
        try:
            os.eventfd_read(self._wake)
        except BlockingIOError:
            pass
        done = []
        while self._done:
            done.append(self._done.popleft())
        return done

    def close(self) -> None:
        """Let the threads end; one that a disk keeps is waited for no longer than _END_S."""
        for _ in self._threads:
            self._queue.put(None)
        deadline = time.monotonic() + _END_S
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    # --- what the loop calls

    def handle_read_event(self) -> None:
        for job in self.finished():
            job.deliver()

    def handle_write_event(self) -> None:
        """Never asked for."""

    def handle_close(self) -> None:
        """An eventfd does not close by itself."""

    def handle_error(self) -> None:
        """Every job has its own wall."""
        raise  # noqa: PLE0704  the last wall is that of the worker

    def _serve(self) -> None:
        while (job := self._queue.get()) is not None:
            job.run()
            self._done.append(job)
            os.eventfd_write(self._wake, 1)
