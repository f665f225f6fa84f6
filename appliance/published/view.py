"""What is published, as one worker sees it: the release in force, those that clients are pinned to, the overlay."""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

from appliance.published import sums
from appliance.published.layers import (
    INDEX,
    ONCE,
    PLAIN,
    Layers,
    folder_of,
    is_id,
    is_loader_config,
    overlay_of,
    read_index,
    ways_to,
)
from appliance.published.pins import NUMBER_MASK, Pins

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_INDEX_MAX = 4 << 20  # bytes
_KNOWN_MAX = 256  # releases that are remembered; clients that are pinned to older ones get the one in force


class Published:
    """One for each worker; paths are relative to its working directory. `pins` are its own and those of its siblings.

    A client is pinned to the release of its first request, so that what belongs together comes from one release. Who
    asks for the configuration of a boot loader begins anew: it gets the release in force, and is pinned to that.
    """

    def __init__(self, pins: Pins | None = None) -> None:
        self.current = PLAIN
        self._pins = pins or Pins(0.0)
        self._renew_at = 0.0
        self._serves: dict[bytes, int] = {}  # key of a one-shot boot -> how much of it; of others nothing
        # path below once/ -> key of the one-shot boot it belongs to; read at the first request, which is in the jail
        self._index: dict[bytes, bytes] | None = None
        self._releases: OrderedDict[int, bytes] = OrderedDict()  # their folders, by number as pins tell it

    def born(self, told: dict[str, Any] | None) -> None:
        """What the supervisor has told with the settings: {"known": [[number, id]], "now": [number, id, overlay]}."""
        if told:
            for number, release in told["known"]:
                self._know(number, release)
            self._serves.update({b"%016x" % key: serves for key, serves in told.get("once", [])})
            self.take(*told["now"])

    @property
    def on(self) -> bool:
        """Whether anything is published."""
        return bool(self.current.number)

    def take(self, number: int, release: str, overlay: int) -> None:
        """This release is in force from the next request on, with this overlay."""
        folder = self._know(number, release)
        self.current = Layers(number, overlay_of(overlay) + b"/", folder)
        self._index = None
        self._pins.in_force(number, release, time.monotonic())

    def one_shot(self, key: int, serves: int) -> None:
        """The keeper has said how much of a one-shot boot may be served."""
        name = b"%016x" % key
        self._serves.pop(name, None)
        if serves:
            self._serves[name] = serves
        if self._index is not None:
            self._arrange(self._index)

    def _arrange(self, index: dict[bytes, bytes]) -> None:
        """Where the files of one-shot boots are that may be served now: of one that was loaded, what is read later."""
        most = {path: self._serves.get(key, 0) for path, key in index.items()}
        folder = self.current.overlay + ONCE.encode() + b"/"
        once = {path: folder + path for path, serves in most.items() if serves > is_loader_config(path)}
        self.current = self.current._replace(once=once, ways=ways_to(once))

    def layers(self, client: str, *, fresh: bool) -> Layers:
        """What a client sees now. `fresh`: it asks for the configuration of a boot loader."""
        if self._index is None and self.on:
            self._index = _index(self.current.overlay)
            self._arrange(self._index)
        current = self.current
        if fresh or not current.number:
            return current
        found = self._pins.find(client, time.monotonic())
        if found is None or found[0] == current.number & NUMBER_MASK:
            return current
        return self._pinned(*found) or current

    def _pinned(self, number: int, name: str) -> Layers | None:
        """The layers with another release; None where that is not known, or not there any more."""
        folder = self._releases.get(number)
        if folder is None:
            if not name:
                return None
            folder = self._know(number, name)  # a sibling has heard of it before us
        try:
            os.stat(folder)
        except OSError:
            return None
        return self.current._replace(number=number, release=folder)

    def knows(self, client: str) -> bool:
        """Whether any worker has pinned a client."""
        return self._pins.find(client, time.monotonic(), everywhere=True) is not None

    def pin(self, client: str, number: int) -> None:
        """A client was served from these layers, and is there for certain."""
        if number:
            self._pins.pin(client, number, time.monotonic())

    def keep(self, client: str, number: int) -> None:
        """Something that a client was served from these layers has ended: it stays pinned as it is from now on."""
        if number:
            now = time.monotonic()
            found = self._pins.find(client, now, everywhere=True)
            self._pins.pin(client, found[0] if found else number, now)

    def renew(self, running: Iterable[tuple[str, int]], now: float) -> None:
        """Clients whose transfers run, and the releases of those: they stay pinned, however long a file takes.

        `now`: monotonic seconds. Looked at some times in the length of a pin, whenever it is called.
        """
        if now >= self._renew_at:
            self._renew_at = now + self._pins.length_s / 4
            for client, number in running:
                self.keep(client, number)

    def digest(self, layers: Layers, name: bytes) -> str | None:
        """The SHA-256 of a file of a release in hex, as the publisher has noted it; None where it has not."""
        try:
            descriptor = os.open(layers.release[:-1] + sums.SUFFIX, _READ)
        except OSError:
            return None
        try:
            return sums.find(descriptor, name)
        except OSError:
            return None
        finally:
            os.close(descriptor)

    def _know(self, number: int, release: str) -> bytes:
        if not is_id(release):
            raise ValueError("no name of a release")
        number &= NUMBER_MASK
        self._releases.pop(number, None)
        folder = self._releases[number] = folder_of(release) + b"/"
        if len(self._releases) > _KNOWN_MAX:
            self._releases.popitem(last=False)
        return folder


def _index(overlay: bytes) -> dict[bytes, bytes]:
    """The index of an overlay; empty where nobody is armed."""
    try:
        descriptor = os.open(
            overlay + b"/" + INDEX.encode(), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        )
    except OSError:
        return {}
    try:
        return read_index(os.read(descriptor, _INDEX_MAX))
    except OSError:
        return {}
    finally:
        os.close(descriptor)
