"""A control connection that can turn to TLS: AUTH, PBSZ, PROT (RFC 4217), and TLS from the first byte (ftps://).

Invariant: no byte that came in the clear after AUTH is ever a command. Whatever was sent ahead of the handshake ends
the connection: somebody in between could have put it there, to have it run as if the client had sent it under TLS.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING

from appliance.ftp.house import House
from appliance.ftp.loop import READ
from appliance.ftp.session import Session
from appliance.ftp.site import Site

if TYPE_CHECKING:
    from appliance.ftp.tls import TlsSocket

_RECORD = 16 << 10  # bytes in one TLS record at most: reading so many leaves nothing behind that no event tells of


class Secured(Session):
    """See the module. What cannot be sent or read now waits as it does in the clear."""

    def __init__(self, conn: socket.socket, house: House, site: Site, address: str, client: str) -> None:
        self._tls: TlsSocket | None = None
        self._turning = False  # AUTH was answered; the handshake begins as soon as the answer has left
        self._shaking = False
        self._sized = False  # PBSZ came
        super().__init__(conn, house, site, address, client)
        if self.tls is not None:
            self._extra_feats += ["AUTH TLS", "PBSZ", "PROT"]

    def secure_now(self) -> None:
        """Begin the handshake: as a server, on what the client sends next."""
        assert self.tls is not None
        self.secure = self._shaking = True
        self._read_size = _RECORD
        try:
            plain: socket.socket = self.socket  # type: ignore[has-type]  # pyftpdlib has no types
            self._tls = self.socket = self.tls.wrap(plain)
        except OSError as error:  # it is gone again
            self.finish(os.strerror(error.errno or errno.EIO))

    def _shake(self) -> None:
        assert self._tls is not None
        try:
            events = self._tls.shake()
        except OSError as error:
            self.house.counters.add("dropped")
            self.house.complain("TLS handshake failed", self.client, error.strerror or "broken")
            self.finish("TLS handshake failed")
            return
        if events:
            if events != self._events:
                self._events = events
                self.house.loop.modify(self._fileno, events)
            return
        self._shaking = False
        self.tls_version = self._tls.version() or ""
        if self._events != READ:
            self._events = READ
            self.house.loop.modify(self._fileno, READ)
        self.house.dirty.add(self)  # the greeting of an implicit session waits

    def _injected(self) -> None:
        self.house.counters.add("dropped")
        self.house.complain("connection dropped", self.client, "commands were sent ahead of the TLS handshake")
        self.finish("commands ahead of TLS")

    # --- input and output

    def handle_read_event(self) -> None:
        if self._shaking:
            self._shake()
        elif self._turning and self._more_waits():
            self._injected()
        else:
            super().handle_read_event()

    def handle_write_event(self) -> None:
        if self._shaking:
            self._shake()
        else:
            super().handle_write_event()

    def _held(self) -> bool:
        return self._turning or self._shaking or super()._held()

    def flush(self) -> None:
        if self._shaking:
            return
        super().flush()
        if self._turning and not self._output and not self._closed:
            self._turning = False
            self.secure_now()

    def finish(self, reason: str, reply: str = "") -> None:
        super().finish(reason, "" if self._shaking else reply)

    def handle_error(self) -> None:
        if self._shaking:  # not a byte may leave in the clear
            self.house.crashed(self.client)
            self.reason = "crash"
            self.close()
        else:
            super().handle_error()

    def close(self) -> None:
        if self._tls is not None and not self._shaking and not self._closed:
            try:
                self._tls.bye()
            except OSError:
                pass  # the client is gone
        super().close()

    # --- commands

    def ftp_AUTH(self, argument: str) -> None:
        if argument.upper() not in ("TLS", "TLS-C"):
            self.respond("504 AUTH TLS is implemented.")
        elif self._input or self._more_waits():
            self._injected()
        else:
            if self.authenticated:
                self.born = self.house.now  # the time to log in begins anew
            self.flush_account()
            self._turning = True
            self.respond("234 Begin the TLS handshake.")

    def _more_waits(self) -> bool:
        """True when more has come in the clear than the line of AUTH (a client waits for 234: RFC 4217 section 4)."""
        try:
            return bool(self.socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except OSError:
            return False

    def ftp_PBSZ(self, argument: str) -> None:
        if argument.isascii() and argument.isdigit():
            self._sized = True
            self.respond("200 PBSZ=0")
        else:
            self.respond("501 Not a size.")

    def ftp_PROT(self, argument: str) -> None:
        level = argument.upper()
        if not self._sized:
            self.respond("503 Send PBSZ 0 first.")
        elif level in ("S", "E"):
            self.respond("536 PROT C and PROT P are implemented.")
        elif level not in ("C", "P"):
            self.respond("504 PROT C and PROT P are implemented.")
        else:
            self.private = level == "P"
            self.respond(f"200 Data connections are {'under TLS' if self.private else 'in the clear'}.")

    def flush_account(self) -> None:
        """Back to the state before log-in."""
        raise NotImplementedError
