"""What is published, as one worker sees it: the release in force, those that clients are pinned to, the overlay."""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from typing import Any

from appliance.published.layers import PLAIN, Layers, folder_of, is_id, overlay_of
from appliance.published.pins import NUMBER_MASK, Pins

_KNOWN_MAX = 64  # releases that are remembered; clients that are pinned to older ones get the one in force


class Published:
    """One for each worker; paths are relative to its working directory. `pins` are its own and those of its siblings.

    A client is pinned to the release of its first request, so that what belongs together comes from one release. Who
    asks for the configuration of a boot loader begins anew: it gets the release in force, and is pinned to that.
    """

    def __init__(self, pins: Pins | None = None) -> None:
        self.current = PLAIN
        self._pins = pins or Pins(0.0)
        self._releases: OrderedDict[int, bytes] = OrderedDict()  # their folders, by number as pins tell it

    def born(self, told: dict[str, Any] | None) -> None:
        """What the supervisor has told with the settings: {"known": [[number, id]], "now": [number, id, overlay]}."""
        if told:
            for number, release in told["known"]:
                self._know(number, release)
            self.take(*told["now"])

    @property
    def on(self) -> bool:
        """Whether anything is published."""
        return bool(self.current.number)

    def take(self, number: int, release: str, overlay: int) -> None:
        """This release is in force from the next request on, with this overlay."""
        folder = self._know(number, release)
        self.current = Layers(number, overlay_of(overlay) + b"/", folder)
        self._pins.in_force(number, release, time.monotonic())

    def layers(self, client: str, *, fresh: bool) -> Layers:
        """What a client sees now. `fresh`: it asks for the configuration of a boot loader."""
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

    def _know(self, number: int, release: str) -> bytes:
        if not is_id(release):
            raise ValueError("no name of a release")
        number &= NUMBER_MASK
        self._releases.pop(number, None)
        folder = self._releases[number] = folder_of(release) + b"/"
        if len(self._releases) > _KNOWN_MAX:
            self._releases.popitem(last=False)
        return folder
