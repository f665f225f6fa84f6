"""A name server for tests: answers of every kind, by the name that is asked."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset


class NameServer:
    """On a free port of 127.0.0.1. `zone`: addresses by name; `odd`: what to answer instead, from the sound answer."""

    def __init__(self) -> None:
        self.zone: dict[str, list[str]] = {}
        self.odd: dict[str, Callable[[dns.message.Message], bytes]] = {}
        self.asked: list[str] = []
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.port: int = self.sock.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            datagram, peer = self.sock.recvfrom(4096)
            if datagram == b"stop":
                return
            query = dns.message.from_wire(datagram)
            name = query.question[0].name.to_text().rstrip(".")
            self.asked.append(name)
            answer = self.answer(query, name)
            if answer:
                self.sock.sendto(answer, peer)

    def answer(self, query: dns.message.Message, name: str) -> bytes:
        made = dns.message.make_response(query, recursion_available=True)
        if name in self.zone:
            made.answer = [dns.rrset.from_text(name + ".", 5, "IN", "A", *self.zone[name])] if self.zone[name] else []
        else:
            made.set_rcode(dns.rcode.NXDOMAIN)
        return self.odd[name](made) if name in self.odd else made.to_wire()

    def close(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"stop", ("127.0.0.1", self.port))
        self._thread.join(10)
        self.sock.close()
