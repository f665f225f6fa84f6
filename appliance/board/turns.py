"""What is told of machines while their boots are watched: the events `machine` that say booted, stalled, failed. Pure.

One service tells them: hooks where there are any, else the board.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from appliance.board.live import Live
from appliance.observe import events

_ESCAPED = re.compile(rb"\\x([0-9a-f]{2})")
_TOLD = ("booted", "stalled", "failed")


class Turns:
    """Remembers how each machine was, and says what has come of it."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._before: dict[str, tuple[int, str]] = {}  # by key: boot, state

    def of(self, frame: dict[str, Any]) -> Iterable[events.Machine]:
        """The events about the rows that a tick has changed. A client of no boot (no loader, no kernel) has none."""
        for row in frame["rows"]:
            now = (row["boot"], row["state"])
            if self._before.get(row["key"]) != now:
                self._before[row["key"]] = now
                if row["state"] in _TOLD and row["marks"]:
                    yield self._event(row)
        for key in frame["gone"]:
            self._before.pop(key, None)

    def _event(self, row: dict[str, Any]) -> events.Machine:
        whole = self._live.story(row["key"]) or row
        steps = whole.get("steps", ())
        return events.Machine(
            ms=max(0, int((row["at"] - row["started"]) * 1000)),
            bytes=sum(step["bytes"] for step in steps),
            machine=_bytes(row["name"]),
            mac=_bytes(row["mac"]),
            client=_bytes(row["address"]),
            state=_bytes(row["state"]),
            file=_bytes(row["file"]),
            detail=_bytes(whole.get("trouble", "")),
            remedy=_bytes(whole.get("remedy", "")),
        )


def _bytes(text: str) -> bytes:
    r"""Printable text as the bytes it was made of (\xNN), so that who shows the event escapes them once, not twice."""
    return _ESCAPED.sub(lambda found: bytes([int(found[1], 16)]), text.encode("ascii", "replace"))
