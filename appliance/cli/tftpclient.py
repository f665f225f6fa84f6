"""The TFTP client half: tftpy, kept to the one server that was asked. The only importer of tftpy in the program.

tftpy 0.8.7 speaks IPv4, one block at a time, with blksize and tsize. It takes datagrams of strangers for those of its
server and fails on a repeated OACK; `_Peer` stands between it and its socket for that (RFC 1350 section 4, RFC 2347).
"""

from __future__ import annotations

import io
import logging
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tftpy.TftpContexts import TftpContext, TftpContextClientDownload, TftpContextClientUpload
from tftpy.TftpPacketTypes import TftpPacketDAT, TftpPacketERR, TftpPacketOACK
from tftpy.TftpShared import TftpException, TftpTimeout

from appliance.cli.progress import Moved
from appliance.cli.transfer import Finding, Local, Moving, TransferError
from appliance.cli.urls import Target
from appliance.observe.text import printable

BLOCK_SIZE = 1428  # what fits an Ethernet frame with room for a tunnel or two
_TRIES = 3
_NOT_YOURS = b"\x00\x05\x00\x05not yours\x00"  # ERROR 5, unknown transfer ID
_ENOUGH = b"\x00\x05\x00\x00enough\x00"  # ERROR 0: ends a transfer that we do not want to finish
_OACK = b"\x00\x06"
_IP_RECVERR = 11  # ip(7); Python names it from 3.14
# What tftpy lets out when a server sends nonsense, besides its own exception.
_NONSENSE = (TftpException, ValueError, LookupError, AssertionError, struct.error)

logging.getLogger("tftpy").setLevel(logging.CRITICAL)  # it logs each packet; what matters reaches us as an exception


class TftpClient:
    """Asks for `block_size`; waits `timeout` seconds for each packet, three times. See `transfer.Client`."""

    def __init__(self, timeout: float, block_size: int = BLOCK_SIZE) -> None:
        self._timeout = timeout
        self._block_size = block_size

    def probe(self, target: Target) -> Finding:
        """Ask for the file and end the transfer with its first block."""
        hook = _Hook(self._block_size, lambda _count, _size: None, only_first=True)
        nowhere = Local(io.BytesIO())  # the hook ends it before anything is written
        begun = time.monotonic()
        with self._transfer(target, hook) as (where, options):
            _run(TftpContextClientDownload(*where, target.path, nowhere, options, hook, self._timeout, **_FIXED), hook)
        return Finding(hook.size, round((hook.first_byte - begun) * 1000, 3), hook.options)

    def fetch(self, target: Target, sink: Local, moved: Moved) -> Moving:
        """Fetch the file; a server that tells its size must also deliver it."""
        hook = _Hook(self._block_size, moved)
        begun = time.monotonic()
        with self._transfer(target, hook) as (where, options):
            _run(TftpContextClientDownload(*where, target.path, sink, options, hook, self._timeout, **_FIXED), hook)
        if hook.size is not None and hook.size != hook.count:
            raise TransferError(f"{hook.count} bytes came where {hook.size} were announced", reached=True)
        return Moving(hook.count, time.monotonic() - begun, hook.options)

    def send(self, target: Target, source: Local, size: int | None, moved: Moved) -> Moving:
        """Send the file; the server decides whether it takes uploads at all."""
        hook = _Hook(self._block_size, moved, size=size)
        begun = time.monotonic()
        with self._transfer(target, hook) as (where, options):
            if size is None:
                del options["tsize"]
            else:
                options["tsize"] = size
            context = TftpContextClientUpload(*where, target.path, source, options, hook, self._timeout, **_FIXED)
            _run(context, hook)
        return Moving(context.metrics.bytes, time.monotonic() - begun, hook.options)

    @contextmanager
    def _transfer(self, target: Target, hook: _Hook) -> Iterator[tuple[tuple[str, int], dict[str, int]]]:
        """Resolve the host, and turn everything that can go wrong into TransferError."""
        if not target.path:
            raise TransferError("name a file: TFTP has no folders to look into", reached=False)
        host = resolve(target.host)
        try:
            yield (host, target.port), {"blksize": self._block_size, "tsize": 0}
        except TftpTimeout:
            raise TransferError(f"no answer from {host}:{target.port}", reached=hook.reached) from None
        except _NONSENSE as error:
            text = hook.refusal or f"the server does not speak TFTP properly: {error}"
            raise TransferError(text, reached=True) from error
        except ConnectionRefusedError:
            raise TransferError(f"nothing listens on {host}:{target.port}", reached=False) from None
        except OSError as error:
            raise TransferError(f"cannot talk to {host}: {error.strerror or error}", reached=hook.reached) from error


_FIXED: dict[str, Any] = {"retries": _TRIES, "flock": False}


def resolve(host: str) -> str:
    """An IPv4 address of `host`, because tftpy has no IPv6. Raises TransferError."""
    try:
        found = socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_DGRAM)
    except (OSError, UnicodeError) as error:
        why = "the TFTP client speaks IPv4 only" if ":" in host else "no IPv4 address is known for it"
        raise TransferError(f"cannot reach {host}: {why}", reached=False) from error
    return str(found[0][4][0])


class _Enough(Exception):
    """The probe has seen its first block."""


class _Hook:
    """tftpy calls it with each packet: what was agreed, what was refused, how far it is."""

    def __init__(self, asked: int, moved: Moved, *, only_first: bool = False, size: int | None = None) -> None:
        self.options: dict[str, str] = {}
        self.size = size
        self.count = 0
        self.first_byte = 0.0
        self.refusal = ""
        self.reached = False
        self._next = 1
        self._asked, self._moved, self._only_first = asked, moved, only_first

    def __call__(self, packet: object) -> None:
        if isinstance(packet, TftpPacketDAT):
            self._data(packet)
        elif isinstance(packet, TftpPacketOACK):
            self._agreed(packet)
        elif isinstance(packet, TftpPacketERR):
            text = printable((packet.errmsg or b"").rstrip(b"\x00"))
            self.refusal = f"the server refuses: {text or 'no reason given'} (error {packet.errorcode})"

    def _data(self, packet: TftpPacketDAT) -> None:
        self.first_byte = self.first_byte or time.monotonic()
        if self._only_first:
            raise _Enough
        if packet.blocknumber == self._next:  # not one that is repeated
            self._next = (self._next + 1) & 0xFFFF
            self.count += len(packet.data)
            self._moved(self.count, self.size)

    def _agreed(self, packet: TftpPacketOACK) -> None:
        self.options = {printable(name): printable(value) for name, value in packet.options.items()}
        if int(self.options.get("blksize", 0)) > self._asked:  # RFC 2348: never above what was asked
            raise TftpException(f"it answers blksize {self.options['blksize']} to {self._asked}")
        if "tsize" in self.options and self.size is None:
            self.size = int(self.options["tsize"])


class _Peer:
    """The socket of a tftpy context, passing on only what comes from the server and the port it chose."""

    def __init__(self, sock: socket.socket, host: str, timeout: float) -> None:
        sock.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)  # a closed port is told at once instead of by a time-out
        self._sock, self._host, self._timeout = sock, host, timeout
        self._sent = b""
        self._oack = False
        self.address: tuple[str, int] | None = None

    def recvfrom(self, size: int) -> tuple[bytes, tuple[str, int]]:
        """The next datagram of the server. Raises TimeoutError or OSError."""
        deadline = time.monotonic() + self._timeout
        while True:
            self._sock.settimeout(max(deadline - time.monotonic(), 0.001))
            data, address = self._sock.recvfrom(size)
            if address[0] != self._host:
                continue
            if self.address is not None and address != self.address:
                self._sock.sendto(_NOT_YOURS, address)
            elif self._oack and data[:2] == _OACK:  # what we answered to it was lost
                self._sock.sendto(self._sent, address)
            else:
                self.address = address
                self._oack = self._oack or data[:2] == _OACK
                return data, address

    def sendto(self, data: bytes, address: tuple[str, int]) -> int:
        """Send to the server."""
        self._sent = data
        return self._sock.sendto(data, address)

    def leave(self) -> None:
        """Tell the server that we are gone, if it is waiting."""
        if self.address is not None:
            try:
                self._sock.sendto(_ENOUGH, self.address)
            except OSError:
                pass

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()


def _run(context: TftpContext, hook: _Hook) -> None:
    peer = _Peer(context.sock, context.host, context.timeout)
    context.sock = peer
    with context:
        try:
            context.start()
        except _Enough:
            peer.leave()
        except BaseException:
            hook.reached = peer.address is not None
            if not hook.refusal:
                peer.leave()
            raise
