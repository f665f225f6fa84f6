"""A TFTP client for the soak: asynchronous, from an address of its own, as patient as boot ROMs are, and no more.

RFC 1350, 2347, 2348, 7440. A request that nobody answers is sent again after 1, 2, 4, 4 and 4 s; in a transfer the last
ACK (or window) is repeated after each second of silence, six times. Then the attempt has broken.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

Address = tuple[str, int]
_ASK_S = (1.0, 2.0, 4.0, 4.0, 4.0)
_SILENCE_S, _TIMES = 1.0, 6


class BrokenError(Exception):
    """The attempt is over without success; the text says how, and begins with `refused` when the server said so."""


@dataclass
class Got:
    """A download: how long its first packet took, its digest and its size."""

    first_s: float
    sha256: str
    size: int


@contextlib.contextmanager
def bound(host: str) -> Iterator[socket.socket]:
    """A socket of a client's own."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        sock.bind((host, 0))
        yield sock


def request(opcode: int, name: str, options: dict[str, int]) -> bytes:
    """RRQ (1) or WRQ (2)."""
    fields = [name, "octet", *(text for key, value in options.items() for text in (key, str(value)))]
    return struct.pack("!H", opcode) + b"".join(field.encode() + b"\0" for field in fields)


class Talk:
    """One transfer on one socket."""

    def __init__(self, sock: socket.socket, server: Address) -> None:
        self._sock, self._server, self._peer = sock, server, None
        self._loop = asyncio.get_running_loop()
        self.began = time.monotonic()
        self.first_s = 0.0

    async def ask(self, packet: bytes) -> bytes:
        """The first answer to a request. Raises BrokenError."""
        for patience in _ASK_S:
            await self._loop.sock_sendto(self._sock, packet, self._server)
            if (answer := await self.receive(patience)) is not None:
                self.first_s = time.monotonic() - self.began
                return answer
        raise BrokenError("no answer to the request")

    async def receive(self, patience: float) -> bytes | None:
        """The next packet of our peer; None after that silence. Raises BrokenError for an ERROR."""
        deadline = time.monotonic() + patience
        while (left := deadline - time.monotonic()) > 0:
            try:
                packet, peer = self._sock.recvfrom(65600)  # mostly it is there already
            except BlockingIOError:
                try:
                    receiving = self._loop.sock_recvfrom(self._sock, 65600)
                    packet, peer = await asyncio.wait_for(receiving, left)
                except TimeoutError:
                    break
            except ConnectionRefusedError:
                continue
            if self._peer is None:
                self._peer = peer
            if peer != self._peer:
                continue
            if packet[:2] == b"\0\5":
                raise BrokenError(f"refused {packet[3]}: {packet[4:-1].decode(errors='replace')}")
            return packet
        return None

    async def say(self, packet: bytes) -> None:
        """Send to our peer."""
        await self._loop.sock_sendto(self._sock, packet, self._peer)


async def get(
    host: str, server: Address, name: str, options: dict[str, int], stop: Callable[[int], bytes | None] | None = None
) -> Got:
    """Fetch a file. Raises BrokenError. `stop(bytes so far)`: what to send and leave, for one that does not finish."""
    with bound(host) as sock:
        talk = Talk(sock, server)
        packet = await talk.ask(request(1, name, options))
        block, window = 512, 1
        pending: bytes | None = packet
        if packet[:2] == b"\0\6":
            fields = packet[2:].lower().split(b"\0")[:-1]
            agreed = dict(zip(fields[::2], fields[1::2], strict=True))
            block, window = int(agreed.get(b"blksize", 512)), int(agreed.get(b"windowsize", 1))
            pending = None
            await talk.say(b"\0\4\0\0")
        return await _collect(talk, pending, block, window, stop)


async def _collect(
    talk: Talk, pending: bytes | None, block: int, window: int, stop: Callable[[int], bytes | None] | None
) -> Got:
    digest, size, last, unacknowledged, silent, gap = hashlib.sha256(), 0, 0, 0, 0, False
    while True:
        packet, pending = pending or await talk.receive(_SILENCE_S), None
        if packet is None:
            silent += 1
            if silent > _TIMES:
                raise BrokenError(f"silence after {size} bytes")
            await talk.say(struct.pack("!HH", 4, last & 0xFFFF))
            unacknowledged, gap = 0, False
            continue
        if packet[:2] != b"\0\3":
            if packet[:2] == b"\0\6" and not size:
                await talk.say(b"\0\4\0\0")
            continue
        if struct.unpack_from("!H", packet, 2)[0] != (last + 1) & 0xFFFF:
            if not gap:  # once, so that neither side starts repeating to the other (RFC 7440 section 4)
                await talk.say(struct.pack("!HH", 4, last & 0xFFFF))
                gap, unacknowledged = True, 0
            continue
        silent, gap, last = 0, False, last + 1
        unacknowledged += 1
        digest.update(packet[4:])
        size += len(packet) - 4
        over = len(packet) - 4 < block
        if stop is not None and (goodbye := stop(size)) is not None:
            if goodbye:
                await talk.say(goodbye)
            return Got(talk.first_s, "", size)
        if over or unacknowledged >= window:
            await talk.say(struct.pack("!HH", 4, last & 0xFFFF))
            unacknowledged = 0
        if over:
            return Got(talk.first_s, digest.hexdigest(), size)


async def put(host: str, server: Address, name: str, data: bytes, options: dict[str, int]) -> float:
    """Store a file; returns how long the first answer took. Raises BrokenError."""
    with bound(host) as sock:
        talk = Talk(sock, server)
        packet = await talk.ask(request(2, name, options))
        block, window = 512, 1
        if packet[:2] == b"\0\6":
            fields = packet[2:].lower().split(b"\0")[:-1]
            agreed = dict(zip(fields[::2], fields[1::2], strict=True))
            block, window = int(agreed.get(b"blksize", 512)), int(agreed.get(b"windowsize", 1))
        blocks = len(data) // block + 1
        done = silent = 0
        while done < blocks:
            end = min(done + window, blocks)
            for number in range(done, end):
                head = struct.pack("!HH", 3, (number + 1) & 0xFFFF)
                await talk.say(head + data[number * block : (number + 1) * block])
            moved = await _acknowledged(talk, done, end)
            silent = silent + 1 if moved is None else 0
            if silent > _TIMES:
                raise BrokenError(f"silence after block {done} of {blocks}")
            done = done if moved is None else moved
        return talk.first_s


async def _acknowledged(talk: Talk, done: int, end: int) -> int | None:
    """The number of blocks that have arrived, once that is news; None when nobody says anything."""
    deadline = time.monotonic() + _SILENCE_S
    while (left := deadline - time.monotonic()) > 0:
        packet = await talk.receive(left)
        if packet is None:
            return None
        if packet[:2] == b"\0\4":
            moved = (struct.unpack_from("!H", packet, 2)[0] - done) & 0xFFFF
            if 0 < moved <= end - done:
                return done + moved
    return None
