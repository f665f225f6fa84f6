"""A subscriber's end of its link to the events service: what has come, as datagrams and as records."""

from __future__ import annotations

import socket
from collections.abc import Iterator

from appliance.observe import events, framing

_MOST = 64  # datagrams in one turn


def datagrams(link: socket.socket) -> Iterator[bytes]:
    """Those that are there, for one turn; b"" when the service is gone, and the supervisor brings another link."""
    for _ in range(_MOST):
        try:
            datagram = link.recv(framing.DATAGRAM_MAX)
        except BlockingIOError:
            return
        except OSError:
            datagram = b""
        yield datagram
        if not datagram:
            return


def records_of(datagram: bytes) -> list[events.Record]:
    """The records of a datagram. Raises WireError."""
    return [framing.decode_record(frame) for frame in framing.split(datagram)]
