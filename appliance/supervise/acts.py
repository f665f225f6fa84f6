"""`act.sock`: one word from an administrator, answered with lines of text. A word is in the table, or fits a pattern.

The peer's credentials come from the kernel (SO_PEERCRED, SO_PEERGROUPS); only root, the supervisor's own uid and the
members of `observe.act_group` may act.
"""

from __future__ import annotations

import array
import os
import re
import socket
import struct
from collections.abc import Callable

WORDS = (b"reload", b"drain", b"stop", b"release", b"pinned")
_FORMS = re.compile(
    rb"unban [0-9a-f.:/]{1,64}|ban [0-9a-f.:/]{1,64} [0-9]{1,9}|kick (?:tftp|ftp)\.[0-9]{1,2} [0-9]{1,18}"
)
_MOST = 16
_SO_PEERGROUPS, _GROUPS_MAX = 59, 1024  # Linux 4.13; bytes, and 4 for each group


class Acts:
    """Accepts, checks, and hands (word, Asker) to `act`; the connection stays open until the answer is complete."""

    def __init__(
        self,
        listener: socket.socket,
        watch: Callable[[socket.socket, Callable[[], None]], None],
        unwatch: Callable[[socket.socket], None],
        act: Callable[[bytes, Asker], None],
    ) -> None:
        self._listener, self._watch, self._unwatch, self._act = listener, watch, unwatch, act
        self._open: set[Asker] = set()
        self._silent: dict[Asker, None] = {}  # who has said nothing yet, the oldest first
        self.group = 0  # whose members may act too; 0 is none
        watch(listener, self._accept)

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        sock.setblocking(False)
        _pid, uid, gid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        asker = Asker(sock, self._close)
        if uid not in (0, os.geteuid()) and not (self.group and self.group in _groups(sock, gid)):
            asker.end(False, "only root, the account of the appliance and observe.act_group may do this")
        elif len(self._open) >= _MOST and not self._silent:
            asker.end(False, "too many requests at once")
        else:
            if len(self._open) >= _MOST:  # whoever connects and says nothing keeps nobody out
                next(iter(self._silent)).end(False, "nothing was asked, and others ask")
            self._open.add(asker)
            self._silent[asker] = None
            self._watch(sock, lambda: self._read(asker))

    def _read(self, asker: Asker) -> None:
        try:
            word = asker.sock.recv(128)
        except BlockingIOError:
            return
        except OSError:
            word = b""
        self._silent.pop(asker, None)
        if not word:
            self._close(asker)
        elif word in WORDS or _FORMS.fullmatch(word):
            self._act(word, asker)
        else:
            asker.end(False, "unknown word")

    def _close(self, asker: Asker) -> None:
        if asker in self._open:
            self._open.discard(asker)
            self._silent.pop(asker, None)
            self._unwatch(asker.sock)
        asker.sock.close()


def _groups(sock: socket.socket, gid: int) -> set[int]:
    """The groups that the peer had when it connected, by the kernel's word."""
    try:
        return {gid, *array.array("I", sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS_MAX))}
    except OSError:  # more groups than Python can ask for: its own one counts
        return {gid}


class Asker:
    """One administrator who waits for an answer. Speaking to one that has left does nothing."""

    def __init__(self, sock: socket.socket, close: Callable[[Asker], None]) -> None:
        self.sock = sock
        self._close = close

    def say(self, line: str) -> None:
        """One line of text."""
        try:
            self.sock.send(line.encode("utf-8", "backslashreplace")[:60000])
        except OSError:
            pass

    def end(self, done: bool, line: str = "", *, config: bool = False) -> None:
        """The last words: ``ok``, ``failed``, or ``config`` when the configuration is to blame."""
        if line:
            self.say(line)
        self.say("ok" if done else "config" if config else "failed")
        self._close(self)
