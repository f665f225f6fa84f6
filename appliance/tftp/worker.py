"""The `main` of the TFTP service: builds everything before the confinement, serves after it (DESIGN.md section 2)."""

from __future__ import annotations

import os
import socket
import traceback

from appliance import wire
from appliance.child.context import Context, take_listener
from appliance.observe.emitter import Emitter
from appliance.observe.log import TurnLog
from appliance.published.view import Published
from appliance.settings import plain
from appliance.settings.tftp import TftpSettings
from appliance.tftp.admission import Networks, near_networks
from appliance.tftp.engine import Engine
from appliance.tftp.journal import Journal

_CUSTODY, _EVENTS = "tftp-custody", "events"
_ROUTES = ("/proc/net/route", "/proc/net/ipv6_route")


class TftpWorker:
    """The engine and the supervisor's wishes for it."""

    def __init__(self, context: Context, engine: Engine, emitter: Emitter) -> None:
        self._context, self._engine, self._emitter = context, engine, emitter
        self._uploads = context.settings["tftp"]["uploads"]["mode"] != "none"
        self._adopted: dict[int, list[socket.socket]] = {}
        engine.handle(context.channel.fileno(), self._on_channel)
        if _CUSTODY in context.links:
            engine.attach(context.links[_CUSTODY])
        for listener in context.listeners:  # now, not in run(): what is queued before that does not tell where it went
            engine.listen(listener)

    def run(self) -> None:
        """Serve until drained, or until the supervisor is gone."""
        self._engine.run()

    def _on_channel(self, _now: float) -> None:
        try:
            while (received := self._context.channel.receive()) is not None:
                self._obey(*received)
        except (EOFError, ConnectionError):
            self._engine.leave()

    def _obey(self, message: wire.Message, descriptors: list[int]) -> None:
        if isinstance(message, wire.Adopt):
            adopted = self._adopted.setdefault(message.slot, [])
            for listener in map(take_listener, descriptors):
                adopted.append(listener)
                self._engine.listen(listener)
            return
        if isinstance(message, wire.Link) and descriptors:
            self._linked(message.name, descriptors)
        if isinstance(message, wire.Share | wire.Unshare):
            self._context.sibling(message, descriptors)
            return
        for descriptor in descriptors:
            os.close(descriptor)
        if isinstance(message, wire.Release):
            self._engine.published.take(message.number, message.id, message.overlay)
        elif isinstance(message, wire.OneShot):
            self._engine.published.one_shot(message.key, message.serves)
        elif isinstance(message, wire.Unadopt):
            for listener in self._adopted.pop(message.slot, []):
                self._engine.unlisten(listener)
        elif isinstance(message, wire.Kick):
            self._engine.kick(message.number)
        elif isinstance(message, wire.Drain):
            self._engine.drain(message.milliseconds / 1000)

    def _linked(self, name: str, descriptors: list[int]) -> None:
        if name == _EVENTS:
            self._emitter.attach(socket.socket(fileno=descriptors.pop(0)))
        elif self._uploads:
            self._engine.attach(socket.socket(fileno=descriptors.pop(0)))


def prepare(context: Context) -> TftpWorker:
    """Build the engine from `context.settings`: {"tftp": TftpSettings as plain values, "log": form, "workers": number}.

    Raises KeyError, TypeError or ValueError for settings that the settings reader cannot have made.
    """
    settings = plain.decode(TftpSettings, context.settings["tftp"])
    log = TurnLog("tftp", context.settings["log"], lost=lambda: context.counters.add("log_dropped"))
    emitter = context.emitter()
    near = Networks([*near_networks(*map(_text, _ROUTES)), *settings.allow])
    _warm()
    engine = Engine(
        settings,
        memory=settings.limits.memory // context.settings["workers"],
        unseen_per_second=max(1, settings.limits.unseen_per_second // context.settings["workers"]),
        near=near,
        journal=Journal(log, emitter),
        counters=context.counters,
        tally=context.tally,
        published=Published(context.pins),
        live=context.live,
    )
    engine.published.born(context.settings.get("release"))
    return TftpWorker(context, engine, emitter)


def _text(path: str) -> str:
    """A table of the kernel; empty where there is none (no IPv6)."""
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except OSError:
        return ""


def _warm() -> None:
    """Formatting a traceback imports modules at its first use; in the jail there would be none to import."""
    try:
        raise RuntimeError
    except RuntimeError:
        traceback.format_exc()
