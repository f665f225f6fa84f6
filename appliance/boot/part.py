"""A download on its way: it grows under a name of its own, goes on where it was cut off, and gets its final name whole.

Runs in the fetcher, whose working directory is the spool.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Any

_SAMPLE_S = 60.0  # over which a server's rate is measured


class TooLarge(Exception):
    """More bytes come than the manifest allows; the text says how many it allows."""


class TooSlow(Exception):
    """A server gives less than a client can wait for."""


class Part:
    """The file `NAME.part` in the spool, with what is known of its source in `NAME.json`."""

    def __init__(self, name: str, most: int, min_rate: int, moved: Callable[[int, int | None], None]) -> None:
        """Raises OSError."""
        self._name, self._most, self._min_rate, self._moved = name, most, min_rate, moved
        self._fd = os.open(f"{name}.part", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        self.size = os.lseek(self._fd, 0, os.SEEK_END)
        self.whole: int | None = None
        self.known: dict[str, Any] = self._read()
        if not self.known or self.size > most:
            self.begin({})
        self._since, self._then = time.monotonic(), self.size

    def _read(self) -> dict[str, Any]:
        try:
            with open(f"{self._name}.json", "rb") as file:
                found = json.loads(file.read(1 << 16))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def begin(self, known: dict[str, Any]) -> None:
        """Start anew, from a source of which this is known. Raises OSError."""
        os.close(self._fd)
        os.unlink(f"{self._name}.part")
        self._fd = os.open(f"{self._name}.part", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self.size = 0
        self._since, self._then = time.monotonic(), 0
        self.note(known)

    def note(self, known: dict[str, Any]) -> None:
        """What is known of the source: by it a later call sees that it is still the same. Raises OSError."""
        self.known = known
        with open(f"{self._name}.json.new", "wb") as file:
            file.write(json.dumps(known).encode())
        os.rename(f"{self._name}.json.new", f"{self._name}.json")

    def expect(self, whole: int | None) -> None:
        """How large it will be, when the server says so. Raises TooLarge."""
        if whole is not None and whole > self._most:
            raise TooLarge(f"it has {whole} bytes, and max_size is {self._most}")
        self.whole = whole
        self.resume()

    def resume(self) -> None:
        """Bytes are about to come: the rate is measured from now on."""
        self._since, self._then = time.monotonic(), self.size

    def write(self, data: bytes) -> None:
        """The next bytes. Raises OSError, TooLarge and TooSlow."""
        if self.size + len(data) > self._most:
            raise TooLarge(f"it has more than {self._most} bytes, which is max_size")
        rest = memoryview(data)
        while rest:
            count = os.write(self._fd, rest)
            rest, self.size = rest[count:], self.size + count
        self._moved(self.size, self.whole)
        now = time.monotonic()
        if now - self._since >= _SAMPLE_S:
            if self.size - self._then < self._min_rate * (now - self._since):
                raise TooSlow(f"the server gives less than {self._min_rate} bytes a second")
            self.resume()

    def finish(self) -> None:
        """It is whole, and gets its final name. Raises OSError.

        Not for the disk's sake: whoever finds it after a power cut fetches it again, and the store has its own copy.
        """
        os.rename(f"{self._name}.part", f"{self._name}.got")

    def close(self) -> None:
        """Let go of it; what there is can be continued."""
        os.close(self._fd)
