"""One session: from its greeting to its end, with its transfer, its time-outs and what it has arranged.

Invariant: every command line passes `policy.judge` before a handler sees it.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pyftpdlib.ioloop  # first of its package: it silences the DeprecationWarning of asynchat

from appliance.ftp import addresses, ending, filesystem, listing, policy
from appliance.ftp.checksums import Claim
from appliance.ftp.connections import ARRANGED_S, LISTEN_S, Passive
from appliance.ftp.control import Control
from appliance.ftp.data import Transfer
from appliance.ftp.house import House
from appliance.ftp.kept import Kept
from appliance.ftp.loop import READ
from appliance.ftp.rulings import UNKNOWN, Refuse, Run
from appliance.ftp.site import Site
from appliance.published.layers import is_loader_config

_NONSENSE = 10  # words that are no command: a strike
_FLUSH_S = 10.0  # for the last reply


class Cwd:
    """All that pyftpdlib's handlers get of a file system: where the session is. There is nothing to write with."""

    def __init__(self) -> None:
        self.cwd = "/"


class Session(Control):
    """One control connection. The subclass in `handlers` performs what the policy lets through."""

    timeout = 0  # pyftpdlib's own timers stay off; `check` looks at every session once a second
    encoding = "utf-8"
    unicode_errors = "surrogateescape"
    authenticated: bool
    _restart_position: int
    fs: Cwd | None
    secure = private = False  # the control connection is under TLS; data connections will be
    tls_version = ""
    _here: tuple[int, tuple[Any, ...]] | None = None  # see `local`

    def __init__(self, conn: socket.socket, house: House, site: Site, address: str, client: str) -> None:
        self.house = house
        self.site = self._door = site  # what it sees, and what it came in by
        self.tls = site.tls  # by the address: the certificate is shown before a name is known
        self.client_ip, self.client = address, client
        self.listener: Passive | None = None
        self.target = 0  # port of the client that PORT or EPRT named
        self.transfer: Transfer | None = None
        self.kept: Kept | None = None  # an upload that was cut short
        self.entered = self.born = self.heard = house.now
        self.look_at = (
            0.0  # no time-out is due before: `check` of 10,000 silent sessions would take 0.3 s of each second
        )
        self.bucket = None if house.rates is None else house.rates.session(house.now)
        self.layers = house.published.current  # what of all that is published this client sees
        self.files = self.bytes = 0
        self.row = 0  # in the table of who is on
        self.reason = ""
        self._declared = 0
        self._nonsense = 0
        self._input = b""
        self._skipping = False  # the rest of a line that was too long
        self._said_all = False  # the client has closed its side
        self._waiting = False
        self.claim: Claim | None = None  # on a checksum; no command runs before it is there
        self._output = bytearray()
        self._source: Iterator[bytes] | None = None  # a listing that leaves over the control connection
        self._ending = 0.0  # when a session that has said its last word is closed even if nobody reads
        self._events = READ
        super().__init__(conn, None, ioloop=house.loop)
        self._extra_feats = ["HOST"]
        self._available_facts, self._current_facts = list(listing.FACTS), list(listing.DEFAULT_FACTS)
        if not self._closed:
            house.sessions.add(self)
            house.present.begun.add(self)
            house.counters.set("active", len(house.sessions))

    @property
    def type_a(self) -> bool:
        """True in TYPE A."""
        return bool(self._current_type == "a")

    @property
    def closed(self) -> bool:
        """True once the connection is closed."""
        return bool(self._closed)

    def local(self) -> tuple[int, tuple[Any, ...]]:
        """Family and address that this client reached, for a listener of its own."""
        if self._here is None:
            here = self.socket.getsockname()
            host = addresses.plain(here[0])
            family, more = (socket.AF_INET6, here[1:]) if ":" in host else (socket.AF_INET, here[1:2])
            self._here = int(family), (host, *more)
        return self._here

    def gone(self) -> bool:
        """True when the client has closed or lost the control connection."""
        try:
            return not self.socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True

    # --- what is said

    def _run(self, line: bytes) -> None:
        self.heard, self.look_at = self.house.now, 0.0
        state = policy.State(
            self.authenticated,
            self.fs.cwd if self.fs is not None else "/",
            self.listener is not None or self.target > 0,
            self._epsvall,
            self._restart_position > 0,
            self.secure,
            self.private,
            "" if self.kept is None else self.site.seen(self.kept.path),
        )
        command, verdict = policy.judge(line, state, self.site.rules)
        if isinstance(verdict, Run):
            if verdict.path and self.house.published.on:
                self._pin(command.verb, verdict.path)
            self.perform(command, verdict)
        elif isinstance(verdict, Refuse):
            if verdict.code >= 530:
                self.house.counters.refuse("denied")
            self.respond(f"{verdict.code} {verdict.text}")
            if command.verb in policy.MOVES:
                self._restart_position = (
                    0  # REST is for the very next transfer (RFC 959 section 4.1.3), not a later one
                )
            if verdict is UNKNOWN:
                self._nonsense += 1
                if self._nonsense % _NONSENSE == 0:
                    self.strike()
        else:
            self.strike()
            self.house.counters.add("dropped")
            self.house.complain("connection dropped", self.client, f"it speaks another protocol: {command.verb}")
            self.finish("another protocol")

    def _pin(self, verb: str, path: str) -> None:
        """What a command asks for comes from the release that the client began with."""
        published = self.house.published
        fresh = verb == "RETR" and is_loader_config(path.encode("utf-8", "surrogateescape"))
        self.layers = published.layers(self.client_ip, fresh=fresh)
        published.pin(self.client_ip, self.layers.number)

    def strike(self) -> None:
        """Count something against the client."""
        self.house.strike(self.client, self.client_ip)

    def greet(self) -> None:
        """The first words (RFC 959 section 5.4)."""
        self.respond_lines(220, self._texts(self.house.settings.banner_file), self.site.banner)

    def _texts(self, name: str | None, folder: str = "/") -> list[str]:
        """The lines of a file in a folder of the site; none where there is no such file."""
        if name is None:
            return []
        try:
            return filesystem.lines_of(self.site.real(policy.resolve(folder, name)), self.layers)
        except OSError:
            return []

    # --- the end

    def finish(self, reason: str, reply: str = "") -> None:
        """End the session: at once, or after `reply` has left."""
        self.reason = self.reason or reason
        if not reply or self._closed:
            self.close()
        elif not self._ending:
            self._ending, self.look_at = self.house.now + _FLUSH_S, 0.0
            self.respond(reply)

    def handle_close(self) -> None:
        self.finish("connection lost")

    def handle_error(self) -> None:
        """The wall: a bug costs its session, never the worker."""
        self.house.crashed(self.client)
        self._output.clear()
        self.respond("421 Service not available, closing control connection.")
        self.reason = "crash"
        self._ending = self.house.now
        self.flush()
        self.close()

    def close(self) -> None:
        """Let everything of this session go."""
        if self._closed:
            return
        pyftpdlib.ioloop.AsyncChat.close(self)
        if self.transfer is not None:
            transfer, self.transfer = self.transfer, None
            transfer.close()
            ending.transfer(self, transfer, "the session ended")
        self.drop_claim()
        self.drop_data()
        self.drop_kept()
        self._drop_source()
        house = self.house
        house.sessions.discard(self)
        house.present.gone(self)
        house.counters.set("active", len(house.sessions))
        house.dirty.discard(self)
        house.ready.discard(self)
        house.seats.leave(self.client, house.tariff.of(self.client_ip))
        self.site.leave()
        ending.session(self)

    def check(self, now: float) -> None:
        """Once a second, from `look_at` on: time-outs. An idle time-out never meets a transfer."""
        limits = self.house.settings.limits
        self.drop_kept(now)
        if self._ending:
            if now > self._ending:
                self.close()
        elif limits.session_timeout and now - self.entered > limits.session_timeout:
            self.finish("session time-out", "421 The session has lasted long enough.")
        elif self.transfer is not None:
            self.transfer.check(now)
            self.heard = now
        elif not self.authenticated:
            if now - self.born > limits.login_timeout:
                self.finish("no log-in in time", "421 Log-in took too long.")
        elif self.claim is not None:
            self.heard = now
        elif now - self.heard > limits.idle_timeout:
            self.finish("idle", "421 Idle for too long.")
        elif self.listener is not None and now - self.listener.made > LISTEN_S:
            self.drop_data()
        elif self.listener is None and self.kept is None:
            ends = self.entered + (limits.session_timeout or float("inf"))
            self.look_at = min(self.heard + limits.idle_timeout, ends)

    # --- transfers

    def transfer_over(self, transfer: Transfer, reply: str, cause: str) -> None:
        """The transfer has closed its connection: reply, record, and go on with the commands that waited."""
        self.transfer = None
        self.heard = self.house.now
        self.house.published.keep(self.client_ip, self.layers.number)
        self.respond(reply)
        ending.transfer(self, transfer, cause)

    @property
    def engaged(self) -> bool:
        """Whether a transfer runs, or has just been arranged by PASV or PORT and may begin with the next command."""
        arranged = self.listener is not None or self.target > 0
        return self.transfer is not None or (arranged and self.house.now - self.heard < ARRANGED_S)

    def begin(self, transfer: Transfer) -> None:
        """Start a transfer; the next commands wait for its end."""
        self.transfer = transfer
        self.house.present.begun.add(self)
        transfer.start()

    def abort(self) -> None:
        """End the transfer or the wait for a checksum, if there is one, on the client's wish."""
        if self.drop_claim():
            self.respond("426 Aborted.")
        if self.transfer is not None:
            self.transfer.end("426 Transfer aborted.", "aborted by the client")

    def drop_claim(self) -> bool:
        """Wait for no checksum any more; true when that was so."""
        if self.claim is None:
            return False
        self.claim.cancel()
        self.claim = None
        return True

    def drop_data(self) -> None:
        """Forget the data connection that was arranged."""
        self.target = 0
        if self.listener is not None:
            self.listener.close()
            self.listener = None

    def drop_kept(self, now: float = float("inf")) -> None:
        """Have the upload removed that was cut short, when its time is over `now`."""
        if self.kept is not None and now > self.kept.until:
            self.kept.drop()

    def perform(self, command: policy.Command, verdict: Run) -> None:
        """Run a command that the policy has let through."""
        raise NotImplementedError

    def log(self, *_args: Any, **_kwargs: Any) -> None:
        """pyftpdlib's own log lines are not written; ours, in `close` and `_record`."""

    logline = logerror = log_cmd = log
