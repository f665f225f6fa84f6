"""Who is on with what, now: a table of rows in the sealed memory of one worker, which readers map. Pure.

The table: 64-bit words (magic, rows in use at most, time of the last look, 5 unused), then rows of 320 bytes: nine
words, eight lengths of one byte, 240 bytes of texts. The first word of a row is odd while it is being written and grows
with each writing, so that a reader sees whether what it read belongs together; a row whose number is 0 is free.

Invariants
- Nothing here is called per packet: a row is made when a transfer has lasted a while, and brought up to date a few
  times a second.
- What a reader finds is clamped: a worker that lies shows nonsense in its own rows, and nothing else happens.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple, TypeAlias

from appliance.observe.text import printable

MAGIC = 0x41504C33_00000001
ROWS = 4096
ROW = 320
SIZE = 64 + ROW * ROWS
TEXTS = ("client", "verb", "file", "path", "layer", "release", "mac", "note")
_TEXT_MAX = (46, 8, 100, 40, 8, 24, 17, 40)  # bytes of each; what does not fit any more is cut
_ROOM = 240
_LARGEST = (1 << 63) - 1
_WORDS = ROW // 8
_MAGIC_AT, _USED_AT, _LOOKED_AT = 0, 1, 2
_SEQ, _NUMBER, _STARTED, _AT, _BYTES, _SIZE, _OPTIONS, _RETRANSMITS, _PORT = range(9)
_TRIES = 3
Texts: TypeAlias = tuple[bytes, ...]


class Row(NamedTuple):
    """One transfer or session. `size` is -1 where it is unknown; times are milliseconds since the epoch."""

    number: int
    started_ms: int
    at_ms: int  # when it moved last
    bytes: int
    size: int
    blksize: int
    windowsize: int
    retransmits: int
    port: int
    texts: Texts  # in the order of TEXTS


class Live:
    """The writer's side. `first`: where the numbers begin, different after each start of a worker."""

    def __init__(self, table: memoryview | None = None, first: int = 1) -> None:
        """`table`: SIZE zero bytes; without one the rows are kept for nobody."""
        self._bytes = memoryview(bytearray(SIZE)) if table is None else table
        self._words = self._bytes.cast("Q")
        self._words[_MAGIC_AT] = MAGIC
        self._free: list[int] = []
        self._used = 0
        self._next = max(1, first)

    def begin(
        self,
        now_ms: int,
        started_ms: int,
        texts: tuple[bytes, ...],
        *,
        size: int = -1,
        options: tuple[int, int] = (0, 0),
        port: int = 0,
    ) -> int:
        """Make a row; returns its number, which tells of the row too. When all rows are taken, of none."""
        serial, self._next = self._next, self._next + 1
        if not self._free:
            if self._used >= ROWS:
                return serial * (ROWS + 1) + ROWS
            self._free.append(self._used)
            self._used += 1
            self._words[_USED_AT] = self._used
        row = self._free.pop()
        number = serial * (ROWS + 1) + row
        at, words = 8 + row * _WORDS, self._words
        sequence = words[at] | 1
        words[at] = sequence
        words[at + _NUMBER] = number
        words[at + _STARTED], words[at + _AT] = max(0, started_ms), now_ms
        words[at + _BYTES] = words[at + _RETRANSMITS] = 0
        words[at + _SIZE] = size + 1
        words[at + _OPTIONS] = options[0] << 32 | options[1]
        words[at + _PORT] = port
        self._write(64 + row * ROW + 72, texts)
        words[at] = sequence + 1
        return number

    def _write(self, at: int, texts: tuple[bytes, ...]) -> None:
        room, cut = _ROOM, []
        for text, most in zip(texts, _TEXT_MAX, strict=False):
            cut.append(text[: min(most, room)])
            room -= len(cut[-1])
        cut += [b""] * (len(TEXTS) - len(cut))
        body = bytes(map(len, cut)) + b"".join(cut)
        self._bytes[at : at + len(body)] = body

    def update(self, number: int, now_ms: int, moved: int, retransmits: int) -> None:
        """Bring a row up to date."""
        row = number % (ROWS + 1)
        if row < ROWS:
            at, words = 8 + row * _WORDS, self._words
            if words[at + _BYTES] != moved:
                words[at + _BYTES] = moved
                words[at + _AT] = now_ms
            words[at + _RETRANSMITS] = retransmits

    def name(
        self, number: int, now_ms: int, texts: tuple[bytes, ...], size: int = -1, started_ms: int | None = None
    ) -> None:
        """Write other texts into a row: a session has begun, or ended, a transfer."""
        row = number % (ROWS + 1)
        if row < ROWS:
            at, words = 8 + row * _WORDS, self._words
            words[at] |= 1
            words[at + _AT], words[at + _SIZE] = now_ms, size + 1
            if started_ms is not None:
                words[at + _STARTED], words[at + _BYTES] = max(0, started_ms), 0
            self._write(64 + row * ROW + 72, texts)
            words[at] += 1

    def end(self, number: int) -> None:
        """The row is free."""
        row = number % (ROWS + 1)
        if row < ROWS:
            at = 8 + row * _WORDS
            if self._words[at + _NUMBER] == number:
                self._words[at] |= 1
                self._words[at + _NUMBER] = 0
                self._words[at] += 1
                self._free.append(row)

    def looked(self, now_ms: int) -> None:
        """Every row is up to date as of now."""
        self._words[_LOOKED_AT] = now_ms


def rows(table: memoryview) -> list[Row]:
    """What stands in the table of a worker, which may lie, and writes meanwhile."""
    words = table.cast("Q")
    if len(table) < SIZE or words[_MAGIC_AT] != MAGIC:
        return []
    found = [_row(table, words, row) for row in range(min(words[_USED_AT], ROWS))]
    return [row for row in found if row is not None]


def _row(table: memoryview, words: memoryview, row: int) -> Row | None:
    at, start = 8 + row * _WORDS, 64 + row * ROW
    for _ in range(_TRIES):
        sequence = words[at]
        raw = bytes(table[start : start + ROW])
        if not sequence & 1 and words[at] == sequence:
            return _read(raw)
    return None


_FORM = struct.Struct("=9Q8B")


def _read(raw: bytes) -> Row | None:
    _seq, number, started, at, moved, size, options, retransmits, port, *lengths = _FORM.unpack_from(raw)
    texts, place = [], _FORM.size
    for length in lengths:
        texts.append(raw[place : place + length])  # cut at the end of the row, whatever it says
        place += length
    if not number:
        return None
    return Row(
        number=min(number, _LARGEST),
        started_ms=min(started, _LARGEST),
        at_ms=min(at, _LARGEST),
        bytes=min(moved, _LARGEST),
        size=min(size, _LARGEST) - 1,
        blksize=options >> 32 & 0xFFFFFFFF,
        windowsize=options & 0xFFFFFFFF,
        retransmits=min(retransmits, _LARGEST),
        port=port & 0xFFFF,
        texts=tuple(texts),
    )


def plain(row: Row, source: str, now_ms: int) -> dict[str, Any]:
    """A row for people and programs: docs/STATUS.md documents each field. `source`: service.index of the worker."""
    service, _dot, worker = source.partition(".")
    seconds = max(0, now_ms - row.started_ms) / 1000
    told = {name: printable(text, _ROOM) for name, text in zip(TEXTS, row.texts, strict=True)}
    return {
        "service": service,
        "worker": int(worker) if worker.isdecimal() else None,
        "number": row.number,
        "client": told.pop("client"),
        "port": row.port,
        **told,
        "bytes": row.bytes,
        "size": row.size if row.size >= 0 else None,
        "percent": min(100, round(100 * row.bytes / row.size)) if row.size > 0 else None,
        "seconds": round(seconds, 1),
        "rate": round(row.bytes / seconds) if seconds > 0 else 0,
        "blksize": row.blksize or None,
        "windowsize": row.windowsize or None,
        "retransmits": row.retransmits,
        "silent_s": round(max(0, now_ms - row.at_ms) / 1000, 1),
    }
