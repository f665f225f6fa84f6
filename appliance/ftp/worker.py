"""The FTP worker: one loop over listeners, sessions, data connections, the custodian and the supervisor's channel."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from appliance import wire
from appliance.child.context import ACTIVE, Context, take_listener
from appliance.errors import StartError
from appliance.ftp import filesystem
from appliance.ftp.addresses import Networks
from appliance.ftp.ahead import memory_devices
from appliance.ftp.bans import Bans
from appliance.ftp.checksums import Checksums
from appliance.ftp.connections import Ports
from appliance.ftp.door import Door
from appliance.ftp.house import House
from appliance.ftp.loop import READ, Loop, silence
from appliance.ftp.pool import Pool
from appliance.ftp.present import Present
from appliance.ftp.rates import Rates
from appliance.ftp.record import Record
from appliance.ftp.seats import Seats
from appliance.ftp.senders import Senders
from appliance.ftp.site import Sites
from appliance.ftp.spare import Spare
from appliance.ftp.terms import Arrivals, Tariff
from appliance.ftp.uploads import Custodian
from appliance.observe.log import Log, TurnLog
from appliance.published.view import Published
from appliance.settings import plain
from appliance.settings.ftp import FtpSettings, certificates

if TYPE_CHECKING:
    from appliance.ftp.tls import Tls


class Worker:
    """Serves until drained; `Channel` messages arrive through the same loop as everything else."""

    def __init__(self, context: Context) -> None:
        self._context, self._channel, self._counters = context, context.channel, context.counters
        self._house = _house(context)
        self._house.spare = Spare(context.channel.fileno())
        self._listeners, self._links = context.listeners, context.links
        self._doors: list[Door] = []
        self._adopted: dict[int, list[Door]] = {}
        self._leave_by: float | None = None
        self._next_second = 0.0
        self._gone = False

    def start_threads(self) -> None:
        """Make the threads of the pools (`child.context.Worker`)."""
        for pool in self._house.pools:
            pool.start()

    def run(self) -> None:
        """Serve. Returns when drained, or at once when the supervisor is gone."""
        house = self._house
        if house.settings.incoming.enabled:
            filesystem.keep_out(f"/{house.settings.incoming.path}")
        if self._context.settings.get("one_uid"):
            filesystem.keep_out_of_closed()
        self.start_threads()  # where no birth has done it: there is none without confinement
        house.loop.register(self._channel.fileno(), self, READ)
        for pool in house.pools:
            house.loop.register(pool.fileno(), pool, READ)
        if house.custodian is not None and "custody" in self._links:
            house.custodian.attach(self._links["custody"])
        self._doors = self._open(self._listeners)
        while not self._finished():
            try:
                self._turn()
            except Exception:  # the last wall; sessions have their own
                house.crashed("-")
                house.log.flush()
        for session in list(house.sessions):
            session.finish("the server stops", "421 The service is going down.")
            session.flush()
            session.close()
        house.emitter.flush(time.monotonic())
        self._close_doors()
        house.log.flush()
        for pool in house.pools:
            pool.close()
        house.loop.close()

    def _finished(self) -> bool:
        if self._gone:
            return True
        return self._leave_by is not None and (not self._house.sessions or self._house.now >= self._leave_by)

    def _turn(self) -> None:
        house = self._house
        soonest = house.loop.sched.poll()
        wait = max(0.0, min(self._next_second, house.emitter.due) - time.monotonic())
        if house.rates is not None:
            wait = min(wait, house.rates.wait(house.now))
        if soonest is not None:
            wait = min(wait, soonest)
        house.loop.poll(0.0 if house.ready or house.dirty or house.sites.renderings.busy else wait)
        house.now = time.monotonic()
        if house.rates is not None:
            house.rates.tick(house.now)
        if house.ready:
            ready, house.ready = house.ready, set()
            for session in ready:
                _guarded(session.advance, session.handle_error)
        house.log.flush()  # a transfer is in the log before its client is told
        while house.dirty:
            session = house.dirty.pop()
            _guarded(session.flush, session.handle_error)
        house.sites.renderings.turn(self._is_alone)  # last, so that no reply waits for it
        house.emitter.pulse(house.now)
        if house.now >= self._next_second:
            self._second()
        house.log.flush()

    def _is_alone(self) -> bool:
        house = self._house
        return not (house.ready or house.dirty) and house.loop.idle() and time.monotonic() < self._next_second

    def _second(self) -> None:
        """What is done once a second: the sign of life, time-outs, summed-up complaints."""
        house = self._house
        self._next_second = house.now + 1.0
        self._counters.tick()
        house.second()
        house.sites.renderings.sweep()
        house.bans.sweep(house.now)
        house.present.look(house.now)
        at_work = ((one.client_ip, one.layers.number) for one in house.sessions if one.transfer is not None)
        house.published.renew(at_work, house.now)
        for door in self._all_doors():
            door.open()
        for session in [session for session in house.sessions if session.look_at <= house.now]:
            _guarded(lambda session=session: session.check(house.now), session.handle_error)  # type: ignore[misc]
        if self._leave_by is not None:
            self._send_home()

    def _open(self, socks: list[socket.socket]) -> list[Door]:
        """Doors for the listeners of one worker, which stand in the order of the settings."""
        ftp = self._house.settings
        return [Door(self._house, sock, implicit=_is_implicit(ftp, i, sock)) for i, sock in enumerate(socks)]

    def _all_doors(self) -> list[Door]:
        return self._doors + [door for doors in self._adopted.values() for door in doors]

    def _close_doors(self) -> None:
        for door in self._all_doors():
            door.close()
        self._doors, self._adopted = [], {}

    # --- what the supervisor says

    def handle_read_event(self) -> None:
        while True:
            try:
                received = self._channel.receive()
            except EOFError:
                self._gone = True
                return
            if received is None:
                return
            self._hear(*received)

    def _hear(self, message: wire.Message, fds: list[int]) -> None:
        house = self._house
        if isinstance(message, wire.Reply):
            active = house.connecting.get(message.id)
            if active is not None:
                sock = socket.SocketType(fileno=fds.pop(0)) if fds and not message.errno else None
                _guarded(lambda: active.answered(sock, message.errno), active.handle_error)
        elif isinstance(message, wire.Adopt):
            self._adopted.setdefault(message.slot, []).extend(self._open([take_listener(fd) for fd in fds]))
            fds = []
        elif isinstance(message, wire.Unadopt):
            for door in self._adopted.pop(message.slot, []):
                door.close()
        elif isinstance(message, wire.Link):
            self._linked(message.name, fds)
        elif isinstance(message, wire.Reopened) and fds:
            house.record.replace(fds.pop(0))
        elif isinstance(message, wire.Ban | wire.Release | wire.Address | wire.OneShot):
            self._learn(message)
        elif isinstance(message, wire.Share | wire.Unshare):
            taken, fds = fds, []
            self._context.sibling(message, taken)
        elif isinstance(message, wire.Kick):
            house.kick(message.number)
        elif isinstance(message, wire.Drain):
            self._drain(message.milliseconds)
        for fd in fds:
            os.close(fd)

    def _learn(self, message: wire.Ban | wire.Release | wire.Address | wire.OneShot) -> None:
        if isinstance(message, wire.Ban):
            self._house.told_ban(message.client, message.seconds)
        elif isinstance(message, wire.Address):
            self._house.addresses[message.name] = message.address
        elif isinstance(message, wire.OneShot):
            self._house.published.one_shot(message.key, message.serves)
        else:
            self._house.published.take(message.number, message.id, message.overlay)

    def _linked(self, name: str, fds: list[int]) -> None:
        house = self._house
        if name == "events" and fds:
            house.emitter.attach(socket.socket(fileno=fds.pop(0)))
        elif house.custodian is not None and fds:
            house.custodian.attach(socket.socket(fileno=fds.pop(0)))

    def _drain(self, milliseconds: int) -> None:
        house = self._house
        house.draining = True
        self._leave_by = time.monotonic() + milliseconds / 1000
        self._close_doors()
        self._send_home()

    def _send_home(self) -> None:
        """End the sessions that transfer nothing and are not about to."""
        for session in list(self._house.sessions):
            if not session.engaged:
                session.finish("the server stops", "421 The service is going down.")

    def handle_write_event(self) -> None:
        """Never asked for."""

    def handle_close(self) -> None:
        self._gone = True

    def handle_error(self) -> None:
        self._house.crashed("-")


def _guarded(action: Callable[[], None], wall: Callable[[], None]) -> None:
    try:
        action()
    except Exception:
        wall()


def _is_implicit(ftp: FtpSettings, position: int, sock: socket.socket) -> bool:
    """By its port, because systemd passes sockets in any order; a port that was picked by the kernel by its place."""
    if ftp.tls.mode == "off":
        return False
    port = str(sock.getsockname()[1])
    if port in _ports(*ftp.listen, *(text for site in ftp.sites for text in site.listen)):
        return False
    if port in _ports(*ftp.tls.implicit_listen, *(text for site in ftp.sites for text in site.implicit_listen)):
        return True
    return position >= len(ftp.listen)


def _ports(*texts: str) -> set[str]:
    return {text.rpartition(":")[2] for text in texts}


def _tls(context: Context, settings: FtpSettings, log: Log) -> dict[str, Tls]:
    """Certificates and keys, loaded while the files can still be reached, by their places in the configuration.

    None when TLS is off. Raises StartError.

    A certificate that has expired, and a key that everybody can read, are refused only when they are put in the place
    of others, which then serve on: after a restart of the machine they are better than no service, and no TFTP beside.
    """
    found: dict[str, Tls] = {}
    for where, files in certificates(settings):
        from appliance.ftp import tls, tlsfiles  # OpenSSL is 4 MiB in every worker: only where it is used

        try:
            loaded, open_to_all = tlsfiles.load(files, where), tlsfiles.open_key(files, where)
        except tlsfiles.Unusable as error:
            raise StartError(str(error)) from error
        except OSError as error:
            raise StartError(f"{where}: {error.filename}: {error.strerror} (try again)") from error
        doubts = [(f"{where}.certificate", why, "renew it, then reload")] if (why := loaded.outdated()) else []
        for key, doubt, remedy in [*doubts, *([open_to_all] if open_to_all else [])]:
            if context.settings.get("trial"):
                raise StartError(f"{key}: {doubt} ({remedy})")
            log.warning("certificate", key=key, reason=doubt, remedy=remedy)
        found[where] = tls.Tls(loaded.context, reuse=settings.tls.session_reuse == "required")
    return found


def _house(context: Context) -> House:
    settings = plain.decode(FtpSettings, context.settings["ftp"])
    counters = context.counters
    log = TurnLog("ftp", context.settings["log"], lost=lambda: counters.add("log_dropped"))
    first, _dash, last = settings.passive_ports.partition("-")
    workers = int(context.settings["workers"])
    silence()

    def lost(reason: str) -> None:
        counters.add("log_dropped")
        house.complain("xferlog line lost", "-", reason)

    pool, emitter = Pool(), context.emitter()
    house = House(
        settings=settings,
        loop=Loop(),
        log=log,
        counters=counters,
        sites=Sites(settings, _tls(context, settings, log)),
        seats=Seats(settings.limits.sessions, context.tally),
        tariff=Tariff(settings.limits),
        arrivals=Arrivals(workers),
        pool=pool,
        senders=Senders(),
        checksums=Checksums(pool, settings.checksums.queue),
        memory=memory_devices(),
        networks=Networks(settings.allow, settings.deny),
        passive_ports=Ports(int(first), int(last)),
        bans=Bans(settings.bans.after, settings.bans.within, settings.bans.exempt, context.tally),
        ask_ban=lambda client: _ask_ban(context, client, int(settings.bans.duration)),
        rates=_rates(settings, workers),
        request_active=lambda port, fd: context.channel.request(ACTIVE, port, fd),
        published=Published(context.pins),
        record=Record(context.documents.get("record", -1), lost),
        emitter=emitter,
        present=Present(context.live, emitter),
    )
    house.published.born(context.settings.get("release"))
    if settings.incoming.enabled:
        house.custodian = Custodian(house)
    return house


def _ask_ban(context: Context, client: str, seconds: int) -> None:
    try:
        context.channel.send(wire.Offence(seconds, client))
    except OSError:
        pass  # its queue is full: the next strike asks again


def _rates(settings: FtpSettings, workers: int) -> Rates | None:
    limits = settings.limits
    if not (limits.rate_per_session or limits.rate_per_client or limits.rate_total):
        return None
    return Rates(
        per_session=limits.rate_per_session,
        per_client=limits.rate_per_client,
        total=-(-limits.rate_total // workers),
        now=time.monotonic(),
    )


def prepare(context: Context) -> Worker:
    """The `main` of the ftp service: settings `ftp` (FtpSettings, plain), `log`, and `workers` (how many there are)."""
    return Worker(context)
