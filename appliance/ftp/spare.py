"""A descriptor that is given up for a moment when there is none left, so that who waits at the door is told so."""

from __future__ import annotations

import os
import socket


class Spare:
    """One for a worker. `accept` takes a connection with it, which is to be closed before the next."""

    def __init__(self, of: int) -> None:
        """`of`: any descriptor that stays open; the spare is a copy of it. Raises OSError."""
        self._of = of
        self._fd = os.dup(of)

    def accept(self, listener: socket.socket) -> socket.socket | None:
        """The next connection, when there is one and a descriptor for it."""
        self.give_up()
        try:
            return listener.accept()[0]
        except OSError:
            return None

    def renew(self) -> None:
        """Take it back, if nobody else (a thread, say) was quicker; then the next `accept` is without."""
        if self._fd < 0:
            try:
                self._fd = os.dup(self._of)
            except OSError:
                pass

    def give_up(self) -> None:
        """Close it; may be called twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
