"""Tell systemd (sd_notify(3)): a datagram to $NOTIFY_SOCKET. Without one, every call does nothing."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import MutableMapping


class Notify:
    """Holds the socket; takes the variables out of the environment, so that no child inherits them."""

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        address = environment.pop("NOTIFY_SOCKET", "")
        interval = environment.pop("WATCHDOG_USEC", "")
        for_us = environment.pop("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self._sock: socket.socket | None = None
        self.watchdog_s = int(interval) / 2e6 if interval.isdigit() and for_us else 0.0  # half of what is allowed
        if address[:1] in ("/", "@"):
            self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
            self._address = "\0" + address[1:] if address[0] == "@" else address

    def send(self, *lines: str) -> None:
        """Send state lines such as READY=1; a systemd that does not listen is no reason to stop."""
        if self._sock is None:
            return
        try:
            self._sock.sendto("\n".join(lines).encode(), self._address)
        except OSError:
            pass

    def close(self) -> None:
        """Let the socket go."""
        if self._sock is not None:
            self._sock.close()

    def reloading(self) -> None:
        """RELOADING=1 with the time that Type=notify-reload wants."""
        self.send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}", "STATUS=Reloading the configuration")
