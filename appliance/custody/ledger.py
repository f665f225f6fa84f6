"""The one ledger of the drop box: what is there, what is promised, and whether more may come. Pure.

Invariant: bytes of finished files plus bytes promised to uploads under way never exceed the quota; so parallel uploads
of any number of workers cannot exceed it together. A file is charged at least 4 KiB, so that empty files are not free.
An upload is promised its bytes in steps, ahead of what it has received, and always keeps what it was promised.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from appliance.custody.wire import Reason

SMALLEST_CHARGE = 4096
STEP = 4 << 20  # bytes promised at a time


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes and numbers that the drop box holds at most."""

    max_size: int
    quota: int
    per_client: int
    max_files: int


@dataclass(slots=True)
class Upload:
    """One upload under way. `allowed` is promised, of which `received` is known to be written."""

    name: bytes
    client: str
    allowed: int = 0
    received: int = 0

    @property
    def charge(self) -> int:
        """Bytes held in the ledger."""
        return max(self.allowed, SMALLEST_CHARGE)


@dataclass(slots=True)
class Ledger:
    """Charges by file and by client. Files found at a start belong to nobody known: they count in the total only."""

    limits: Limits
    files: dict[bytes, tuple[int, str]] = field(default_factory=dict)  # name: (charge, client or "")
    uploads: dict[bytes, Upload] = field(default_factory=dict)
    total: int = 0
    clients: dict[str, int] = field(default_factory=dict)

    def reserve(self, name: bytes, client: str, declared: int, free: int) -> Upload | Reason:
        """Begin an upload of `declared` bytes (0: unknown); `free` is what the disk may still take."""
        if name in self.files or name in self.uploads:
            return Reason.EXISTS
        if declared > self.limits.max_size:
            return Reason.SIZE
        if len(self.files) + len(self.uploads) >= self.limits.max_files:
            return Reason.FILES
        upload = Upload(name, client)
        room = self._room(upload, free)
        least = max(declared, SMALLEST_CHARGE)
        if least > min(room.values()):
            return min(room, key=lambda reason: room[reason])
        self._charge(client, SMALLEST_CHARGE)
        self.uploads[name] = upload
        self._promise(upload, min(STEP, self.limits.max_size, *room.values()))
        return upload

    def extend(self, upload: Upload, received: int, free: int) -> Reason | None:
        """Promise a step more than `received`; None when there is now more room than before."""
        upload.received = min(max(received, upload.received), upload.allowed)
        if upload.allowed >= self.limits.max_size:
            return Reason.SIZE
        room = self._room(upload, free)
        wanted = min(upload.received + STEP, self.limits.max_size)
        granted = min(wanted, upload.charge + min(room.values()))
        if granted <= upload.allowed:
            return min(room, key=lambda reason: room[reason])
        self._promise(upload, granted)
        return None

    def commit(self, upload: Upload, size: int) -> None:
        """The upload is a file of `size` bytes now."""
        self.cancel(upload)
        charge = max(size, SMALLEST_CHARGE)
        self.files[upload.name] = (charge, upload.client)
        self._charge(upload.client, charge)

    def cancel(self, upload: Upload) -> None:
        """The upload is over and left nothing."""
        del self.uploads[upload.name]
        self._charge(upload.client, -upload.charge)

    def rebuild(self, found: dict[bytes, int]) -> None:
        """Take the folder's word: names and sizes of the finished files; known files keep their client."""
        known = self.files
        self.files = {
            name: (max(size, SMALLEST_CHARGE), known[name][1] if name in known else "") for name, size in found.items()
        }
        self.total, self.clients = 0, {}
        for charge, client in self.files.values():
            self._charge(client, charge)
        for upload in self.uploads.values():
            self._charge(upload.client, upload.charge)

    def promised(self) -> int:
        """Bytes promised to uploads under way and not yet written, as far as is known."""
        return sum(upload.allowed - upload.received for upload in self.uploads.values())

    def _room(self, upload: Upload, free: int) -> dict[Reason, int]:
        return {
            Reason.QUOTA: self.limits.quota - self.total,
            Reason.CLIENT_QUOTA: self.limits.per_client - self.clients.get(upload.client, 0),
            Reason.DISK: free - self.promised(),
        }

    def _promise(self, upload: Upload, allowed: int) -> None:
        before = upload.charge
        upload.allowed = allowed
        self._charge(upload.client, upload.charge - before)

    def _charge(self, client: str, amount: int) -> None:
        self.total += amount
        if client:
            left = self.clients.get(client, 0) + amount
            if left:
                self.clients[client] = left
            else:
                del self.clients[client]
