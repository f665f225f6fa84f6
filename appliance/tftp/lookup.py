"""Who is served, and which file a name means to a client: networks, machines, rules, folders, spelling.

The server and `appliance tftp explain` both ask here, so that what is explained is what is served.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from typing import NamedTuple

from appliance.observe import arp
from appliance.published.layers import PLAIN, Layers, hidden, is_loader_config, split
from appliance.published.view import Published
from appliance.published.walk import Folder, Guard, folder_at
from appliance.settings.tftp import TftpSettings
from appliance.tftp.admission import Networks
from appliance.tftp.files import OpenFile, Refusal, Served, clean, is_chrooted, open_folder, open_path
from appliance.tftp.neighbours import Neighbours
from appliance.tftp.packet import ErrorCode
from appliance.tftp.remap import Hit, Remap
from appliance.tftp.shelf import Shelf
from appliance.tftp.spelling import Spellings
from appliance.tftp.terms import Endpoint, Terms, TermsBook

_ABSENT_MAX = 8192


class Found(NamedTuple):
    """What came of a name. `file` is the caller's to close; `tried` are the paths that were opened, the last is `file`.

    `respelled`: the path of `file` differs from the name in case. `upload`: the name in the box of an upload that only
    the custodian can open; `file` is then what is said where it cannot be asked. `layers`: what was looked into.
    """

    file: OpenFile | Refusal
    hits: tuple[Hit, ...] = ()
    tried: tuple[tuple[bytes, OpenFile | Refusal], ...] = ()
    respelled: bool = False
    upload: bytes | None = None
    layers: Layers = PLAIN

    @property
    def served(self) -> Served:
        """Which file `file` is."""
        layer, name = split(self.tried[-1][0])
        return Served(name, layer.encode(), self.layers.release_id if layer == "release" else b"")


class _Search(NamedTuple):
    """One name being looked for; `tried` is what was opened so far, each with the path."""

    path: bytes
    now: float
    keep_out: tuple[Folder, ...]
    layers: Layers
    tried: list[tuple[bytes, OpenFile | Refusal]]


NO_UPLOADS = Refusal(ErrorCode.ACCESS, "uploads are not accepted here", "upload")
_ELSEWHERE = Refusal(ErrorCode.ACCESS, "uploads are not accepted here", "upload outside of uploads.path")
_KEPT = Refusal(ErrorCode.ACCESS, "Access violation", "an upload, which nobody reads back (uploads.readable)")
_HIDDEN = Refusal(ErrorCode.NOT_FOUND, "File not found", "the folder of the releases, which no client sees")
_ASTRAY = Refusal(ErrorCode.NOT_FOUND, "File not found", "a link into the folder of the releases")
_DEEPER = Refusal(ErrorCode.NOT_FOUND, "File not found", "uploads have no folders")
_READABLE = Refusal(
    ErrorCode.UNDEFINED, "File cannot be read right now", "an upload, which the custodian gives out (uploads.readable)"
)


class Lookup:
    """The names and networks of one worker. `chrooted`: the kernel keeps every look-up inside the working directory."""

    def __init__(
        self,
        settings: TftpSettings,
        ambiguous: Callable[[bytes, bytes, bytes], None],
        *,
        memory: int = 0,
        published: Published | None = None,
    ) -> None:
        """Compiles everything. `ambiguous(folder, taken, other)` is called where the case of a name leaves a choice.

        `memory`: bytes for the content of small files. To be made before the confinement: with machines in the
        settings, the kernel's neighbour table is opened.
        """
        self._shelf = Shelf(memory)
        self.published = published or Published()
        self._guard = Guard()
        self._absent: dict[bytes, Refusal] = {}
        self._absent_under = b""  # the overlay that was in force when it was made
        self._allow, self._deny = Networks(settings.allow), Networks(settings.deny)
        self._everybody = not self._allow and not self._deny
        self._book = TermsBook(settings)
        self._neighbours = Neighbours(arp.reader()) if settings.machines else None
        self._remap = Remap(settings.remap)
        self._spellings = Spellings(ambiguous) if settings.case_insensitive else None
        self._world_readable_only = settings.world_readable_only
        self.chrooted = False
        uploads = settings.uploads
        self._box = uploads.path.encode() if uploads.mode != "none" else None
        self._bare = self._box is not None and uploads.bare_names == "into_path"
        self._readable = uploads.readable != "none"
        self._writers = Networks(uploads.allow)
        self._guarded = self._box is not None

    def settle_in(self) -> None:
        """Called once in the jail: learn what the kernel sees to, because it is cheaper than looking oneself."""
        self.chrooted = is_chrooted()
        if self.chrooted and self._box is not None:
            try:
                os.close(open_folder(self._box, chrooted=True))
            except PermissionError:
                self._guarded = False  # the custodian's folder, and we are somebody else
            except OSError:
                pass  # not there, or no descriptor: we look ourselves

    def destination(self, name: bytes, host: str) -> bytes | Refusal:
        """The name in the box that a write request means; rules count before the folder is looked at."""
        if self._box is None or (self._writers and host not in self._writers):
            return NO_UPLOADS
        path = clean(name)
        if not isinstance(path, Refusal):
            path, _hits = self._remap.rename(path, host, write=True)
        if isinstance(path, Refusal):
            return path
        if hidden(path):
            return _ELSEWHERE
        inner = self._in_the_box(path)
        if inner is None and self._bare and b"/" not in path:
            inner = path
        return inner or _ELSEWHERE

    def _in_the_box(self, path: bytes) -> bytes | None:
        """The name in the box of a path that leads into it, b"" for one that leads deeper; None for any other."""
        folder, _slash, inner = path.rpartition(b"/")
        if self._box is None or not self._same(folder + b"/", self._box + b"/"):
            return None
        return inner if len(folder) == len(self._box) else b""

    def _same(self, path: bytes, start: bytes) -> bool:
        path = path[: len(start)]
        return path == start or (self._spellings is not None and path.lower() == start.lower())

    def serves(self, host: str) -> bool:
        """Whether the lists let a client in at all."""
        return self._everybody or (host not in self._deny and (not self._allow or host in self._allow))

    def mac(self, host: str, now: float) -> str:
        """The MAC address that a client claims; "" where it is unknown, or no setting asks for it."""
        return self._neighbours.mac(host, now) if self._neighbours is not None else ""

    def terms(self, listener: socket.socket | Endpoint, host: str, now: float) -> Terms:
        """What holds for a client at a listener, which is its socket or its address and port."""
        mac = self.mac(host, now)
        if not self._book.has_sites:
            return self._book.terms(None, host, mac)
        if isinstance(listener, socket.socket):
            address = listener.getsockname()
            listener = (address[0].partition("%")[0], address[1])
        return self._book.terms(listener, host, mac)

    def find(self, name: bytes, host: str, terms: Terms, now: float) -> Found:
        """Open what `name` means to a client. Raises OSError only where the server itself is out of something."""
        path = clean(name)
        if isinstance(path, Refusal):
            return Found(path)
        path, hits = self._remap.rename(path, host)
        if isinstance(path, Refusal):
            return Found(path, tuple(hits))
        if hidden(path):
            return Found(_HIDDEN, tuple(hits))
        keep_out: tuple[Folder, ...] = ()
        if self._box is not None:
            inner = self._in_the_box(path)
            if inner is not None:
                return self._kept(inner, hits)
            box = folder_at(self._box) if self._guarded else None
            keep_out = (box,) if box else ()
        layers = self.published.layers(host, fresh=is_loader_config(path)) if self.published.on else PLAIN
        if layers.overlay != self._absent_under:  # most of what is remembered is of trees that nobody asks for again
            self._absent_under = layers.overlay
            self._absent.clear()
        search = _Search(path, now, keep_out, layers, [])
        for root in terms.roots:
            respelled = self._look(root, search)
            if not _missing(search.tried[-1][1]):
                break
        file = search.tried[-1][1]
        saved = self._bare and self._readable and b"/" not in path and _missing(file)
        return Found(file, tuple(hits), tuple(search.tried), respelled, path if saved else None, layers=layers)

    def _kept(self, inner: bytes, hits: list[Hit]) -> Found:
        """Never from the file system: to an ordinary user, who has one uid for everything, the folder is open."""
        if not self._readable:
            return Found(_KEPT, tuple(hits))
        if not inner:
            return Found(_DEEPER, tuple(hits))
        return Found(_READABLE, tuple(hits), upload=inner)

    def _look(self, root: bytes, search: _Search) -> bool:
        """Try one folder, in every layer of what is published; whether what was found last has another spelling."""
        path = search.path
        wanted = root + b"/" + path if root else path
        places = search.layers.places(wanted)
        for place in places:
            by_hand = place is wanted
            opened = self._absent.get(place) or self._open(place, search.keep_out, by_hand)
            search.tried.append((place, opened))
            if not _missing(opened):
                return False
            if not by_hand and isinstance(opened, Refusal):
                self._remember(place, opened)
        if self._spellings is None:
            return False
        folders = [place[: -len(path)] for place in places[-3:]]  # without what is for this boot only: see _respell
        return any(self._respell(folder, search) for folder in folders)

    def _remember(self, place: bytes, refusal: Refusal) -> None:
        """A tree that is published never changes, so what is missing there stays so: most names are missing in most."""
        if len(self._absent) >= _ABSENT_MAX:
            self._absent.clear()
        self._absent[place] = refusal

    def _respell(self, folder: bytes, search: _Search) -> bool:
        """Try one folder of one layer for another spelling; whether there is one."""
        assert self._spellings is not None
        spelled = self._spellings.find(
            folder[:-1], search.path, chrooted=self.chrooted, now=search.now, now_ns=time.time_ns()
        )
        if spelled is None or spelled == folder + search.path:
            return False
        layers = search.layers
        if layers.number and spelled.startswith(layers.overlay):  # there may be a file for this boot only
            spelled = layers.once.get(spelled[len(layers.overlay) :], spelled)
        search.tried.append((spelled, self._open(spelled, search.keep_out, not hidden(spelled))))
        return True

    def _open(self, path: bytes, keep_out: tuple[Folder, ...], by_hand: bool) -> OpenFile | Refusal:
        """`by_hand`: it is no part of a release, and must not become one by a link."""
        shelved = self.chrooted and not keep_out  # what is on the shelf tells nothing of the folders on the way
        if shelved and (held := self._shelf.find(path)) is not None:
            return held
        found = open_path(
            path, world_readable_only=self._world_readable_only, chrooted=self.chrooted, keep_out=keep_out
        )
        if isinstance(found, Refusal):
            return found
        if by_hand and self.published.on and self._guard.astray(path, (found.identity[0], found.identity[1])):
            found.close()
            return _ASTRAY
        return self._shelf.keep(path, found, time.time_ns()) if shelved else found


def _missing(found: OpenFile | Refusal) -> bool:
    return isinstance(found, Refusal) and found.code == ErrorCode.NOT_FOUND
