"""One line per event to standard error, never blocking the caller, with every hostile byte escaped.

The client's address stands before any text the client chose.
"""

from __future__ import annotations

import json
import os
import re
import select
import time
import traceback
from collections.abc import Callable
from typing import Any

from appliance.observe import journal
from appliance.observe.text import printable

LEVELS = {"debug": 7, "info": 6, "warning": 4, "error": 3}
_TAME = re.compile(r"[!-\[\]-~]{1,255}")  # nearly every value: nothing to escape or to quote
_TAME_BYTES = re.compile(_TAME.pattern.encode())
_LINE = 4000  # below PIPE_BUF, so that lines of several processes never mix


class Log:
    """Writes events of one process; `lost` is called once per line nobody read.

    `form`: journal, json or text, and with a colon behind it the least level that is written, as in "journal:warning".
    journal is for a standard error that journald made, and text for any other. `native`: as entries with fields, where
    it takes those; lines with a mark of their level otherwise.
    """

    def __init__(
        self,
        room: str,
        form: str = "text",
        descriptor: int = 2,
        lost: Callable[[], None] | None = None,
        *,
        native: bool = True,
    ) -> None:
        self.room = room
        self._descriptor, self._native = descriptor, native
        self._lost = lost or (lambda: None)
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        self._journal: int | None = None
        self.take(form)

    def take(self, form: str) -> None:
        """Write in this form from now on: another one came with a reload."""
        form, _colon, least = form.partition(":")
        self._least = LEVELS.get(least, LEVELS["debug"])
        self._journal = journal.connect(self._descriptor) if form == "journal" and self._native else None
        # marks are for the journal, which takes them off; a person gets the same lines without them
        self.form = "text" if form == "journal" and not journal.stream(self._descriptor) else form
        pid = os.getpid()  # of the process that builds the log: nobody hands one over a fork
        self._openings = {
            level: ("" if self._journal else f"<{number}>" if self.form == "journal" else f"{level.upper():7} ")
            + f"{self.room}[{pid}]: "
            for level, number in LEVELS.items()
        }
        self._room = select.poll()
        if self._journal is not None:
            self._room.register(self._journal, select.POLLOUT)

    def info(self, event: str, /, **fields: Any) -> None:
        """Something an operator wants to find later."""
        self.write("info", event, fields)

    def warning(self, event: str, /, **fields: Any) -> None:
        """Something that works, but not as it should."""
        self.write("warning", event, fields)

    def error(self, event: str, /, **fields: Any) -> None:
        """Something that does not work."""
        self.write("error", event, fields)

    def crash(self, event: str, /, **fields: Any) -> None:
        """A bug caught by a wall: the traceback goes along, on the same line."""
        self.write("error", event, {**fields, "traceback": traceback.format_exc(limit=-6)})

    def write(self, level: str, event: str, fields: dict[str, Any]) -> None:
        """Format and write one line; drops it when the reader is not ready."""
        number = LEVELS[level]
        if number > self._least:
            return
        if self._journal is not None:
            message = self._format(level, event, fields)[:_LINE]
            self._enter(self._journal, journal.entry(self.room, number, event, message, fields), f"<{number}>{message}")
            return
        self._put(self._format(level, event, fields).encode("utf-8", "backslashreplace")[:_LINE] + b"\n")

    def _enter(self, sock: int, entry: bytes, line: str) -> None:
        """To the journal by itself; where that is gone as a line to standard error, and what nobody takes is lost."""
        if not self._room.poll(0):
            self._lost()
            return
        try:
            os.write(sock, entry)
        except BlockingIOError:
            self._lost()
        except OSError:
            Log._put(self, line.encode("utf-8", "backslashreplace") + b"\n")

    def _put(self, line: bytes) -> None:
        if not self._write(line):
            self._lost()

    def _write(self, lines: bytes) -> bool:
        if not self._poll.poll(0):
            return False
        try:
            os.write(self._descriptor, lines)
        except OSError:
            return False
        return True

    def _format(self, level: str, event: str, fields: dict[str, Any]) -> str:
        if self.form == "json":
            return json.dumps(
                {"time": round(time.time(), 3), "level": level, "room": self.room, "event": event, **fields},
                default=printable,
            )
        pairs = "".join([f" {name}={value if type(value) is int else _shown(value)}" for name, value in fields.items()])
        return f"{self._openings[level]}{event}{pairs}"


class TurnLog(Log):
    """Holds lines back until `flush`, and writes them together: for a loop that ends many things in one turn.

    At most PIPE_BUF bytes are held and written at once, so that lines of several processes never mix.
    """

    def __init__(
        self,
        room: str,
        form: str = "text",
        descriptor: int = 2,
        lost: Callable[[], None] | None = None,
        *,
        native: bool = True,
    ) -> None:
        super().__init__(room, form, descriptor, lost, native=native)
        self._held: list[bytes] = []
        self._held_bytes = 0

    def flush(self) -> None:
        """Write what is held; drops it when the reader is not ready."""
        if not self._held:
            return
        held, self._held, self._held_bytes = self._held, [], 0
        if not self._write(b"".join(held)):
            for _line in held:
                self._lost()

    def _put(self, line: bytes) -> None:
        if self._held_bytes + len(line) > select.PIPE_BUF:
            self.flush()
        self._held.append(line)
        self._held_bytes += len(line)


def _shown(value: Any) -> str:
    if type(value) is str and _TAME.fullmatch(value):
        return value
    if type(value) is bytes and _TAME_BYTES.fullmatch(value):
        return value.decode("ascii")
    text = printable(value, 3000) if isinstance(value, (bytes, str)) else str(value)
    return f'"{text}"' if " " in text or not text else text
