"""What the events service and the tables of who is on say, as facts for `Live`. Pure.

The board and the hooks share it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from appliance.board import feed
from appliance.board.live import Live
from appliance.observe import events, live


class Hearing:
    """Feeds one `Live`. What is heard now happened now: `now` is seconds of a clock that nobody sets meanwhile.

    The times of records are of a clock that may jump, as it does on machines without one of their own when they have
    found a time server: an hour forward would make every machine a stalled one, an hour back none for an hour.
    """

    def __init__(self, told: Live) -> None:
        self._live = told
        self._tables: dict[int, tuple[str, memoryview]] = {}  # who is on, of each worker
        self._moved: dict[tuple[str, int], int] = {}  # what each transfer had moved when it was looked at last

    def view(self, number: int, source: str, table: memoryview) -> None:
        """The table of who is on at a worker."""
        self._tables[number] = (source, table)

    def unview(self, number: int) -> None:
        """That worker is gone."""
        self._tables.pop(number, None)

    def take(self, records: Iterable[events.Record], now: float) -> None:
        """What has happened."""
        for record in records:
            fact = feed.fact_of(record)
            if fact is not None:
                self._live.tell(replace(fact, at=now))

    def look(self, now: float) -> None:
        """How far those are who are on; only what has moved is news."""
        moved = {}
        for source, table in self._tables.values():
            for row in live.rows(table):
                key = (source, row.number)
                moved[key] = row.bytes
                fact = feed.fact_of_row(row, source) if self._moved.get(key) != row.bytes else None
                if fact is not None:
                    self._live.tell(replace(fact, at=now))
        self._moved = moved
