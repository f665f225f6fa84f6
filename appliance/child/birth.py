"""The birth of every child: receive the start message, load everything, be confined, prove it, report, serve.

Invariant: nothing that came from the network is read before `Ready` was sent.
"""

from __future__ import annotations

import importlib
import os
import signal
import socket
import sys

from appliance import wire
from appliance.child.context import Channel, Context, Prepare, take_listener
from appliance.child.warm import warm
from appliance.confine import libc
from appliance.confine.apply import confine
from appliance.confine.plan import Spec
from appliance.errors import ConfinementError, StartError, WireError
from appliance.observe import shares
from appliance.observe.log import Log
from appliance.observe.tables import Counters
from appliance.published.pins import Pins

CHANNEL = 3  # the one descriptor a child is born with, besides 0, 1 and 2
EXIT_CONFINEMENT = 3
EXIT_BROKEN = 4


def main(_arguments: list[str]) -> int:
    """Run one child to its end; returns the exit status. `_arguments` are for people who read the process list."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sock = socket.socket(fileno=CHANNEL)
    start, fds = _receive_start(sock)
    log = Log(f"{start.service}.{start.index}", str(start.settings.get("log", "text")), native=False)
    try:
        _name_process(f"{start.service}.{start.index}")
        context = _context(start, fds, Channel(sock))
        worker = _prepare(start.main)(context)
        warm()
        folders = {fd: fd in context.writable for fd in context.folders.values()}
        report = confine(Spec.from_plain(start.confinement), getattr(worker, "start_threads", None), folders)
    except ConfinementError as error:
        log.error("cannot be confined", reason=str(error))
        return EXIT_CONFINEMENT
    except StartError as error:
        log.error("cannot start", reason=str(error))
        return EXIT_BROKEN
    except Exception:
        log.crash("cannot start")
        return EXIT_BROKEN
    context.counters.tick()
    context.channel.send(wire.Ready(int(report.layers), report.landlock_abi, report.syscalls))
    worker.run()
    return 0


def _receive_start(sock: socket.socket) -> tuple[wire.Start, list[int]]:
    data, fds, _flags, _peer = socket.recv_fds(sock, wire.MAX_MESSAGE, wire.MAX_FDS)
    if not data:
        sys.exit(EXIT_BROKEN)
    for descriptor in fds:
        os.set_inheritable(descriptor, False)
    message = wire.parse(data, from_child=False)
    if not isinstance(message, wire.Start) or len(fds) != len(message.fds):
        raise WireError("the first message is not a start message")
    return message, fds


def _prepare(main_name: str) -> Prepare:
    module, _, function = main_name.partition(":")
    prepare: Prepare = getattr(importlib.import_module(module), function)
    return prepare


def _context(start: wire.Start, fds: list[int], channel: Channel) -> Context:
    by_role = list(zip(start.fds, fds, strict=True))
    table = next(fd for role, fd in by_role if role == "table")
    context = Context(start.service, start.index, start.settings, channel, Counters(table))
    os.close(table)
    for role, descriptor in by_role:
        kind, _, name = role.partition(":")
        if kind == "listener":
            context.listeners.append(_unconnected(take_listener(descriptor)))
        elif kind == "link":
            context.links[name] = take_listener(descriptor)
        elif kind == "document":
            context.documents[name] = descriptor
        elif kind in ("folder", "writable"):
            context.folders[name] = descriptor
            if kind == "writable":
                context.writable.add(descriptor)
        elif kind == "share":
            context.tally = shares.own(descriptor)
            os.close(descriptor)
        elif kind == "pins":
            context.pins = Pins(float(start.settings["pin"]), shares.seal(descriptor))
        elif kind == "live":
            context.live = shares.own_live(descriptor)
            os.close(descriptor)
    return context


def _unconnected(listener: socket.socket) -> socket.socket:
    """Undo what a predecessor may have done that was taken over: a connected UDP socket hears nobody but its peer."""
    if listener.type == socket.SOCK_DGRAM:
        try:
            listener.getpeername()
        except OSError:
            return listener
        libc.disconnect(listener.fileno())
    return listener


def _name_process(name: str) -> None:
    with open("/proc/self/comm", "w", encoding="ascii") as comm:
        comm.write(name)
