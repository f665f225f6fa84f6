"""What a path's round trips say about when silence means a loss (RFC 6298). Pure.

After the smoothed round trip and four times its deviation, but by at least EARLIEST_S later than the round trip: so
long a busy machine stands still. Only what was sent once is measured (Karn), which the caller sees to.
"""

from __future__ import annotations

EARLIEST_S = 0.03


class RoundTrip:
    """Seconds. `shortest_s` and `smoothed_s` are 0 before the first sample."""

    __slots__ = ("_deviation_s", "_earliest_s", "shortest_s", "smoothed_s")

    def __init__(self) -> None:
        self.shortest_s = self.smoothed_s = self._deviation_s = 0.0
        self._earliest_s = EARLIEST_S  # grows for a client that pauses

    def sample(self, elapsed: float) -> None:
        """One round trip, of something that was sent once (RFC 6298 section 2)."""
        if not self.shortest_s or elapsed < self.shortest_s:
            self.shortest_s = elapsed
        if self.smoothed_s:
            self._deviation_s += (abs(elapsed - self.smoothed_s) - self._deviation_s) / 4
            self.smoothed_s += (elapsed - self.smoothed_s) / 8
        else:
            self.smoothed_s, self._deviation_s = elapsed, elapsed / 2

    def pauses(self, late: bool, most_s: float) -> None:
        """The client answered too late for a repeat that was not needed, or in time."""
        self._earliest_s = min(2 * self._earliest_s, most_s) if late else max(self._earliest_s / 2, EARLIEST_S)

    def calm_s(self, most_s: float) -> float:
        """After how long silence means a loss; at most `most_s`."""
        return min(self.smoothed_s + max(4 * self._deviation_s, self._earliest_s), most_s)
