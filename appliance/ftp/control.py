"""The control connection: lines in, replies out. pyftpdlib's FTPHandler with our input and output around it.

Invariants: commands run in the order they came, and one that has to wait (for a transfer, for the delay after a wrong
log-in) holds the next ones back; all replies of one turn of the loop leave in one send; no command is taken while
replies still wait to leave, so a client that does not read costs no memory.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pyftpdlib.ioloop  # noqa: F401  first of its package: it silences the DeprecationWarning of asynchat

# isort: split
from pyftpdlib.handlers import FTPHandler

from appliance.ftp import policy
from appliance.ftp.loop import READ, WRITE

if TYPE_CHECKING:
    from appliance.ftp.checksums import Claim
    from appliance.ftp.data import Transfer
    from appliance.ftp.house import House

LONGEST_LINE = 4096  # bytes of a command line
_COMMANDS, _TURN_S = 32, 0.005  # of one session in one turn: commands, and seconds after which no more is begun
_BACKLOG = 16 << 10  # bytes of replies in one turn


class Control(FTPHandler):  # type: ignore[misc]  # pyftpdlib has no types
    """What a `Session` is made on; it sets these before anything is read."""

    house: House
    transfer: Transfer | None
    claim: Claim | None
    _input: bytes
    _skipping: bool  # the rest of a line that was too long
    _said_all: bool  # the client has closed its side
    _waiting: bool
    _output: bytearray
    _source: Iterator[bytes] | None  # a listing that leaves over the control connection
    _ending: float  # when a session that has said its last word is closed even if nobody reads
    _events: int
    _read_size = 4096

    def _run(self, line: bytes) -> None:
        """Judge and run one command line."""
        raise NotImplementedError

    def abort(self) -> None:
        """End what runs, on the client's wish."""
        raise NotImplementedError

    def finish(self, reason: str, reply: str = "") -> None:
        """End the session: at once, or after `reply` has left."""
        raise NotImplementedError

    # --- input

    def handle_read_event(self) -> None:
        try:
            data = self.socket.recv(self._read_size)
        except BlockingIOError:
            return
        except OSError as error:
            self.finish(os.strerror(error.errno or errno.EIO))
            return
        if not data:
            self._no_more_comes()
            return
        self._input += data
        if (self.transfer is not None or self.claim is not None) and self._abort_waits():
            self.abort()
        self.advance()

    def _no_more_comes(self) -> None:
        """The client has closed its side (RFC 1122 section 4.2.2.13), as a script does that sends all it has to say at
        once: what has come is answered first. What takes longer than an answer ends now: most who close have gone."""
        self._said_all = True
        if self._is_over():
            self.finish("closed by the client")
        else:
            self.house.dirty.add(self)

    def _is_over(self) -> bool:
        """True when a client that has said all is owed no answer, or one that would take long."""
        if self.transfer is not None or self.claim is not None or self._waiting:
            return True
        return not self._output and self._source is None and b"\n" not in self._input

    def advance(self) -> None:
        """Run the commands that have arrived, in order, until one has to wait or others should have a turn."""
        self.house.dirty.add(self)
        until = time.monotonic() + _TURN_S
        for _ in range(_COMMANDS):
            if self.claim is not None and self._abort_waits():
                self.abort()  # it has come together with what it is to end
            if self._held():
                return
            line = self._line()
            if line is None:
                return
            self._run(line)
            if time.monotonic() > until:
                self.house.ready.add(self)  # what is left comes after the others, also what runs during a transfer
                return

    def _held(self) -> bool:
        """True while no command may run: the session ends, waits, or its replies do not leave."""
        return bool(
            self._closed
            or self._ending
            or self._waiting
            or self.claim is not None
            or self._source is not None
            or self._events & WRITE
            or len(self._output) > _BACKLOG
        )

    def _line(self) -> bytes | None:
        """The next command line that may run now, without its end; None when there is none."""
        end = self._input.find(b"\n")
        if end < 0:
            if len(self._input) > LONGEST_LINE:
                self._input, self._skipping = b"", True
            return None
        line = self._input[:end]
        if self.transfer is not None and not policy.at_once(policy.parse(line.rstrip(b"\r"))):
            return None
        self._input = self._input[end + 1 :]
        if self._skipping or end > LONGEST_LINE:
            self._skipping = False
            self.respond("500 Command too long.")
            return self._line()
        return line[:-1] if line.endswith(b"\r") else line

    def _abort_waits(self) -> bool:
        return any(policy.parse(line.rstrip(b"\r")).verb == "ABOR" for line in self._input.split(b"\n")[:-1])

    # --- output

    def push(self, data: str) -> None:
        """Queue a reply; it leaves at the end of this turn."""
        self._output += data.encode("utf-8", "surrogateescape")
        self.house.dirty.add(self)

    def respond(self, resp: str, logfun: Any = None) -> None:  # noqa: ARG002
        """Queue one reply line."""
        self.push(resp + "\r\n")

    def respond_lines(self, code: int, lines: list[str], last: str) -> None:
        """Queue a reply of several lines (RFC 959 section 4.2). None of them can pass for the last one."""
        self.push("".join(f"{code}-{line}\r\n" for line in lines) + f"{code} {last}\r\n")

    def flush(self) -> None:
        """Send what is queued, and set what the loop watches for: once per turn for sessions in `house.dirty`."""
        if self._closed:
            return
        if not self._output and self._source is not None:
            self._output += self._piece()
        if self._output:
            try:
                sent = self.socket.send(self._output)
                del self._output[:sent]
            except BlockingIOError:
                pass
            except OSError as error:
                self.finish(os.strerror(error.errno or errno.EIO))
                return
        if self._ending and not self._output:
            self.close()
            return
        if self._said_all and self._is_over():
            self.finish("closed by the client")
            return
        self._watch()
        if self.transfer is None and b"\n" in self._input and not self._held():
            self.house.ready.add(self)

    def _piece(self) -> bytes:
        """The next slice of the listing that leaves over this connection, or the line that ends it."""
        assert self._source is not None
        try:
            return next(self._source)
        except StopIteration:
            end = b"213 End of status.\r\n"
        except OSError:  # from the disk; the reply has begun, so it can only be ended
            end = b"213 End of status; not all could be read.\r\n"
        self._drop_source()
        return end

    def _drop_source(self) -> None:
        close = getattr(self._source, "close", None)
        if close is not None:
            close()
        self._source = None

    def _watch(self) -> None:
        wants = 0 if self._ending or self._said_all or len(self._input) > LONGEST_LINE else READ
        if self._output or self._source is not None:
            wants |= WRITE
        if wants != self._events:
            self._events = wants
            self.house.loop.modify(self._fileno, wants)

    def handle_write_event(self) -> None:
        self.flush()
        if not self._closed and not self._events & WRITE:
            self.advance()
