"""The one ledger of a box: what is there, what is promised, and whether more may come. Pure.

Invariant: bytes of finished files plus bytes promised to uploads under way never exceed the quota; so parallel uploads
of any number of workers cannot exceed it together. A file is charged at least 4 KiB, so that empty files are not free.
An upload is promised its bytes in growing steps, ahead of what it has received, and always keeps what it was promised.
Steps are long where there is much room: each costs a question, and a client that is faster than its answer waits.
A file that is to be replaced stays charged until the other has its name: both are on the disk until then.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from appliance.custody import versions
from appliance.custody.wire import Reason

SMALLEST_CHARGE = 4096
STEP, LARGEST_STEP = 4 << 20, 32 << 20  # bytes promised at a time
_SHARE = 4  # a step is this part of what has come already, so a long file asks seldom; ...
_SPARE = 64  # ... or this part of all the room there is, which holds nobody up
_NOBODY = (0, "")

Mode: TypeAlias = Literal["existing", "create", "replace"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes and numbers that the box holds at most, which names it takes, and how many versions it keeps of each."""

    max_size: int
    quota: int
    per_client: int
    max_files: int
    mode: Mode = "create"
    keep_versions: int = 0


@dataclass(slots=True)
class Upload:
    """One upload under way. `allowed` is promised, of which `received` is known to be written.

    `slots` are the files that there may be more when it is done.
    """

    name: bytes
    client: str
    slots: int = 1
    allowed: int = 0
    received: int = 0

    @property
    def charge(self) -> int:
        """Bytes held in the ledger."""
        return max(self.allowed, SMALLEST_CHARGE)


@dataclass(slots=True)
class Ledger:
    """Charges by file and by client. A file that nobody known uploaded counts in the total only.

    `strangers` are bytes of uploads that the custodian before us still finishes, after a reload.
    """

    limits: Limits
    files: dict[bytes, tuple[int, str]] = field(default_factory=dict)  # name: (charge, client or "")
    uploads: dict[bytes, Upload] = field(default_factory=dict)
    total: int = 0
    clients: dict[str, int] = field(default_factory=dict)
    versions: dict[bytes, list[bytes]] = field(default_factory=dict)  # name: its versions among `files`, oldest first
    strangers: int = 0
    _slots: int = 0

    def assess(self, name: bytes, client: str, declared: int, free: int) -> int | Reason:
        """Bytes that an upload of `declared` bytes (0: unknown) would be allowed at first, or why it is refused.

        `free` is what the disk may still take. Nothing is held.
        """
        if name in self.uploads:
            return Reason.UNDER_WAY
        if name in self.files and self.limits.mode == "create":
            return Reason.EXISTS
        if name not in self.files and self.limits.mode == "existing":
            return Reason.ABSENT
        if declared > self.limits.max_size:
            return Reason.SIZE
        if len(self.files) + self._slots + self._more(name) > self.limits.max_files:
            return Reason.FILES
        room = self._room(client, free)
        if max(declared, SMALLEST_CHARGE) > min(room.values()):
            return min(room, key=lambda reason: room[reason])
        return min(STEP, self.limits.max_size, *room.values())

    def begin(self, name: bytes, client: str, allowed: int) -> Upload:
        """Hold what `assess` has just allowed."""
        upload = Upload(name, client, self._more(name))
        self._charge(client, SMALLEST_CHARGE)
        self._slots += upload.slots
        self.uploads[name] = upload
        self._promise(upload, allowed)
        return upload

    def extend(self, upload: Upload, received: int, free: int) -> Reason | None:
        """Promise a step more than `received`; None when there is now more room than before."""
        upload.received = min(max(received, upload.received), upload.allowed)
        if upload.allowed >= self.limits.max_size:
            return Reason.SIZE
        room = self._room(upload.client, free)
        spare = min(room.values())
        step = max(STEP, min(max(upload.received // _SHARE, spare // _SPARE), LARGEST_STEP))
        wanted = min(upload.received + step, self.limits.max_size)
        granted = min(wanted, upload.charge + spare)
        if granted <= upload.allowed:
            return min(room, key=lambda reason: room[reason])
        self._promise(upload, granted)
        return None

    def settle(self, upload: Upload) -> Reason | None:
        """Why an upload that is complete cannot have its name; what is there may have changed since it began."""
        if upload.name not in self.files and self.limits.mode == "existing":
            return Reason.ABSENT
        if len(self.files) + self._slots - upload.slots + self._more(upload.name) > self.limits.max_files:
            return Reason.FILES
        return None

    def commit(self, upload: Upload, size: int, version: bytes = b"") -> None:
        """The upload is a file of `size` bytes now; what had its name is called `version`, or gone (b"")."""
        self.cancel(upload)
        if version:
            self._put(version, *self.files[upload.name])
        self._put(upload.name, max(size, SMALLEST_CHARGE), upload.client)

    def cancel(self, upload: Upload) -> None:
        """The upload is over and left nothing."""
        del self.uploads[upload.name]
        self._slots -= upload.slots
        self._charge(upload.client, -upload.charge)

    def latest(self, name: bytes) -> bytes:
        """The newest version of a name, b"" without one."""
        known = self.versions.get(name)
        return known[-1] if known else b""

    def surplus(self, name: bytes) -> list[bytes]:
        """The versions of a name that are more than are kept, oldest first."""
        known = self.versions.get(name, [])
        return known[: max(0, len(known) - self.limits.keep_versions)]

    def see(self, name: bytes, size: int | None, client: str = "") -> None:
        """Take the folder's word about one name: a file of `size` bytes, or None for no file."""
        if size is not None:
            self._put(name, max(size, SMALLEST_CHARGE), client or self.files.get(name, _NOBODY)[1])
        elif name in self.files:
            self._take(name)

    def rebuild(self, found: dict[bytes, tuple[int, str]], strangers: int = 0) -> None:
        """Take the folder's word about all: sizes and clients by name. Known files keep a client that it has not."""
        known = self.files
        self.files, self.versions = {}, {}
        self.total, self.clients, self.strangers = 0, {}, strangers
        for name, (size, client) in found.items():  # as _put does, at a fraction of its time: the box may be large
            charge = size if size > SMALLEST_CHARGE else SMALLEST_CHARGE
            owner = client or known.get(name, _NOBODY)[1]
            self.files[name] = (charge, owner)
            self.total += charge
            if owner:
                self.clients[owner] = self.clients.get(owner, 0) + charge
            if base := versions.base(name):
                self.versions.setdefault(base, []).append(name)
        for kept in self.versions.values():
            kept.sort()
        for upload in self.uploads.values():
            self._charge(upload.client, upload.charge)

    def promised(self) -> int:
        """Bytes promised to uploads under way and not yet written, as far as is known."""
        return sum(upload.allowed - upload.received for upload in self.uploads.values())

    def _more(self, name: bytes) -> int:
        """How many files more there are once an upload has this name: a version takes the place of the oldest."""
        kept = self.limits.keep_versions
        return int(name not in self.files or (kept > 0 and len(self.versions.get(name, ())) < kept))

    def _room(self, client: str, free: int) -> dict[Reason, int]:
        return {
            Reason.QUOTA: self.limits.quota - self.total - self.strangers,
            Reason.CLIENT_QUOTA: self.limits.per_client - self.clients.get(client, 0),
            Reason.DISK: free - self.promised(),
        }

    def _promise(self, upload: Upload, allowed: int) -> None:
        before = upload.charge
        upload.allowed = allowed
        self._charge(upload.client, upload.charge - before)

    def _put(self, name: bytes, charge: int, client: str) -> None:
        if name in self.files:
            self._take(name)
        self.files[name] = (charge, client)
        self._charge(client, charge)
        if base := versions.base(name):
            bisect.insort(self.versions.setdefault(base, []), name)

    def _take(self, name: bytes) -> None:
        charge, client = self.files.pop(name)
        self._charge(client, -charge)
        if base := versions.base(name):
            self.versions[base].remove(name)
            if not self.versions[base]:
                del self.versions[base]

    def _charge(self, client: str, amount: int) -> None:
        self.total += amount
        if client:
            left = self.clients.get(client, 0) + amount
            if left:
                self.clients[client] = left
            else:
                del self.clients[client]
