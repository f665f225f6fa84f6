"""Find a name in another spelling of its ASCII letters: an index of each folder asked for, not a scan each time.

Guards: an index is used only for the very folder it was made from (device, inode, mtime and ctime in ns); one made
within SETTLE_NS of the folder's last change is used for RETRY_S only, because two changes within one tick of the clock
look the same. At most _FOLDERS_MAX folders and _NAMES_MAX names are kept; a folder with more names is not searched.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable

from appliance.tftp.files import OURS, open_folder

SETTLE_NS = 2_000_000_000
RETRY_S = 1.0
_FOLDERS_MAX = 256
_NAMES_MAX = 100_000


class _Index:
    """The spellings of each folded name of one folder, in byte order."""

    def __init__(self, identity: tuple[int, ...], descriptor: int, good_until: float) -> None:
        self.identity, self.good_until = identity, good_until
        self.names: dict[bytes, tuple[bytes, ...]] = {}
        listed = os.listdir(descriptor)
        for name in sorted(map(os.fsencode, listed)) if len(listed) <= _NAMES_MAX else ():
            folded = name.lower()
            self.names[folded] = (*self.names.get(folded, ()), name)
        self.told: set[bytes] = set()


class Spellings:
    """The indexes of one worker. `ambiguous(folder, taken, other)` is called once for each such name of an index."""

    def __init__(self, ambiguous: Callable[[bytes, bytes, bytes], None]) -> None:
        self._ambiguous = ambiguous
        self._indexes: OrderedDict[bytes, _Index] = OrderedDict()
        self._held = 0

    def find(self, root: bytes, path: bytes, *, chrooted: bool, now: float, now_ns: int) -> bytes | None:
        """A path below the folder `root` (b"": the working directory) that differs from `path` in case only, or None.

        In each folder the spelling as asked counts first, then the first in byte order. `now` is monotonic, `now_ns`
        the time of day. Raises OSError where the server is out of descriptors.
        """
        folder = root
        for part in path.split(b"/"):
            index = self._index(folder or b".", chrooted, now, now_ns)
            spellings = index.names.get(part.lower(), ()) if index else ()
            if index is None or not spellings:
                return None
            if part not in spellings and len(spellings) > 1 and spellings[0] not in index.told:
                index.told.add(spellings[0])
                self._ambiguous(folder or b".", spellings[0], spellings[1])
            found = part if part in spellings else spellings[0]
            folder = folder + b"/" + found if folder else found
        return folder

    def _index(self, folder: bytes, chrooted: bool, now: float, now_ns: int) -> _Index | None:
        try:
            descriptor = open_folder(folder, chrooted=chrooted)
        except OSError as error:
            if error.errno in OURS:
                raise
            return None
        try:
            facts = os.fstat(descriptor)
            identity = facts.st_dev, facts.st_ino, facts.st_mtime_ns, facts.st_ctime_ns
            known = self._indexes.get(folder)
            if known is not None and known.identity == identity and now < known.good_until:
                self._indexes.move_to_end(folder)
                return known
            settled = now_ns - max(facts.st_mtime_ns, facts.st_ctime_ns) > SETTLE_NS
            return self._keep(folder, _Index(identity, descriptor, float("inf") if settled else now + RETRY_S))
        finally:
            os.close(descriptor)

    def _keep(self, folder: bytes, index: _Index) -> _Index:
        if folder in self._indexes:
            before = self._indexes.pop(folder)
            self._held -= len(before.names)
            index.told = {name for name in before.told if name.lower() in index.names}
        self._indexes[folder] = index
        self._held += len(index.names)
        while len(self._indexes) > 1 and (len(self._indexes) > _FOLDERS_MAX or self._held > _NAMES_MAX):
            self._held -= len(self._indexes.popitem(last=False)[1].names)
        return index
