"""Who is served, and which file a name means to a client: networks, rules, folders, spelling.

The server and `appliance tftp explain` both ask here, so that what is explained is what is served.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from appliance.settings.tftp import TftpSettings
from appliance.tftp.admission import Networks
from appliance.tftp.files import OpenFile, Refusal, clean, open_path
from appliance.tftp.packet import ErrorCode
from appliance.tftp.remap import Hit, Remap
from appliance.tftp.spelling import Spellings
from appliance.tftp.terms import Endpoint, Terms, TermsBook


@dataclass(frozen=True, slots=True)
class Found:
    """What came of a name. `file` is the caller's to close; `tried` are the paths that were opened, the last is `file`.

    `respelled`: the path of `file` differs from the name in case.
    """

    file: OpenFile | Refusal
    hits: tuple[Hit, ...] = ()
    tried: tuple[tuple[bytes, OpenFile | Refusal], ...] = ()
    respelled: bool = False


class Lookup:
    """The names and networks of one worker. `chrooted`: the kernel keeps every look-up inside the working directory."""

    def __init__(self, settings: TftpSettings, ambiguous: Callable[[bytes, bytes, bytes], None]) -> None:
        """Compiles everything. `ambiguous(folder, taken, other)` is called where the case of a name leaves a choice."""
        self._allow, self._deny = Networks(settings.allow), Networks(settings.deny)
        self._book = TermsBook(settings)
        self._remap = Remap(settings.remap)
        self._spellings = Spellings(ambiguous) if settings.case_insensitive else None
        self._world_readable_only = settings.world_readable_only
        self.chrooted = False

    def serves(self, host: str) -> bool:
        """Whether the lists let a client in at all."""
        return host not in self._deny and (not self._allow or host in self._allow)

    def terms(self, listener: socket.socket | Endpoint, host: str) -> Terms:
        """What holds for a client at a listener, which is its socket or its address and port."""
        if not self._book.has_sites:
            return self._book.terms(None, host)
        if isinstance(listener, socket.socket):
            address = listener.getsockname()
            listener = (address[0].partition("%")[0], address[1])
        return self._book.terms(listener, host)

    def find(self, name: bytes, host: str, terms: Terms, now: float) -> Found:
        """Open what `name` means to a client. Raises OSError only where the server itself is out of something."""
        path = clean(name)
        if isinstance(path, Refusal):
            return Found(path)
        path, hits = self._remap.rename(path, host)
        if isinstance(path, Refusal):
            return Found(path, tuple(hits))
        tried: list[tuple[bytes, OpenFile | Refusal]] = []
        for root in terms.roots:
            respelled = self._look(root, path, now, tried)
            if not _missing(tried[-1][1]):
                break
        return Found(tried[-1][1], tuple(hits), tuple(tried), respelled)

    def _look(self, root: bytes, path: bytes, now: float, tried: list[tuple[bytes, OpenFile | Refusal]]) -> bool:
        """Try one folder; whether what was found last has another spelling."""
        wanted = root + b"/" + path if root else path
        tried.append((wanted, self._open(wanted)))
        if self._spellings is None or not _missing(tried[-1][1]):
            return False
        spelled = self._spellings.find(root, path, chrooted=self.chrooted, now=now, now_ns=time.time_ns())
        if spelled is None or spelled == wanted:
            return False
        tried.append((spelled, self._open(spelled)))
        return True

    def _open(self, path: bytes) -> OpenFile | Refusal:
        return open_path(path, world_readable_only=self._world_readable_only, chrooted=self.chrooted)


def _missing(found: OpenFile | Refusal) -> bool:
    return isinstance(found, Refusal) and found.code == ErrorCode.NOT_FOUND
