"""The fetcher: a short-lived, confined child that talks to mirrors and writes only its spool, which is its jail.

Downloads run in a fixed number of threads, made when every layer of the confinement is on.
"""

from __future__ import annotations

import os
import queue
import socket
import ssl
import threading
import time
from typing import Any

from appliance.boot import protocols
from appliance.boot.journey import Refused
from appliance.boot.part import Part, TooLarge, TooSlow
from appliance.boot.protocols import Again, Failed, Got, Job, Terms
from appliance.boot.talk import Talk
from appliance.child.context import Context
from appliance.observe.log import Log

_TELL_S = 0.2  # between two messages about one download's progress
_LONGEST_WAIT_S = 60.0
_MOST_TRIES = 100  # also of a download that makes progress each time


class _Fetcher:
    def __init__(self, context: Context) -> None:
        settings = context.settings
        self._talk = Talk(socket.socket(fileno=context.documents["talk"]))
        self._log = Log("fetcher", str(settings["log"]))
        self._jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._parallel = int(settings["parallel"])
        tls = ssl.create_default_context(cafile=settings["authorities"] or None)
        proxies = {str(name): str(url) for name, url in settings["proxies"].items()}
        self._terms = Terms(float(settings["stall"]), int(settings["min_rate"]), int(settings["tries"]), proxies, tls)

    def start_threads(self) -> None:
        """Called when the process is confined; there will be no others."""
        for _ in range(self._parallel):
            threading.Thread(target=self._serve, daemon=True).start()

    def run(self) -> None:
        """Take orders until the command line has nothing more to fetch."""
        self._talk.send({"ok": True})
        while (heard := self._talk.receive()) is not None:
            order, fds = heard
            for fd in fds:
                os.close(fd)
            self._jobs.put(Job(**{**order, "hosts": tuple(order["hosts"])}))
        os._exit(0)  # threads may be waiting for a server

    def _serve(self) -> None:
        while True:
            job = self._jobs.get()
            try:
                event = self._work(job)
            except Exception as error:
                self._log.crash("a download failed", url=job.url)
                event = {"failed": job.id, "why": f"the fetcher failed ({type(error).__name__})"}
            self._talk.send(event)  # a datagram is whole, whoever else sends one at the same time

    def _work(self, job: Job) -> dict[str, Any]:
        try:
            got = self._persist(job)
        except (Failed, Refused, TooLarge, TooSlow, Again) as error:
            return {"failed": job.id, "why": str(error)[:1000]}
        except OSError as error:
            return {"failed": job.id, "why": f"it cannot be written to the spool: {error.strerror or error}"}
        return {"got": job.id, "unchanged": got.unchanged, "final": got.final[:4000], "known": dict(got.known)}

    def _persist(self, job: Job) -> Got:
        """Try until it is there, with growing pauses; a try that brought bytes does not count."""
        failures = 0
        part = Part(job.name, job.most, self._terms.min_rate, self._moved(job))
        try:
            for _ in range(_MOST_TRIES):
                before = part.size
                try:
                    got = protocols.get(job, part, self._terms)
                    if not got.unchanged:
                        part.finish()
                    return got
                except Again as error:
                    failures = failures + 1 if part.size <= before else 1
                    if failures >= self._terms.tries:
                        raise
                    self._talk.send({"again": job.id, "why": str(error)[:1000]})
                    time.sleep(min(max(error.after, 0.5 * 2**failures), _LONGEST_WAIT_S))
            raise Failed("it was cut off too often")
        finally:
            part.close()

    def _moved(self, job: Job) -> Any:
        last = 0.0

        def moved(count: int, size: int | None) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last >= _TELL_S or count == size:
                last = now
                # the command line is not always listening: it may be waiting for the publisher, with another source
                self._talk.offer({"moved": job.id, "count": count, "size": size})

        return moved


def prepare(context: Context) -> _Fetcher:
    """Everything is imported, certificates are loaded."""
    os.umask(0o077)
    for module in ("urllib3.util.ssl_", "urllib3.contrib", "http.cookiejar", "email.parser", "netrc"):
        __import__(module)
    return _Fetcher(context)
