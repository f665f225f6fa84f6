"""The keeper: hears what machines are sent, and says when a one-shot boot is used up. It owns the folder of the armed.

In its jail: KEY.json, what was armed (handed over by the command line), KEY.state, how far it is (ours), KEY.confirm,
an operator's word that it is done. What it says goes to the supervisor, and from there to all workers.
Invariant: what it has said survives it; after a gap in what it heard, a machine that had begun counts as loaded.
"""

from __future__ import annotations

import json
import os
import select
import socket
import time
from collections.abc import Callable
from contextlib import suppress

from appliance import wire
from appliance.boot import armed
from appliance.boot.oneshot import NOTHING, Happened, OneShot, Stage
from appliance.child.context import Context
from appliance.errors import WireError
from appliance.observe import events
from appliance.observe.emitter import Emitter
from appliance.observe.log import Log
from appliance.observe.subscribed import datagrams, records_of

EVENTS = "events"
MOST = 2048  # armed machines
_TURN_S = 0.9
_GONE = (b"died", b"hangs")  # of a worker
_ORDER = {stage: place for place, stage in enumerate(Stage)}
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MAKE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Keeper:
    """See the module."""

    def __init__(self, context: Context) -> None:
        self._channel, self._counters = context.channel, context.counters
        self._log = Log("keeper", context.settings["log"], lost=lambda: self._counters.add("log_dropped"))
        self._link: socket.socket | None = None
        self._emitter = Emitter(None, 100, lambda count: self._counters.add("events_lost", count))
        self._poll = select.poll()
        self._shots: dict[str, OneShot] = {}
        self._said: dict[str, int] = {}
        self._kept: dict[str, tuple[int, int]] = {}  # which state of each we have read or written last
        told = context.settings.get("release")
        self._overlay = int(told["now"][2]) if told else 0
        self._bad: set[str] = set()
        self._first = context.links.get(EVENTS)

    def run(self) -> None:
        """Serve until told to end."""
        self._poll.register(self._channel.fileno(), select.POLLIN)
        if self._first is not None:
            self._attach(self._first)
        self._walled(lambda: self._scan(fresh=True))
        while True:
            self._counters.tick()
            try:
                ready = {descriptor for descriptor, _event in self._poll.poll(_TURN_S * 1000)}
                if self._channel.fileno() in ready and not self._hear_supervisor():
                    return
                if self._link is not None and self._link.fileno() in ready:
                    self._hear_events(self._link)
                self._advance(int(time.time()))
            except EOFError:
                return
            except Exception:  # the wall
                self._counters.add("crashes")
                self._log.crash("crash")

    def _walled(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception:
            self._counters.add("crashes")
            self._log.crash("crash")

    def _attach(self, link: socket.socket) -> None:
        link.setblocking(False)
        if self._link is not None:
            with suppress(KeyError, ValueError):
                self._poll.unregister(self._link)
            self._link.close()
            self._gap()
        self._link = link
        self._emitter.attach(socket.socket(fileno=os.dup(link.fileno())))
        self._poll.register(link, select.POLLIN)

    def _hear_supervisor(self) -> bool:
        received = self._channel.receive()
        if received is None:
            return True
        message, descriptors = received
        if isinstance(message, wire.Link) and message.name == EVENTS and descriptors:
            self._attach(socket.socket(fileno=descriptors.pop()))
        for descriptor in descriptors:
            os.close(descriptor)
        if isinstance(message, wire.Release):
            self._overlay = message.overlay
            self._scan()
        return not isinstance(message, wire.Drain)

    # --- what happens

    def _hear_events(self, link: socket.socket) -> None:
        for datagram in datagrams(link):
            if not datagram:
                self._poll.unregister(link)
                return
            try:
                records = records_of(datagram)
            except WireError:
                self._counters.add("dropped")
                continue
            for record in records:
                self._hear(record.event)

    def _hear(self, event: events.Event) -> None:
        if isinstance(event, events.Lost):
            self._gap()
        elif isinstance(event, events.Worker) and event.state in _GONE and event.service in (b"tftp", b"ftp"):
            self._gap()  # what it was about to tell went with it
        elif isinstance(event, events.Ended) and event.acknowledged and event.outcome == b"done":
            client, name = event.client.decode("latin-1"), event.path.decode("utf-8", "replace").lstrip("/")
            layer, now = event.layer.decode("latin-1"), int(time.time())
            for key, shot in list(self._shots.items()):
                self._change(key, shot.fetched(client, name, layer, now))

    def _gap(self) -> None:
        now = int(time.time())
        for key, shot in list(self._shots.items()):
            self._change(key, shot.unseen(now))

    def _advance(self, now: int) -> None:
        for key, shot in list(self._shots.items()):
            self._change(key, shot.tick(now))
            if shot.over(now):
                self._forget(key)
        self._emitter.flush(time.monotonic())

    def _change(self, key: str, shot: OneShot) -> None:
        before = self._shots.get(key)
        if shot is before:
            return
        self._shots[key] = shot
        self._save(shot)
        if before is None or shot.stage is not before.stage:
            self._tell(shot)
        self._announce(key)

    def _tell(self, shot: OneShot) -> None:
        self._log.info(
            "one-shot", machine=shot.armed.machine, profile=shot.armed.profile, stage=shot.stage.value,
            client=shot.client or "-", key=shot.armed.key,
        )  # fmt: skip
        machine, client, stage = (text.encode() for text in (shot.armed.machine, shot.client, shot.stage.value))
        event = events.Machine(machine=machine, client=client, state=stage, detail=shot.armed.profile.encode())
        self._emitter.emit(event, time.monotonic())
        self._counters.set("active", sum(one.stage is Stage.ARMED for one in self._shots.values()))

    def _announce(self, key: str) -> None:
        """Tell the workers, once, what of it they may serve; nothing of an overlay that is not in force yet."""
        shot = self._shots.get(key)
        serves = NOTHING if shot is None or shot.armed.overlay > self._overlay else shot.serves
        if self._said.get(key, NOTHING) != serves:
            self._channel.send(wire.Used(int(key, 16), serves))
            self._said[key] = serves

    # --- the folder

    def _scan(self, *, fresh: bool = False) -> None:
        """Take what was armed, confirmed or taken back. `fresh`: we have just been born."""
        names = set(os.listdir("."))
        for key in [key for key in self._shots if armed.file_of(key) not in names]:
            self._forget(key)
        now = int(time.time())
        for name in sorted(names):
            key, _dot, kind = name.partition(".")
            if kind == "json" and armed.is_key(key) and key not in self._shots and len(self._shots) < MOST:
                shot = self._load(key, name)
                if shot is not None:
                    # its time first: it may be over, and what is said is served
                    self._change(key, (shot.unseen(now) if fresh else shot).tick(now))
        for key in list(self._shots):
            self._catch_up(key, now)
            if f"{key}.confirm" in names:
                self._change(key, self._shots[key].on(Happened.DONE, now))
                os.unlink(f"{key}.confirm")
            self._announce(key)

    def _catch_up(self, key: str, now: int) -> None:
        """Take what the keeper before us wrote after we had read it: until a reload is done both hear what happens, and
        each perhaps what the other does not. So a machine that began then has an end that nobody saw whole.
        """
        mark = _mark(key)
        if mark is None or mark == self._kept.get(key):
            return
        self._kept[key] = mark
        shot, theirs = self._shots[key], _stored(self._shots[key].armed)
        further = theirs if _ORDER[theirs.stage] > _ORDER[shot.stage] or not shot.client else shot
        self._change(key, further.unseen(now).tick(now))

    def _load(self, key: str, name: str) -> OneShot | None:
        mark = _mark(key)
        if mark is not None:
            self._kept[key] = mark
        try:
            found = armed.decode(_content(name))
            if found.key != key:
                raise ValueError("another key is expected")
        except (OSError, ValueError) as error:
            if name not in self._bad:
                self._bad.add(name)
                self._log.error("cannot read what was armed", file=name, cause=str(error))
            return None
        return _stored(found)

    def _save(self, shot: OneShot) -> None:
        key = shot.armed.key
        plain = {"stage": shot.stage.value, "client": shot.client, "got": list(shot.got), "at": shot.at}
        new = f"{key}.new"
        with suppress(FileNotFoundError):
            os.unlink(new)
        try:
            descriptor = os.open(new, _MAKE, 0o600)
            try:
                os.write(descriptor, json.dumps(plain).encode())
                os.fsync(descriptor)
                written = os.fstat(descriptor)
            finally:
                os.close(descriptor)
            os.rename(new, f"{key}.state")
            self._kept[key] = written.st_ino, written.st_mtime_ns
        except OSError as error:  # what is not on disk is still said: it is forgotten by a restart, and then unseen
            self._log.error("cannot keep the state of a one-shot", key=key, cause=error.strerror)

    def _forget(self, key: str) -> None:
        del self._shots[key]
        self._announce(key)
        self._said.pop(key, None)
        self._kept.pop(key, None)
        for kind in ("json", "state", "new", "confirm"):
            with suppress(FileNotFoundError):
                os.unlink(f"{key}.{kind}")


def _mark(key: str) -> tuple[int, int] | None:
    """What tells one state on disk from the next; None where there is none."""
    try:
        found = os.stat(f"{key}.state")
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _stored(found: armed.Armed) -> OneShot:
    """With how far it was, if that was kept."""
    try:
        plain = json.loads(_content(f"{found.key}.state"))
        got = tuple(load for load in found.loads if load in plain["got"])
        return OneShot(found, Stage(plain["stage"]), str(plain["client"]), got, int(plain["at"]))
    except (OSError, ValueError, KeyError, TypeError):
        return OneShot(found, at=int(time.time()))


def _content(name: str) -> bytes:
    descriptor = os.open(name, _READ)
    try:
        return os.read(descriptor, armed.LARGEST + 1)
    finally:
        os.close(descriptor)


def prepare(context: Context) -> Keeper:
    """The `main` of the keeper: setting `log`."""
    return Keeper(context)
