"""A real engine in a forked process, as the supervisor would start it, and what a test needs to drive and watch it."""

from __future__ import annotations

import os
import select
import signal
import socket
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from appliance import wire
from appliance.child.context import Channel, Context, take_listener
from appliance.observe import tables
from appliance.published.pins import Pins
from appliance.settings import plain
from appliance.settings.tftp import TftpLimits, TftpSettings
from appliance.tftp import roundtrip, worker

PATIENCE_S = 60.0
SETTINGS = replace(TftpSettings(), timeout=1.0, give_up_after=10.0, limits=TftpLimits(memory=64 << 20))
QUICK = replace(SETTINGS, timeout=0.2, give_up_after=2.0)  # where a test waits for a repeat, or for the end of patience


def nothing() -> None:
    """The default change to the world of the engine's process."""


def listener(host: str, port: int = 0) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.bind((host, port))
    return sock


def until(condition: Callable[[], object], what: str) -> None:
    """Wait for a fact, at most PATIENCE_S; polls, because counters have no descriptor to wait on."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"never happened: {what}")
        select.select([], [], [], 0.005)


@dataclass
class Server:
    """One engine process; `root` is what it serves, `log` what it wrote."""

    root: Path
    log: Path
    pid: int
    channel: socket.socket
    reader: tables.Reader
    address: tuple[str, int]
    address6: tuple[str, int]
    ended: int | None = None
    link: socket.socket | None = None

    @property
    def counters(self) -> dict[str, int]:
        return self.reader.snapshot()

    def lines(self, event: str) -> list[str]:
        return [line for line in self.log.read_text().splitlines() if f": {event} " in line]

    def first(self, event: str) -> str:
        """The first line of a kind; waits for it, as a line is written after the counter that tells of it."""
        until(lambda: self.lines(event), f"a line of {event}")
        return self.lines(event)[0]

    def only(self, event: str) -> str:
        """The only line of a kind; waits for it."""
        line = self.first(event)
        assert self.lines(event) == [line]
        return line

    def alive(self) -> bool:
        if self.ended is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.ended = os.waitstatus_to_exitcode(status) if pid else None
        return self.ended is None

    def tell(self, message: wire.Message, *fds: int) -> None:
        socket.send_fds(self.channel, [wire.pack(message)], list(fds))

    def stop(self) -> int:
        """Close the channel, as a dead supervisor would; returns the exit code."""
        self.channel.close()
        if self.link is not None:
            self.link.close()
        try:
            until(lambda: not self.alive(), "the end of the engine")
        except AssertionError:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            raise
        self.reader.close()
        assert self.ended is not None
        return self.ended


def start(
    folder: Path,
    settings: TftpSettings = SETTINGS,
    *,
    sabotage: Callable[[], object] = nothing,
    host: str = "127.0.0.1",
    log: str = "text",
    port: int = 0,
    linked: bool = False,
    pin: float | None = None,
    early: bool = False,
) -> Server:
    """Fork an engine that serves `folder`/root on `host` and ::1; `sabotage` runs in it before `prepare`.

    `port`: of the listener on `host`; 0 is a free one. `linked`: `Server.link` is our end of its link to a custodian.
    `pin`: how long clients are pinned to a release, in seconds. `early`: repeats come as soon as the measured path
    says, as in life; else not before the timeout, because a test that stands still for 30 ms would meet them.
    """
    root, written = folder / "root", folder / "log"
    root.mkdir(exist_ok=True)
    listeners = [listener(host, port), listener("::1")]
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    link, its_link = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    table = tables.create("test")
    reader = tables.Reader(table)
    pid = os.fork()
    if not pid:
        ours.close()
        link.close()
        links = {"tftp-custody": its_link} if linked else {}
        _be_the_engine(root, written, settings, listeners, theirs, table, sabotage, log, links, pin, early)
    theirs.close()
    its_link.close()
    os.close(table)
    addresses = [sock.getsockname()[:2] for sock in listeners]
    for sock in listeners:
        sock.close()
    server = Server(root, written, pid, ours, reader, addresses[0], addresses[1], link=link)
    until(lambda: server.counters["tick"] or not server.alive(), "the first turn of the loop")
    assert server.alive(), "the engine did not start"
    return server


def _be_the_engine(root, written, settings, listeners, channel, table, sabotage, log, links, pin, early):
    code = 1
    try:
        os.dup2(os.open(written, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), 2)
        os.chdir(root)
        shape = {"tftp": plain.encode(settings), "log": log, "workers": 1}
        roundtrip.EARLIEST_S = roundtrip.EARLIEST_S if early else settings.timeout
        sabotage()
        taken = [take_listener(sock.detach()) for sock in listeners]
        context = Context("tftp", 0, shape, Channel(channel), tables.Counters(table), taken, links)
        context.pins = None if pin is None else Pins(pin)
        made = worker.prepare(context)
        context.counters.tick()
        made.run()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)
