"""The native protocol of journald: one datagram for each entry, a line for each field (JOURNAL_NATIVE_PROTOCOL).

Whether we log to a journal is told by standard error itself: a stream that journald made has the name of its socket at
the other end, and the datagram socket lies beside it. Nothing is asked of the environment, which a child does not have.
Values hold no newline, because `observe.text.printable` made them, so every field has the short form NAME=value.
"""

from __future__ import annotations

import os
import re
import socket
import stat
from typing import Any

from appliance.observe.text import printable

_STREAM = re.compile(r"(/.+/journal(?:\.[^/]+)?)/stdout")  # also of a journal namespace
_VALUE = 3000  # characters of one field
_KNOWN = re.compile(  # systemd.journal-fields(7): what a field of ours must not be taken for
    r"MESSAGE(_ID)?|PRIORITY|CODE_\w+|ERRNO|SYSLOG_\w+|DOCUMENTATION|TID|INVOCATION_ID|USER_INVOCATION_ID|UNIT|USER_UNIT"
    r"|COREDUMP_\w+|OBJECT_\w+|EVENT|APPLIANCE_ROOM"
)
_connected: dict[tuple[int, int], int] = {}


def connect(descriptor: int) -> int | None:
    """A datagram socket to the journal that `descriptor` is a stream of, one for this process; None where it is none.

    Before this process is locked in: the socket is found by its path.
    """
    try:
        folder = stream(descriptor)
        if not folder:
            return None
        found = os.fstat(descriptor)
        key = found.st_dev, found.st_ino
        if key not in _connected:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.connect(f"{folder}/socket")
                sock.setblocking(False)
                _connected[key] = sock.detach()
        return _connected[key]
    except OSError:
        return None


def stream(descriptor: int) -> str:
    """The folder of the journal that `descriptor` is a stream of; "" where it is none: nobody strips marks there."""
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return ""
        with socket.socket(fileno=os.dup(descriptor)) as sock:
            peer = sock.getpeername() if sock.family == socket.AF_UNIX else ""
    except OSError:
        return ""
    folder = _STREAM.fullmatch(peer) if isinstance(peer, str) else None
    return folder[1] if folder else ""


def entry(room: str, priority: int, event: str, message: str, fields: dict[str, Any]) -> bytes:
    """One entry: the line that people read, and every field by itself; hostile bytes in it are escaped."""
    pairs = {
        "MESSAGE": message,
        "PRIORITY": str(priority),
        "SYSLOG_IDENTIFIER": "appliance",
        "APPLIANCE_ROOM": room,
        "EVENT": event,
    }
    for name, value in fields.items():
        upper = name.upper()
        pairs[f"APPLIANCE_{upper}" if _KNOWN.fullmatch(upper) else upper] = _text(value)
    return "".join(f"{name}={value}\n" for name, value in pairs.items()).encode("utf-8", "backslashreplace")


def _text(value: Any) -> str:
    text = value if isinstance(value, bytes | str) else str(value)
    return printable(text, _VALUE)
