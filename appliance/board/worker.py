"""The board as a child: hears the events service, asks the supervisor how all is, and serves the page.

Its jail is an empty folder: the page, certificate and key are read before. It holds no right to act, and what browsers
send is never kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any

from appliance import wire
from appliance.board import assets, guard
from appliance.board.hearing import Hearing
from appliance.board.live import Live
from appliance.board.server import BEAT_S, Rules, Server
from appliance.board.turns import Turns
from appliance.child.context import Context
from appliance.errors import StartError, WireError
from appliance.observe import shares
from appliance.observe.emitter import Emitter
from appliance.observe.log import Log
from appliance.observe.subscribed import datagrams, records_of

_TICK_S = 1.0
_ASK_EVERY = 3  # ticks between two looks at the services
_HANDSHAKES = 64  # of TLS at a time
_HANDSHAKE_S = 10.0
_QUIET_S = 10.0  # between two lines about the same reason


class Board:
    """See the module."""

    def __init__(self, context: Context) -> None:
        settings = context.settings
        self._context = context
        self._log = Log("board", str(settings["log"]), lost=lambda: context.counters.add("log_dropped"))
        self._tls = _tls(settings["certificate"], settings["key"])
        self._live = Live({}, int(settings["machines"]))
        self._hearing, self._turns = Hearing(self._live), Turns(self._live)
        per_second = int(settings["events_per_second"])  # 0 where hooks tell how machines are
        self._emitter = (
            Emitter(None, per_second, lambda n: context.counters.add("events_lost", n)) if per_second else None
        )
        listens = [_spelled(sock.getsockname()) for sock in context.listeners]
        rules = Rules(
            guard.hosts_of(listens, list(settings["names"])), self._tls is not None, settings["password"] or ""
        )
        self._epoch = time.time() - time.monotonic()  # so that a clock that is set changes no story
        self._server = Server(
            assets.load(), rules, lambda: self._live.snapshot(self._now()), self._live.story, self._turned_away
        )
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(self._crashed)
        self._link = context.links.get("events")
        self._over = asyncio.Event()
        self._handshakes = asyncio.Semaphore(_HANDSHAKES)
        self._serving: set[asyncio.Task[None]] = set()
        self._said: dict[str, float] = {}  # reasons, of which there are three

    def run(self) -> None:
        """Serve until drained or the supervisor is gone."""
        self._loop.run_until_complete(self._main())

    async def _main(self) -> None:
        self._loop.add_reader(self._context.channel.fileno(), self._walled, self._hear_supervisor)
        if self._link is not None:
            self._attach(self._link)
        tasks = [self._loop.create_task(self._accept(listener)) for listener in self._context.listeners]
        tasks.append(self._loop.create_task(self._ticks()))
        await self._over.wait()
        for task in (*tasks, *self._serving):
            task.cancel()

    def _walled(self, handle: Callable[[], None]) -> None:
        try:
            handle()
        except EOFError:
            self._over.set()
        except Exception:  # the wall
            self._context.counters.add("crashes")
            self._log.crash("crash")

    def _crashed(self, _loop: asyncio.AbstractEventLoop, what: dict[str, Any]) -> None:
        self._context.counters.add("crashes")
        self._log.error("crash", reason=repr(what.get("exception") or what.get("message")))

    def _turned_away(self, client: str, reason: str) -> None:
        self._context.counters.add("refused")
        now = time.monotonic()
        if now - self._said.get(reason, -_QUIET_S) >= _QUIET_S:
            self._said[reason] = now
            self._log.warning("board refused", client=client, reason=reason)

    # --- the supervisor and the events service

    def _hear_supervisor(self) -> None:
        received = self._context.channel.receive()
        if received is None:
            return
        message, descriptors = received
        if isinstance(message, wire.Link) and descriptors:
            self._attach(socket.socket(fileno=descriptors.pop(0)))
        if isinstance(message, wire.View) and descriptors:
            self._hearing.view(message.number, message.name, shares.look_live(descriptors[0]))
        for descriptor in descriptors:
            os.close(descriptor)
        if isinstance(message, wire.Unview):
            self._hearing.unview(message.number)
        elif isinstance(message, wire.Drain):
            self._over.set()
        elif isinstance(message, wire.Facts):
            self._live.health = _health(message.text)

    def _attach(self, link: socket.socket) -> None:
        if self._link is not None and self._link is not link:
            self._loop.remove_reader(self._link)
            self._link.close()
        link.setblocking(False)
        self._link = link
        if self._emitter is not None:
            self._emitter.attach(socket.socket(fileno=os.dup(link.fileno())))
        self._loop.add_reader(link, self._walled, self._hear_events)

    def _hear_events(self) -> None:
        link = self._link
        if link is None:
            return
        for datagram in datagrams(link):
            if datagram:
                self._take(datagram)
                continue
            self._loop.remove_reader(link)
            link.close()
            self._link = None

    def _take(self, datagram: bytes) -> None:
        try:
            self._hearing.take(records_of(datagram), self._now())
        except WireError as error:
            self._log.warning("event not understood", reason=str(error))

    async def _ticks(self) -> None:
        ticks = 0
        while True:
            self._walled(self._tick)
            ticks += 1
            if self._server.streams and (ticks % _ASK_EVERY == 1 or not self._live.health):
                self._walled(self._ask)
            if ticks % int(BEAT_S / _TICK_S) == 0:
                self._walled(self._server.beat)
            await asyncio.sleep(_TICK_S)

    def _now(self) -> float:
        """Seconds since the epoch, by the clock as it was when this process began."""
        return self._epoch + time.monotonic()

    def _tick(self) -> None:
        self._context.counters.tick()
        self._hearing.look(self._now())
        self._context.counters.set("active", len(self._server.streams))
        frame = self._live.tick(self._now())
        self._server.broadcast(frame)
        if self._emitter is not None:
            now = time.monotonic()
            for event in self._turns.of(frame):
                self._emitter.emit(event, now)
            self._emitter.flush(now)

    def _ask(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._context.channel.send(wire.Query())

    # --- browsers

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            await self._handshakes.acquire()
            try:
                sock, _peer = await self._loop.sock_accept(listener)
            except OSError:  # out of descriptors, or the peer is gone already
                self._handshakes.release()
                await asyncio.sleep(0.05)
                continue
            task = self._loop.create_task(self._begin(sock))
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)

    async def _begin(self, sock: socket.socket) -> None:
        """One connection: the handshake, then its requests."""
        reader = asyncio.StreamReader(limit=1 << 16, loop=self._loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=self._loop)
        wait = {"ssl_handshake_timeout": _HANDSHAKE_S} if self._tls else {}
        try:
            transport, _ = await self._loop.connect_accepted_socket(lambda: protocol, sock, ssl=self._tls, **wait)
        except (OSError, asyncio.CancelledError):  # ssl.SSLError is one
            sock.close()
            return
        finally:
            self._handshakes.release()
        self._context.counters.add("transfers")
        await self._server.serve(reader, asyncio.StreamWriter(transport, protocol, reader, self._loop))


def _health(text: bytes) -> dict[str, Any]:
    """What the page shows of the facts."""
    facts = json.loads(text)
    services = facts.get("services", {})
    return {
        "ready": bool(facts.get("ready")),
        "services": {name: one.get("state", "") for name, one in services.items()},
        "release": services.get("tftp", {}).get("release"),
        "waiting": services.get("custody", {}).get("box", {}).get("files", 0),  # TFTP's uploads wait for nobody
        "problems": [
            {name: str(one.get(name, ""))[:500] for name in ("severity", "what", "remedy")}
            for one in facts.get("problems", [])[:20]
        ],
    }


def _tls(certificate: str | None, key: str | None) -> ssl.SSLContext | None:
    if not certificate:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key, password=_nobody)
    except (OSError, ValueError) as error:  # of SSL too
        raise StartError(f"observe.board: certificate or key cannot be used: {error}") from error
    return context


def _nobody() -> str:
    """OpenSSL would ask the terminal for a passphrase, and wait."""
    raise ValueError("the key needs a passphrase, and nobody is there to type it")


def _spelled(address: tuple[Any, ...]) -> str:
    host = address[0].partition("%")[0]
    return f"[{host}]:{address[1]}" if ":" in host else f"{host}:{address[1]}"


def prepare(context: Context) -> Board:
    """Build the child; nothing is imported or opened later."""
    return Board(context)
