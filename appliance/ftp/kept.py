"""An upload whose data connection broke: it waits, hidden and unfinished, until its session continues it by REST.

Invariant: it stays what it was for the custodian, an upload under way that nobody sees and that is charged. It ends
with its session, with the next upload of that session, or when its time is over; then the custodian removes it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from appliance.custody import wire
from appliance.custody.wire import Reason
from appliance.errors import WireError

if TYPE_CHECKING:
    from appliance.ftp.session import Session
    from appliance.ftp.uploads import Custodian


class Kept:
    """One for each session at most. `until` is monotonic; the rest is what an `Upload` goes on with."""

    def __init__(self, session: Session, custodian: Custodian, number: int, path: str, fd: int) -> None:
        self.session, self.custodian, self.number, self.path = session, custodian, number, path
        self.fd = fd
        self.written = 0
        self.at = 0  # where it is continued
        self.allowed = 0
        self.asked = False
        self.enough: Reason | None = None
        self.until = session.house.now + session.house.settings.incoming.resume
        custodian.hand_over(number, self)

    def hear(self, message: wire.FromCustodian, _fds: list[int]) -> None:
        """The answer to what was asked when the connection broke. Raises WireError for anything else."""
        if not self.asked or not isinstance(message, wire.More | wire.Refused):
            raise WireError("an answer to nothing")
        self.asked = False
        if isinstance(message, wire.More):
            self.allowed = message.allowed
        else:
            self.enough = message.reason

    def drop(self) -> None:
        """Have it removed; may be called twice."""
        if self.fd >= 0:
            self.custodian.forget(self.number)
            self.custodian.say(wire.Abort(self.number))
        self._close()

    def end(self, _reply: str, _cause: str) -> None:
        """The custodian is gone, and with it the upload."""
        self._close()

    def handle_error(self) -> None:
        self.session.handle_error()

    def hand_over(self) -> int:
        """The descriptor, which is somebody else's from now on."""
        fd, self.fd = self.fd, -1
        self.session.kept = None
        return fd

    def _close(self) -> None:
        if self.fd >= 0:
            os.close(self.hand_over())
