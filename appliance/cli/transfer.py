"""What both clients are asked and what they answer; the values that `probe`, `get` and `put` print."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import BinaryIO, Protocol

from appliance.cli.progress import Moved
from appliance.cli.urls import Target
from appliance.errors import ApplianceError


class TransferError(ApplianceError):
    """The transfer did not happen; `reached` tells whether anything answered at all."""

    def __init__(self, text: str, *, reached: bool) -> None:
        super().__init__(text)
        self.reached = reached


class LocalError(TransferError):
    """Our own file could not be read or written; its cause is the OSError."""


class Local:
    """Our side of a transfer as a stream, so that its failures are never taken for those of the network."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.closed = False

    def read(self, size: int = -1) -> bytes:
        """Raises LocalError."""
        try:
            return self._stream.read(size)
        except OSError as error:
            raise LocalError(f"cannot read the file: {error.strerror}", reached=True) from error

    def write(self, data: bytes) -> int:
        """Raises LocalError."""
        try:
            return self._stream.write(data)
        except OSError as error:
            raise LocalError(f"cannot write the file: {error.strerror}", reached=True) from error

    def close(self) -> None:
        """Ours to close, not the client's."""
        self.closed = True


@dataclass(frozen=True, slots=True)
class Finding:
    """What a probe found: size in bytes when the server tells it, milliseconds until the first byte of the file."""

    size: int | None
    first_byte_ms: float | None
    options: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Moving:
    """A finished transfer: bytes of the file, seconds from the first packet to the last, options that were agreed."""

    bytes: int
    seconds: float
    options: dict[str, str] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Bytes per second."""
        return self.bytes / max(self.seconds, 1e-6)


class Client(Protocol):
    """One protocol's client half. Each method raises TransferError and nothing else."""

    def probe(self, target: Target) -> Finding:
        """Look whether `target` can be fetched, without fetching it."""

    def fetch(self, target: Target, sink: Local, moved: Moved) -> Moving:
        """Fetch `target` into `sink`."""

    def send(self, target: Target, source: Local, size: int | None, moved: Moved) -> Moving:
        """Send `source`, of `size` bytes if that is known, to `target`."""
