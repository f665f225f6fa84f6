"""The listening sockets: who is let in. A refusal costs one accept, one send and one close, and no session."""

from __future__ import annotations

import errno
import os
import socket

from appliance.ftp import addresses, bans
from appliance.ftp.handlers import Handler
from appliance.ftp.house import House
from appliance.ftp.loop import READ
from appliance.ftp.seats import FULL
from appliance.ftp.site import NOT_SERVED
from appliance.ftp.terms import TOO_OFTEN

_LEAVING = "421 The service is going down."
_IN_ONE_TURN = 64


class Door:
    """One listener. `implicit`: its connections begin with TLS."""

    def __init__(self, house: House, sock: socket.socket, *, implicit: bool = False) -> None:
        self._house, self._sock, self._implicit = house, sock, implicit
        sock.setblocking(False)
        self._open = False
        here = sock.getsockname()
        self._site = house.sites.of_listener(here[0], here[1])
        self.open()

    def open(self) -> None:
        """Take connections (again)."""
        if not self._open:
            self._house.loop.register(self._sock.fileno(), self, READ)
            self._open = True

    def shut(self) -> None:
        """Take none for a while: there is no descriptor left to take one with."""
        if self._open:
            self._house.loop.unregister(self._sock.fileno())
            self._open = False

    def close(self) -> None:
        """Give the listener up."""
        self.shut()
        self._sock.close()

    def handle_read_event(self) -> None:
        for _ in range(_IN_ONE_TURN):
            try:
                sock, peer = self._sock.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self._house.complain("cannot accept", "-", os.strerror(error.errno))
                    if self._send_away():
                        continue
                    self.shut()  # until the next second, or the loop would spin
                    return
                continue  # this one hung up while it waited
            self._admit(sock, peer[0])

    def _send_away(self) -> bool:
        """Tell the next one that there is no room, instead of letting it wait without a word."""
        spare = self._house.spare
        sock = spare.accept(self._sock) if spare is not None else None
        if sock is not None:
            self._house.counters.refuse("limit")
            _turn_away(sock, "" if self._implicit else FULL)
        if spare is not None:
            spare.renew()
        return sock is not None

    def _admit(self, sock: socket.socket, peer: str) -> None:
        house = self._house
        address = addresses.plain(peer)
        client = addresses.client_of(address)
        refusal = self._judge(address, client)
        if refusal:
            house.counters.refuse("denied" if refusal == NOT_SERVED else "limit")
            house.complain("refused", client, refusal[4:])
            _turn_away(sock, "" if self._implicit else refusal)
            return
        try:
            session = Handler(sock, house, self._site, address, client)
            if self._implicit and not session.closed:
                session.private = True  # as long as the client does not say PROT C
                session.secure_now()
        except Exception:
            house.crashed(client)
            house.seats.leave(client, house.tariff.of(address))
            self._site.leave()
            sock.close()
            return
        if not session.closed:
            session.greet()

    def _judge(self, address: str, client: str) -> str:
        """The reply that refuses this client, or "" when its seat is taken."""
        if self._house.draining:
            return _LEAVING
        if not self._house.networks.permit(address):
            return NOT_SERVED
        if self._house.bans.banned(client, self._house.now):
            return bans.REFUSAL
        terms = self._house.tariff.of(address)
        if not self._house.arrivals.come(client, terms.per_minute, self._house.now):
            return TOO_OFTEN
        refusal = self._site.take(address)
        if refusal:
            return refusal
        refusal = self._house.seats.take(client, terms)
        if refusal:
            self._site.leave()
        return refusal

    def handle_write_event(self) -> None:
        """Never asked for."""

    def handle_close(self) -> None:
        self._house.complain("listener failed", "-", "closed")
        self.shut()

    def handle_error(self) -> None:
        self._house.crashed("-")


def _turn_away(sock: socket.socket, refusal: str) -> None:
    try:
        if refusal:  # a client that speaks TLS would not understand it
            sock.setblocking(False)
            sock.send(refusal.encode() + b"\r\n")
    except OSError:
        pass
    sock.close()
